"""Policy and reward model: loading, parameter spaces, generation, saving.

The only part of the core that knows transformers and peft; what it hands out is a plain
`nn.Module` and a tokenizer. Weights are read from safetensors only, and no remote code is run.
"""

from u2a_core.models.generation import Generator
from u2a_core.models.policy import (
    Policy,
    hide_loading_bars,
    load_policy,
    load_tokenizer,
    save_policy,
)
from u2a_core.models.rewards import RewardModel, load_reward

__all__ = [
    "Generator",
    "Policy",
    "RewardModel",
    "hide_loading_bars",
    "load_policy",
    "load_reward",
    "load_tokenizer",
    "save_policy",
]
