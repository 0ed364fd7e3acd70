"""Unlearning to Align: what each negative sample is worth, and unlearning with those weights.

The public names are loaded when they are first used, so that importing the package is cheap.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from u2a_core.losses import NPO, GradientAscent
    from u2a_core.slopes import exact_slopes, slopes
    from u2a_core.types import Batch, Weights

_HOMES = {
    "Batch": "types",
    "GradientAscent": "losses",
    "NPO": "losses",
    "Weights": "types",
    "exact_slopes": "slopes",
    "slopes": "slopes",
}

__all__ = ["NPO", "Batch", "GradientAscent", "Weights", "exact_slopes", "slopes"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
