"""What an objective is: J with an interval, and ∇J in parts of its prompts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Int
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

    def value_and_gradient(self, model: nn.Module, *, seed: int) -> tuple[Estimate, Parameters]:
        """J and ∇J over the trainable parameters, from the same samples."""
        estimate, (gradient,) = self.value_and_parts(model, seed=seed, splits=1)
        return estimate, gradient


def mean_estimate(values: Sequence[float] | np.ndarray) -> Estimate:
    """The mean of independent values with its normal 95 % interval."""
    array = np.asarray(values, dtype=np.float64)
    count = len(array)
    half = float(1.96 * array.std(ddof=1) / math.sqrt(count)) if count > 1 else math.inf
    mean = float(array.mean())
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
