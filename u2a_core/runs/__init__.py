"""Runs: a directory each, and the workspace that holds them. Imports no torch: pages read it."""

from u2a_core.runs import reviews, slices
from u2a_core.runs.directory import LAYOUT, Run
from u2a_core.runs.journal import ENDED_FROM_OUTSIDE, State, Status
from u2a_core.runs.provenance import as_found, base_of
from u2a_core.runs.workspace import Workspace, demo_assets

__all__ = [
    "ENDED_FROM_OUTSIDE", "LAYOUT", "Run", "State", "Status", "Workspace", "as_found", "base_of",
    "demo_assets", "reviews", "slices",
]  # fmt: skip
