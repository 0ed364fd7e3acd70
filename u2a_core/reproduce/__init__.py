"""`u2a reproduce TASK`: the whole experiment in one command, at the paper's scale or a tiny one."""

from u2a_core.reproduce.run import reproduction_settings, run_reproduce
from u2a_core.reproduce.splits import SPLITS, Split, split_pairs

__all__ = ["SPLITS", "Split", "reproduction_settings", "run_reproduce", "split_pairs"]
