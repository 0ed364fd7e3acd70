"""Which pairs, prompts or replies a step takes: epoch after epoch, without replacement."""

from __future__ import annotations

import torch

from u2a_core.unlearn import step_seed


def drawn(count: int, size: int, *, step: int, seed: int) -> list[int]:
    """The members of a step's minibatch, by rising number.

    Depends on the step alone, so that a resumed run draws what an uninterrupted one would.

    Args:
        count: members in all.
        size: of a minibatch; 0, or more than there are, takes all.
        step: counted from 0. An epoch is ⌈count/size⌉ steps, the last of them perhaps smaller.
        seed: of the orders; every epoch has its own.
    """
    if size == 0 or size >= count:
        return list(range(count))
    epoch, place = divmod(step, -(-count // size))
    generator = torch.Generator().manual_seed(step_seed(seed, epoch))
    order = torch.randperm(count, generator=generator).tolist()
    return sorted(order[place * size : (place + 1) * size])
