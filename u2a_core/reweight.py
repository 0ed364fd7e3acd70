"""The outer problem: the weights follow the marginal gains (Eqs. 5, 8-10).

Step 1 scores every negative sample at θ*(ω), Step 2 moves ω by mirror descent; the inner problem
carries the model along. Both repeat each round, because a selection made once at θ₀ misses the
samples whose gain turns positive only after others have been unlearned.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from u2a_core import params
from u2a_core.config import OuterSettings
from u2a_core.curvature import ConjugateGradient, Ridge, implied_lam
from u2a_core.descent import Choice, UnlearnState
from u2a_core.directional import identity_error, slopes_along
from u2a_core.errors import NumericalError
from u2a_core.objectives import Objective
from u2a_core.types import Batch, Estimate, GainReport, Solve, Weights
from u2a_core.unlearn import InnerProblem, hessian_product, step_seed
from u2a_core.weights import enter, exponentiated_gradient, marginal_gain, prune, top_k

if TYPE_CHECKING:
    from u2a_core.types import Parameters

_IDENTITY_TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-8}
_SOLVE_TOLERANCE = {torch.float64: 1e-9}
"""Relative residual asked of conjugate gradients; else 5e-3, the products' own error in float32."""


@dataclass(frozen=True)
class Scorer:
    """Scores all negative samples at the model's current θ (Step 1).

    Attributes:
        problem: the inner problem, whose λ (or budget) sets the curvature 2λ.
        objective: J.
        outer: β, which curvature H has, and how many samples enter together.
        space: names of the parameters in whose space slopes are taken; empty: the trained ones.
        splits: parts of J's prompts whose spread gives the gains' standard errors; 0: none.
    """

    problem: InnerProblem
    objective: Objective
    outer: OuterSettings = OuterSettings()  # noqa: RUF009 - frozen
    space: tuple[str, ...] = ()
    splits: int = 0

    @property
    def curvature(self) -> Ridge | ConjugateGradient:
        """H with the inner problem's λ, or the one that its budget of steps implies."""
        inner = self.problem.settings
        cold = self.outer.restart == "cold"
        steps = self.outer.steps_per_round if cold else inner.steps
        lam = inner.lam or implied_lam(inner.learning_rate, steps)
        if self.outer.curvature == "ridge":
            return Ridge(lam)
        dtype = next(iter(self.problem.origin.values())).dtype
        tolerance = _SOLVE_TOLERANCE.get(dtype, 5e-3)
        return ConjugateGradient(lam, self.outer.damping, tolerance)

    def __call__(
        self,
        weights: Weights,
        *,
        seed: int,
        check: bool = False,
        passing: Callable[[Sequence[Batch]], Iterable[Batch]] = iter,
    ) -> GainReport:
        """Slopes and gains at θ.

        Args:
            weights: ω; where all are 0, gains are those of samples that would enter.
            seed: of the objective's samples.
            check: whether to verify Σ_k s_k = v·∇Σ_k ℓ_k, find standard errors, and measure what
                Ridge neglects.
            passing: yields the batches as they are scored; tells progress, or stops the pass.

        Raises:
            NumericalError: if a check fails: the sum, a slope that is not finite, or a ∇J of 0.
        """
        model = self.problem.model
        with params.training(model, self.space or tuple(params.trainable(model))):
            return self._scored(weights, seed, check, passing)

    def _scored(
        self,
        weights: Weights,
        seed: int,
        check: bool,
        passing: Callable[[Sequence[Batch]], Iterable[Batch]],
    ) -> GainReport:
        model, batches = self.problem.model, self.problem.batches
        splits = max(1, self.splits) if check else 1
        objective, pieces = self.objective.value_and_parts(model, seed=seed, splits=splits)
        if check:
            _check_signal(pieces, objective)
        solve, directions = self._directions(weights, pieces, check)
        # one number a sample: weights and gains live on the CPU, wherever the model is
        found = slopes_along(model, passing(batches), self.problem.loss, directions).cpu()
        directions.clear()  # the check needs H⁻¹∇J alone
        report = GainReport(
            slopes=found[0],
            gains=marginal_gain(
                found[0],
                weights,
                sparsity=self.outer.sparsity,
                entering=1 / (int(weights.support.sum()) + self.outer.entering),
            ),
            objective=objective,
            solve=replace(solve, value={}),
            errors=_standard_errors(found[1:], self.objective),
            parts=len(found) - 1,
        )
        if not check:
            return report
        error = identity_error(
            model, batches, self.problem.loss, along=solve.value, slopes=found[0]
        )
        return replace(report, identity_error=_checked(error, found[0]))

    def _directions(
        self, weights: Weights, pieces: list[Parameters], check: bool
    ) -> tuple[Solve, list[Parameters]]:
        """H⁻¹∇J, and H⁻¹ of each part's contribution where there are several.

        The parts are taken out of `pieces`: each is as large as the model's trained weights.
        """
        curvature = self.curvature
        gradient = params.snapshot(pieces[0])
        for piece in pieces[1:]:
            params.accumulate(gradient, piece)
        if len(pieces) < 2:
            pieces.clear()
        if isinstance(curvature, Ridge):
            measured = check and self.problem.batches and bool(weights.support.any())
            product = hessian_product(self.problem, weights) if measured else None
            solve = curvature.solve(gradient, product=product)
            del gradient, product
            rest = [curvature.solve(pieces.pop(0)) for _ in range(len(pieces))]
        else:
            product = hessian_product(self.problem, weights)
            solve = curvature.solve(gradient, product=product)
            del gradient
            curvature = replace(curvature, damping=solve.damping, lanczos_steps=0)
            rest = [curvature.solve(pieces.pop(0), product=product) for _ in range(len(pieces))]
            solve = replace(solve, converged=solve.converged and all(r.converged for r in rest))
        return solve, [solve.value, *(part.value for part in rest)]


def _check_signal(pieces: list[Parameters], objective: Estimate) -> None:
    if all(params.norm(piece) == 0 for piece in pieces):
        raise NumericalError(
            f"The rewards must differ between replies, or ∇J is 0 and so is every gain; got J = "
            f"{objective.mean:g} from {objective.n} prompts that all scored alike. Check "
            "objective.reward, raise objective.samples, or give prompts on which replies differ."
        )


def _standard_errors(parts: Float[Tensor, "d n"], objective: Objective) -> Float[Tensor, " n"]:
    """Of the sum over d independent parts of J, each expected to give its share of the prompts.

    √(d/(d−1)·Σ_g (c_g − share_g·Σc)²), which for parts of equal size is √(d·Var).
    """
    count, parts = len(parts), parts.double()
    if count < 2:
        return torch.full(parts.shape[1:], math.nan, dtype=torch.float64)
    shares = objective.shares(count)[:, None]
    return (count / (count - 1) * (parts - shares * parts.sum(0)).square().sum(0)).sqrt()


def _checked(error: float, values: Float[Tensor, " n"]) -> float:
    tolerance = _IDENTITY_TOLERANCE.get(values.dtype, 0.05)
    if error > tolerance:
        raise NumericalError(
            f"Slopes must add up to the slope of the summed loss (relative error ≤ "
            f"{tolerance:g}); got {error:.2g}. Use float32 (model.dtype)."
        )
    return error


def mirror_descent(
    scorer: Scorer, outer: OuterSettings, *, seed: int
) -> Callable[[UnlearnState], Choice]:
    """Weights by Eq. 10, one update a round; for `descent.descend`.

    The gains that move ω are those of the current round; samples below the pruning threshold
    leave the support. √ω having slope −∞ at 0, mirror descent never brings them back; the greedy
    start lets them, and all others, enter again where their gain is worth it.
    """

    def choose(state: UnlearnState) -> Choice:
        seed_now, first = step_seed(seed, state.step), state.step == 0
        report = scorer(state.weights, seed=seed_now, check=first)
        if outer.step_size == 0:
            return Choice(report.objective, state.weights, report)
        weights = state.weights
        if outer.start == "greedy":
            weights = enter(
                None if first else state.weights,
                report.slopes,
                most=outer.per_round,
                sparsity=outer.sparsity,
                before=-torch.stack(state.slope_path).sum(0) if state.slope_path else None,
            )
            entering = 1 / (int(weights.support.sum()) + outer.entering)
            gains = marginal_gain(
                report.slopes, weights, sparsity=outer.sparsity, entering=entering
            )
            report = replace(report, gains=gains)
        moved = exponentiated_gradient(
            weights,
            report.gains,
            step_size=outer.step_size,
            slopes=report.slopes,
            effective_floor=outer.effective_floor,
        )
        return Choice(report.objective, prune(moved, below=outer.prune_below), report)

    return choose


def reselect(
    scorer: Scorer, outer: OuterSettings, *, seed: int
) -> Callable[[UnlearnState], Choice]:
    """Uniform weights over k samples, chosen anew each round by the gains (β = 0) summed so far.

    The ablation's Top-K and Bottom-K (`outer.rule`): what mirror descent's weights are worth
    beyond a choice of samples.
    """

    def choose(state: UnlearnState) -> Choice:
        first = state.step == 0
        report = scorer(state.weights, seed=step_seed(seed, state.step), check=first)
        # slopes: the sparsity term of gains charges those that were not chosen before
        total = torch.stack([*state.slope_path, report.slopes]).double().sum(0)
        ranked = -total if outer.rule == "top_k" else total
        return Choice(report.objective, top_k(ranked, outer.k), report)

    return choose


def accumulated_gains(path: list[Float[Tensor, " n"]]) -> Float[Tensor, " n"]:
    """Σ over rounds of Δg: what a sample was worth all along, in units of J per unit weight."""
    return torch.stack(path).sum(0)
