"""The alignment objective J(θ), maximized: its value with an interval, and its gradient.

`SampledReward` is Eq. 1 with a leave-one-out baseline (RLOO); `CandidateReward` its expectation
among given replies, and `PreferenceObjective` the mean log-sigmoid margin on pairs: the two are
smooth, without sampling. All are frozen values; the model comes as an argument.

A gradient comes in parts, one for each part of the prompts: their sum is ∇J, their spread its
standard error.
"""

from u2a_core.objectives.protocol import Objective, gradient_parts, mean_estimate
from u2a_core.objectives.sampled import SampledReward, leave_one_out_advantages, score
from u2a_core.objectives.smooth import CandidateReward, PreferenceObjective, SmoothObjective

__all__ = [
    "CandidateReward",
    "Objective",
    "PreferenceObjective",
    "SampledReward",
    "SmoothObjective",
    "gradient_parts",
    "leave_one_out_advantages",
    "mean_estimate",
    "score",
]
