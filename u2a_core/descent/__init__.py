"""Runs of steps that move θ: one loop, one rule for the step that is kept, and checkpoints."""

from u2a_core.descent.loop import Step, descend, follow, measure, unlearning
from u2a_core.descent.state import Choice, Ending, UnlearnState, optimizer_of, pack, start, unpack

__all__ = [
    "Choice",
    "Ending",
    "Step",
    "UnlearnState",
    "descend",
    "follow",
    "measure",
    "optimizer_of",
    "pack",
    "start",
    "unlearning",
    "unpack",
]
