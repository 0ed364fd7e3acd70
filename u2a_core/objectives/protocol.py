"""What an objective is: J with an interval, and ∇J in parts of its prompts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from u2a_core import params
from u2a_core.types import Batch, Estimate

if TYPE_CHECKING:
    from u2a_core.types import Parameters


@runtime_checkable
class Objective(Protocol):
    """J(θ) and ∇J(θ)."""

    def value(self, model: nn.Module, *, seed: int) -> Estimate:
        """J with its interval."""
        ...

    def value_and_parts(
        self, model: nn.Module, *, seed: int, splits: int
    ) -> tuple[Estimate, list[Parameters]]:
        """J, and for each of `splits` parts of the prompts, or one a prompt, its share of ∇J."""
        ...

    def shares(self, splits: int) -> Float[Tensor, " splits"]:
        """The share of the prompts, or pairs, that each of the parts has; float64."""
        ...

    def value_and_gradient(self, model: nn.Module, *, seed: int) -> tuple[Estimate, Parameters]:
        """J and ∇J over the trainable parameters, from the same samples."""
        estimate, (gradient,) = self.value_and_parts(model, seed=seed, splits=1)
        return estimate, gradient


def mean_estimate(
    values: Sequence[float] | np.ndarray, group_of: np.ndarray | None = None
) -> Estimate:
    """The mean of values with its normal 95 % interval; n is the number of groups.

    Groups are independent, values within one are not: the standard error is the one that is
    robust to clusters, √(G/(G−1)·Σ_g(Σ_{i∈g} x_i − x̄)²)/N (Liang and Zeger 1986), which is s/√N
    where each value is a group.

    Args:
        values: (N,).
        group_of: (N,) the group of each value, from 0; None: each its own.
    """
    array = np.asarray(values, dtype=np.float64)
    mean = float(array.mean())
    sums = np.bincount(np.arange(len(array)) if group_of is None else group_of, array - mean)
    count = len(sums)
    factor = count / (count - 1) if count > 1 else math.inf
    half = 1.96 * math.sqrt(factor * float(np.square(sums).sum())) / len(array)
    half = half if count > 1 else math.inf
    return Estimate(mean=mean, low=mean - half, high=mean + half, n=count)


def gradient_parts(
    model: nn.Module,
    batches: Sequence[Batch],
    part: Int[Tensor, " rows"],
    splits: int,
    value: Callable[[Batch], Tensor],
) -> list[Parameters]:
    """∇Σ value(rows), apart for the rows of each part; rows of part −1 are left out."""
    theta = params.trainable(model)
    parts = []
    for number in range(splits):
        total: Parameters | None = None
        for batch in batches:
            keep = part[batch.index.cpu()] == number
            if bool(keep.any()):
                piece = params.gradient(value(batch.select(keep)), theta)
                total = params.accumulate(total, piece)
        parts.append(total or {name: torch.zeros_like(p) for name, p in theta.items()})
    return parts
