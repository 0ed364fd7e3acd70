"""Plotly figures from the tables of runs: for the pages and for reports. No torch, no Streamlit.

Blue and positive: unlearning the sample helps; orange and negative: it hurts. A prediction is a
line, a measurement a marker with its 95 % interval. Every function takes the `mode`, light or dark.
"""

from u2a_core.figures.data import length_histogram, set_sizes
from u2a_core.figures.evidence import (
    ARMS,
    AXES,
    ablation_curves,
    cost_against_reward,
    paired_differences,
    sensitivity,
)
from u2a_core.figures.impact import calibration, impact_curves
from u2a_core.figures.memory import memory_bars
from u2a_core.figures.runs import (
    effective_samples,
    loss_curves,
    objective_curves,
    rewards,
    weight_path,
)
from u2a_core.figures.samples import (
    MOST_MARKERS,
    gain_histogram,
    rank_plot,
    sample_weights,
    uncertain,
)
from u2a_core.figures.style import Mode

__all__ = [
    "ARMS",
    "AXES",
    "MOST_MARKERS",
    "Mode",
    "ablation_curves",
    "calibration",
    "cost_against_reward",
    "effective_samples",
    "gain_histogram",
    "impact_curves",
    "length_histogram",
    "loss_curves",
    "memory_bars",
    "objective_curves",
    "paired_differences",
    "rank_plot",
    "rewards",
    "sample_weights",
    "sensitivity",
    "set_sizes",
    "uncertain",
    "weight_path",
]
