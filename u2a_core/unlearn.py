"""The inner problem: one step of θ under given weights ω (Eqs. 2, 3, 6).

    min_θ  Σ_i ω_i ℓ_i(θ) + λ_r·NLL_retain(θ) + λ‖θ − θ₀‖²

Uniform weights make the baselines GA, GradDiff and NPO. `descent` takes the steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from u2a_core import params
from u2a_core.config import InnerSettings
from u2a_core.errors import NumericalError
from u2a_core.losses import (
    NegativeLogLikelihood,
    response_log_probs,
    weighted_loss,
)
from u2a_core.types import (
    Batch,
    PerSampleLoss,
    TokenLogProbs,
    Weights,
)

if TYPE_CHECKING:
    from u2a_core.types import Parameters

_SEEN = 4096
"""Weights of each tensor that are looked at before and after a step."""


@dataclass(frozen=True)
class InnerProblem:
    """What is minimized over θ once ω is given.

    Attributes:
        model: the policy; its trainable parameters are θ, and are moved in place.
        batches: the negative samples.
        loss: ℓ_i.
        settings: step size, budget, λ, λ_r and the guards.
        origin: θ₀.
        retain: batches of the retain set; watched by the guards, and trained on where
            `settings.retain_weight` is not 0.
        vocabulary: size V; ln V is the NLL of a uniform guess, the default collapse bound.
    """

    model: nn.Module
    batches: Sequence[Batch]
    loss: PerSampleLoss
    settings: InnerSettings
    origin: Parameters
    retain: Sequence[Batch] = ()
    vocabulary: int = 0

    @property
    def size(self) -> int:
        """n, the number of negative samples."""
        return sum(len(batch.index) for batch in self.batches)

    @property
    def retain_weight(self) -> float:
        """λ_r; 0 where there is no retain term."""
        return self.settings.retain_weight


def step_seed(seed: int, step: int) -> int:
    """The seed of whatever is drawn at a step: the same for every arm that is compared."""
    return seed * 1_000_003 + step


def inner_step(
    problem: InnerProblem,
    weights: Weights,
    optimizer: torch.optim.Optimizer,
    *,
    step: int,
    seed: int,
) -> dict[str, float]:
    """One gradient step on the inner problem, in place.

    Returns:
        nll: weighted mean NLL of the negatives before the step; loss: Σω_iℓ_i; retain: retain
        NLL where it is trained on; gradient, rounded_away: as `apply_gradient` gives them.

    Raises:
        NumericalError: if the gradient is not finite.
    """
    theta = params.trainable(problem.model)
    drawn, factor = _minibatch(problem, weights, step_seed(seed, step))
    totals, gradient = _loss_gradient(problem, weights, drawn, factor)
    if problem.settings.lam:
        for name, p in theta.items():
            gradient[name].add_(p.detach() - problem.origin[name], alpha=2 * problem.settings.lam)
    return totals | apply_gradient(problem.settings, optimizer, theta, gradient)


def hessian_product(problem: InnerProblem, weights: Weights) -> Callable[[Parameters], Parameters]:
    """V ↦ (Σω_i∇²ℓ_i + λ_r∇²NLL_retain)v at the model's θ: the inner Hessian but for its 2λI.

    By the central difference of two gradients, so under any attention kernel; θ is put back after
    every product.
    """
    theta = params.trainable(problem.model)
    here = params.snapshot(theta)

    def gradient_at(point: Parameters) -> Parameters:
        params.load(problem.model, point)
        return _loss_gradient(problem, weights, weights.support, 1.0)[1]

    def product(vector: Parameters) -> Parameters:
        try:
            return params.hessian_vector_product(gradient_at, here, vector)
        finally:
            params.load(problem.model, here)

    return product


def _loss_gradient(
    problem: InnerProblem, weights: Weights, drawn: Bool[Tensor, " n"], factor: float
) -> tuple[dict[str, float], Parameters]:
    """Σω_iℓ_i + λ_r·NLL_retain: its terms, and its gradient over the trainable parameters."""
    theta = params.trainable(problem.model)
    totals = {"loss": 0.0, "nll": 0.0}
    gradient: Parameters | None = None
    for batch in problem.batches:
        keep = drawn[batch.index.cpu()]
        if not bool(keep.any()):
            continue
        rows = batch.select(keep)
        log_probs = response_log_probs(problem.model, rows)
        loss = factor * weighted_loss(problem.loss(log_probs), weights.values, rows.index)
        gradient = params.accumulate(gradient, params.gradient(loss, theta))
        totals["loss"] += float(loss.detach())
        totals["nll"] += factor * _weighted_nll(log_probs, weights, rows)
    assert gradient is not None
    if problem.retain_weight:
        totals["retain"] = _add_retain(problem, theta, gradient)
    return totals, gradient


def _weighted_nll(log_probs: TokenLogProbs, weights: Weights, rows: Batch) -> float:
    return float(weighted_loss(-log_probs.means().detach(), weights.values, rows.index))


def _minibatch(
    problem: InnerProblem, weights: Weights, seed: int
) -> tuple[Bool[Tensor, " n"], float]:
    """The samples of this step, and the factor that keeps the expected gradient."""
    support = weights.support
    chosen = support.nonzero().squeeze(1)
    size = problem.settings.samples_per_step
    if size == 0 or size >= len(chosen):
        return support, 1.0
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(chosen), generator=generator)[:size]
    drawn = torch.zeros_like(support).index_fill(0, chosen[order], True)
    return drawn, len(chosen) / size


def _add_retain(problem: InnerProblem, theta: Parameters, gradient: Parameters) -> float:
    """Adds λ_r·∇NLL_retain to the gradient; returns the retain NLL."""
    count = sum(len(batch.index) for batch in problem.retain)
    total = 0.0
    for batch in problem.retain:
        nll = NegativeLogLikelihood()(response_log_probs(problem.model, batch)).sum() / count
        part = params.gradient(problem.retain_weight * nll, theta)
        params.accumulate(gradient, part)
        total += float(nll.detach())
    return total


def apply_gradient(
    settings: InnerSettings,
    optimizer: torch.optim.Optimizer,
    theta: Parameters,
    gradient: Parameters,
    *,
    rate: str = "inner.learning_rate",
) -> dict[str, float]:
    """Clips to `max_grad_norm` and takes the optimizer's step.

    Returns:
        gradient: norm before clipping; rounded_away: of weights in 16 bits, where there are some,
        the share that has a gradient and stands where it stood.

    Raises:
        NumericalError: if the gradient is not finite; names the setting `rate` to lower.
    """
    length = params.norm(gradient)
    if not math.isfinite(length):
        raise NumericalError(f"The gradient must be finite; got norm {length}. Lower {rate}.")
    small = {name: p.detach() for name, p in theta.items() if p.dtype.itemsize < 4}
    seen = {name: p.flatten()[:_SEEN].clone() for name, p in small.items()}
    factor = min(1.0, settings.max_grad_norm / max(length, 1e-30))
    for name, p in theta.items():
        p.grad = gradient[name] * factor
    optimizer.step()
    optimizer.zero_grad()
    return {"gradient": length, **_rounded_away(seen, theta, gradient)}


def _rounded_away(seen: Parameters, theta: Parameters, gradient: Parameters) -> dict[str, float]:
    """How many of the weights that were looked at before the step should have moved, and did not.

    A step below half the distance to the next number of bfloat16, 0.2 to 0.4 % of a weight, is
    lost.
    """
    due = stood = 0
    for name, before in seen.items():
        asked = gradient[name].flatten()[:_SEEN] != 0
        due += int(asked.sum())
        stood += int((asked & (theta[name].detach().flatten()[:_SEEN] == before)).sum())
    return {"rounded_away": stood / due} if due else {}
