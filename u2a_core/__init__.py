"""Unlearning to Align: what each negative sample is worth, and unlearning with those weights.

The public names are loaded when they are first used, so that importing the package is cheap.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from u2a_core.config import Settings, load_settings
    from u2a_core.curvature import ConjugateGradient, Ridge
    from u2a_core.directional import exact_slopes, slopes
    from u2a_core.experiment import Experiment, load_experiment
    from u2a_core.impact import ImpactCurves
    from u2a_core.losses import NPO, GradientAscent
    from u2a_core.proximal import solve_proximal
    from u2a_core.types import Batch, Weights
    from u2a_core.weights import uniform

_HOMES = {
    "NPO": "losses",
    "Batch": "types",
    "ConjugateGradient": "curvature",
    "Experiment": "experiment",
    "GradientAscent": "losses",
    "ImpactCurves": "impact",
    "Ridge": "curvature",
    "Settings": "config",
    "Weights": "types",
    "exact_slopes": "directional",
    "load_experiment": "experiment",
    "load_settings": "config",
    "slopes": "directional",
    "solve_proximal": "proximal",
    "uniform": "weights",
}

__all__ = [
    "NPO",
    "Batch",
    "ConjugateGradient",
    "Experiment",
    "GradientAscent",
    "ImpactCurves",
    "Ridge",
    "Settings",
    "Weights",
    "exact_slopes",
    "load_experiment",
    "load_settings",
    "slopes",
    "solve_proximal",
    "uniform",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
