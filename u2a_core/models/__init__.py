"""Policy and reward model: loading, parameter spaces, generation, saving.

The only part of the core that knows transformers and peft; what it hands out is a plain
`nn.Module` and a tokenizer. Weights are read from safetensors only, and a model's own code
is run only where model.trust_remote_code says so.
"""

from u2a_core.models.encoder import SentenceEncoder
from u2a_core.models.generation import Generator
from u2a_core.models.judging import HarmClassifier, JudgeModel, load_local_judge
from u2a_core.models.loading import load_tokenizer
from u2a_core.models.policy import (
    Policy,
    context_length,
    hide_loading_bars,
    load_policy,
    save_policy,
    use_threads,
)
from u2a_core.models.rendering import Rendered, render
from u2a_core.models.rewards import load_function, load_reward
from u2a_core.models.saved import load_saved, save_merged
from u2a_core.models.scorer import RewardModel
from u2a_core.models.templates import chat_tokenizer

__all__ = [
    "Generator",
    "HarmClassifier",
    "JudgeModel",
    "Policy",
    "Rendered",
    "RewardModel",
    "SentenceEncoder",
    "chat_tokenizer",
    "context_length",
    "hide_loading_bars",
    "load_function",
    "load_local_judge",
    "load_policy",
    "load_reward",
    "load_saved",
    "load_tokenizer",
    "render",
    "save_merged",
    "save_policy",
    "use_threads",
]
