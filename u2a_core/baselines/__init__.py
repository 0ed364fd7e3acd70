"""What unlearning is compared with: DPO, PPO and supervised fine-tuning, each as a step of θ.

`descent.descend` takes the steps, so the budget, the rule for the step that is kept, the guards,
checkpoints and the ledger are those of unlearning. Own implementations on torch; what they leave
out of the usual ones is said in each module.
"""

from u2a_core.baselines.dpo import dpo_step, preference_loss
from u2a_core.baselines.drawing import drawn
from u2a_core.baselines.ppo import (
    clipped_surrogate,
    generalized_advantages,
    ppo_step,
    shaped_rewards,
    value_head,
)
from u2a_core.baselines.supervised import fine_tuning_step, without

__all__ = [
    "clipped_surrogate",
    "dpo_step",
    "drawn",
    "fine_tuning_step",
    "generalized_advantages",
    "ppo_step",
    "preference_loss",
    "shaped_rewards",
    "value_head",
    "without",
]
