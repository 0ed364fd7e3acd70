"""A prompt of one's own, tried on two models: requests in files, answered by one process.

The process keeps the models in memory between prompts, writes replies word by word, gives the
device back when a job queues, and ends when nothing was asked for a while. Imports no torch: pages
read it.
"""

from u2a_core.tryout.desk import Desk, Outcome, Reply, Side, Try, launch

__all__ = ["Desk", "Outcome", "Reply", "Side", "Try", "launch"]
