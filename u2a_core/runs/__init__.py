"""Runs: a directory each, and the workspace that holds them. Imports no torch: pages read it."""

from u2a_core.runs import reviews, slices
from u2a_core.runs.directory import LAYOUT, Run
from u2a_core.runs.journal import State, Status
from u2a_core.runs.workspace import Workspace, demo_assets

__all__ = ["LAYOUT", "Run", "State", "Status", "Workspace", "demo_assets", "reviews", "slices"]
