"""The inner problem of one sample alone, solved to stationarity: what an impact curve stands on.

    θ*(ω) = argmin ω·ℓ_i(θ) + λ‖θ − θ₀‖²        (Eq. 3 with ω on one sample, L_R proximal)

by its fixed point δ ← −c·∇ℓ_i(θ₀ + δ), c = ω/2λ, for many samples at once: their parameters are
stacked and their gradients taken by `torch.func` in one pass. δ is stored, not θ₀ + δ, because a
small δ would drown in the rounding of θ₀.

While the steps shrink (a contraction below 1) the point they lead to is a minimum, and the only
one near; where they grow, none is certified: a curve's validity limit, and the residual says so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from u2a_core import params
from u2a_core.errors import ConfigError
from u2a_core.losses import IGNORED, response_log_probs
from u2a_core.types import Batch, TokenLogProbs
from u2a_core.unlearn import InnerProblem

if TYPE_CHECKING:
    from u2a_core.types import Parameters

VALID = 1e-2
"""Residual above which a point is no solution: the validity limit of a curve."""
_TOLERANCE = 1e-5
_MAX_STEPS = 100
_GROWN = 2
"""Growths of the residual at which an iteration is given up."""
_NOISE = 1e-4
"""Residual under which successive steps are rounding, and say nothing of the contraction."""
_STACK_BYTES = 2**29
"""Memory of the stacked parameters, of which about six copies are alive."""
_MOST_LANES = 16


@dataclass(frozen=True)
class ProximalSolve:
    """θ*(ω) − θ₀ of m samples, a row each, and how far to trust it.

    Attributes:
        shift: δ = θ* − θ₀, stacked.
        gradient: ∇ℓ_i at θ*, stacked.
        residual: ‖ω∇ℓ(θ*) + 2λδ‖ / ‖ω∇ℓ(θ₀)‖.
        contraction: the largest ratio of successive fixed-point steps; above 1 they grow. NaN
            where the first step was the solution to rounding.
        steps: gradients used.
        converged: whether the residual is within `VALID` and the steps were shrinking.
    """

    shift: Parameters
    gradient: Parameters
    residual: Float[Tensor, " m"]
    contraction: Float[Tensor, " m"]
    steps: Int[Tensor, " m"]
    converged: Bool[Tensor, " m"]


def rows_of(problem: InnerProblem, samples: list[int]) -> Batch:
    """The given samples as one batch, in the given order."""
    width = max(batch.input_ids.shape[1] for batch in problem.batches)
    fill = {"input_ids": 0, "attention_mask": 0, "labels": IGNORED}
    parts = {
        name: torch.cat(
            [
                F.pad(getattr(b, name), (0, width - b.input_ids.shape[1]), value=value)
                for b in problem.batches
            ]
        )
        for name, value in fill.items()
    }
    index = torch.cat([batch.index for batch in problem.batches])
    place = torch.argsort(index)[torch.tensor(samples, device=index.device)]
    longest = int(parts["attention_mask"][place].sum(1).max())
    return Batch(
        **{name: part[place, :longest] for name, part in parts.items()}, index=index[place]
    )


def lanes(problem: InnerProblem) -> int:
    """How many samples are solved together: as many as memory and `_MOST_LANES` allow."""
    size = sum(tensor.numel() * tensor.element_size() for tensor in problem.origin.values())
    return max(1, min(_MOST_LANES, _STACK_BYTES // max(1, size)))


def sample_gradients(problem: InnerProblem, rows: Batch, shift: Parameters) -> Parameters:
    """∇ℓ_i at θ₀ + δ_i for every row, stacked; the model itself stays at θ₀.

    A single row goes through plain autograd, under any attention kernel.
    """
    if len(rows.index) == 1:
        theta = params.trainable(problem.model)
        params.load(problem.model, moved(problem.origin, shift, 0))
        loss = problem.loss(response_log_probs(problem.model, rows)).sum()
        found = params.gradient(loss, theta)
        params.load(problem.model, problem.origin)
        return {name: tensor[None] for name, tensor in found.items()}

    with sdpa_kernel(SDPBackend.MATH):  # the fused kernels have no batching rule
        gradients = torch.func.vmap(torch.func.grad(partial(_loss_at, problem)))(
            shift, rows.input_ids, rows.labels, rows.index
        )
    return {name: tensor.detach() for name, tensor in gradients.items()}


def _loss_at(
    problem: InnerProblem,
    delta: Parameters,
    ids: Int[Tensor, " t"],
    labels: Int[Tensor, " t"],
    i: Int[Tensor, ""],
) -> Float[Tensor, ""]:
    """ℓ of one row at θ₀ + δ, at every position of its padded width: a function to be vmapped."""
    point = {name: problem.origin[name] + tensor for name, tensor in delta.items()}
    inputs = {"input_ids": ids[None], "use_cache": False}
    output = torch.func.functional_call(problem.model, point, (), inputs)
    targets = labels[1:]
    known = targets != IGNORED
    logits = output.logits[0, :-1]
    precise = logits.to(torch.promote_types(logits.dtype, torch.float32))
    values = -F.cross_entropy(precise, targets.clamp_min(0), reduction="none")
    log_probs = TokenLogProbs(
        values=torch.where(known, values, 0.0),
        rows=torch.zeros_like(targets),
        counts=known.sum()[None],
        index=i[None],
    )
    return problem.loss(log_probs)[0]


def solve_proximal(
    problem: InnerProblem,
    rows: Batch,
    *,
    omega: float,
    lam: float,
    start: Parameters | None = None,
    max_steps: int = _MAX_STEPS,
) -> ProximalSolve:
    """Solves the inner problem of every row's sample alone.

    Args:
        problem: model at θ₀, and the loss; its own settings are not used.
        rows: the samples, a row each.
        omega: ω, the sample's weight.
        lam: λ of the proximal term.
        start: δ to begin from, stacked; default 0.
        max_steps: gradients at most.

    Returns:
        δ and its residual; a row without a minimum, or not there in time, is not `converged`.

    Raises:
        ConfigError: if λ is not positive: without the proximal term there is no minimum.
    """
    if not lam > 0:
        raise ConfigError(
            f"λ of an impact curve must be positive; got {lam}. Set impact.lam to 1, as Eq. 4 has."
        )
    count, rate = len(rows.index), omega / (2 * lam)
    found = _begun(problem, rows, start)
    scale = rate * _norms(found.gradient).clamp_min(1e-30)
    fixed_point = _FixedPoint(problem, rows, rate, scale, max_steps)
    active = torch.ones(count, dtype=torch.bool)
    grown = torch.zeros(count, dtype=torch.long)
    while bool(active.any()):
        found, grown, active = fixed_point.step(found, grown, active)
    near = (found.residual <= VALID) & ~(found.contraction >= 1)
    return replace(found, converged=near | (found.residual <= _TOLERANCE))


def _begun(problem: InnerProblem, rows: Batch, start: Parameters | None) -> ProximalSolve:
    """Before the first step: ∇ℓ at θ₀, and the δ to begin from."""
    count = len(rows.index)
    zero = {name: t.new_zeros((count, *t.shape)) for name, t in problem.origin.items()}
    unknown = torch.full((count,), math.nan, dtype=torch.float64)
    return ProximalSolve(
        shift=start or zero,
        gradient=sample_gradients(problem, rows, zero),
        residual=torch.full_like(unknown, math.inf),
        contraction=unknown,
        steps=torch.zeros(count, dtype=torch.long),
        converged=torch.zeros(count, dtype=torch.bool),
    )


@dataclass(frozen=True)
class _FixedPoint:
    """δ ← −c∇ℓ(θ₀ + δ), whole steps only: where they do not shrink, no minimum is certified."""

    problem: InnerProblem
    rows: Batch
    rate: float
    scale: Float[Tensor, " m"]
    max_steps: int

    def step(
        self, found: ProximalSolve, grown: Int[Tensor, " m"], active: Bool[Tensor, " m"]
    ) -> tuple[ProximalSolve, Int[Tensor, " m"], Bool[Tensor, " m"]]:
        """One step of the active rows: the solve so far, its growths, and who goes on."""
        place = active.nonzero().squeeze(1)
        on = place.to(self.rows.index.device)
        some = Batch(**{name: tensor[on] for name, tensor in vars(self.rows).items()})
        shift = {name: tensor[on] for name, tensor in found.shift.items()}
        gradient = sample_gradients(self.problem, some, shift)
        off = params.axpy(self.rate, gradient, shift)  # zero at the solution
        residual = (_norms(off) / self.scale[place]).nan_to_num(nan=math.inf)
        before = found.residual[place]
        telling = (before < math.inf) & (before > _NOISE)
        ratio = torch.where(telling, residual / before, math.nan)
        count = grown[place] + (residual > before)
        steps = found.steps[place] + 1
        ended = (residual <= _TOLERANCE) | (count >= _GROWN) | (steps >= self.max_steps)
        ended |= ~torch.isfinite(residual)
        go = torch.where(ended, 0.0, 1.0)
        there = {name: d - _beside(go, off[name]) * off[name] for name, d in shift.items()}
        new = replace(
            found,
            shift=_put(found.shift, on, there),
            gradient=_put(found.gradient, on, gradient),
            residual=found.residual.index_copy(0, place, residual),
            contraction=found.contraction.index_copy(
                0, place, torch.fmax(found.contraction[place], ratio)
            ),
            steps=found.steps.index_copy(0, place, steps),
        )
        return new, grown.index_copy(0, place, count), active.index_copy(0, place, ~ended)


def moved(origin: Parameters, shift: Parameters, row: int) -> Parameters:
    """θ₀ + δ of one row."""
    return {name: tensor + shift[name][row] for name, tensor in origin.items()}


def _norms(stacked: Parameters) -> Float[Tensor, " m"]:
    squares = [tensor.flatten(1).norm(dim=1).cpu().double() ** 2 for tensor in stacked.values()]
    return torch.stack(squares).sum(0).sqrt()


def _put(stacked: Parameters, place: Tensor, rows: Parameters) -> Parameters:
    return {name: tensor.index_copy(0, place, rows[name]) for name, tensor in stacked.items()}


def _beside(factor: Float[Tensor, " m"], tensor: Tensor) -> Tensor:
    """A number a row, in the shape that multiplies a stacked tensor."""
    return factor.to(tensor).view(-1, *[1] * (tensor.dim() - 1))
