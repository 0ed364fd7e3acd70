"""The outer problem: the weights follow the marginal gains (Eqs. 5, 8-10).

Step 1 scores every negative sample at θ*(ω), Step 2 moves ω by mirror descent; the inner problem
carries the model along. Both repeat each round, because a selection made once at θ₀ misses the
samples whose gain turns positive only after others have been unlearned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from u2a_core.config import OuterSettings
from u2a_core.curvature import Ridge, implied_lam
from u2a_core.descent import Choice, UnlearnState
from u2a_core.directional import identity_error, slopes
from u2a_core.errors import NumericalError
from u2a_core.objectives import Objective
from u2a_core.types import Batch, GainReport, Weights
from u2a_core.unlearn import InnerProblem, step_seed
from u2a_core.weights import exponentiated_gradient, marginal_gain, prune

_IDENTITY_TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-8}


@dataclass(frozen=True)
class Scorer:
    """Scores all negative samples at the model's current θ (Step 1).

    Attributes:
        problem: the inner problem, whose λ (or budget) sets the curvature 2λ.
        objective: J.
        sparsity: β of Eq. 5.
    """

    problem: InnerProblem
    objective: Objective
    sparsity: float = 0.0

    @property
    def ridge(self) -> Ridge:
        """H ≈ 2λI with the inner problem's λ, or the one that its budget of steps implies."""
        inner = self.problem.settings
        return Ridge(inner.lam or implied_lam(inner.learning_rate, inner.steps))

    def __call__(
        self,
        weights: Weights,
        *,
        seed: int,
        check: bool = False,
        passing: Callable[[list[Batch]], Iterable[Batch]] = iter,
    ) -> GainReport:
        """Slopes and gains at θ.

        Args:
            weights: ω.
            seed: of the objective's samples.
            check: whether to verify Σ_k s_k = v·∇Σ_k ℓ_k by one backward pass.
            passing: yields the batches as they are scored; tells progress, or stops the pass.

        Raises:
            NumericalError: if the check fails, or a slope is not finite.
        """
        model, batches = self.problem.model, list(self.problem.batches)
        estimate, gradient = self.objective.value_and_gradient(model, seed=seed)
        direction = self.ridge.solve(gradient).value
        # one number a sample: weights and gains live on the CPU, wherever the model is
        values = slopes(model, passing(batches), self.problem.loss, along=direction).cpu()
        report = GainReport(
            slopes=values,
            gains=marginal_gain(values, weights, sparsity=self.sparsity),
            objective=estimate,
        )
        if not check:
            return report
        error = identity_error(model, batches, self.problem.loss, along=direction, slopes=values)
        return GainReport(report.slopes, report.gains, estimate, _checked(error, values))


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
    """Weights by Eq. 10, one update a round; for `unlearn.descend`.

    The gains that move ω are those of the current round; samples below the pruning threshold
    leave the support and, √ω having slope −∞ at 0, do not come back.
    """

    def choose(state: UnlearnState) -> Choice:
        report = scorer(state.weights, seed=step_seed(seed, state.step), check=state.step == 0)
        if outer.step_size == 0:
            return Choice(report.objective, state.weights, report)
        moved = exponentiated_gradient(
            state.weights, report.gains, step_size=outer.step_size, slopes=report.slopes
        )
        return Choice(report.objective, prune(moved, below=outer.prune_below), report)

    return choose


def accumulated_gains(path: list[Float[Tensor, " n"]]) -> Float[Tensor, " n"]:
    """Σ over rounds of Δg: what a sample was worth all along, in units of J per unit weight."""
    return torch.stack(path).sum(0)
