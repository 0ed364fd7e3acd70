"""What is reported of a model, each figure with n, n_valid and a 95 % interval. No torch in here.

The unit of resampling is the prompt; missing values are left out and counted, never taken for 0.
`METRICS` says what each metric means and which way is better.
"""

from u2a_core.metrics.catalogue import METRICS, Metric
from u2a_core.metrics.estimates import (
    auc,
    bootstrap_mean,
    over_seeds,
    paired_difference,
    reward_estimate,
    share,
)
from u2a_core.metrics.judged import (
    SCALES,
    Criterion,
    attack_success,
    both_orders,
    length_controlled,
)
from u2a_core.metrics.likelihood import (
    mean_log_probs,
    membership,
    min_k_log_probs,
    perplexity,
    prefers_right,
)
from u2a_core.metrics.measured import (
    Measurement,
    measured,
    of_estimate,
    paired_over_prompts,
    per_prompt,
    share_at_least,
    unmeasured,
)
from u2a_core.metrics.texts import distinct, refused, words

__all__ = [
    "METRICS",
    "SCALES",
    "Criterion",
    "Measurement",
    "Metric",
    "attack_success",
    "auc",
    "bootstrap_mean",
    "both_orders",
    "distinct",
    "length_controlled",
    "mean_log_probs",
    "measured",
    "membership",
    "min_k_log_probs",
    "of_estimate",
    "over_seeds",
    "paired_difference",
    "paired_over_prompts",
    "per_prompt",
    "perplexity",
    "prefers_right",
    "refused",
    "reward_estimate",
    "share",
    "share_at_least",
    "unmeasured",
    "words",
]
