"""Impact curves: what unlearning one sample alone changes in J, predicted and measured (Eqs. 3, 4).

For each sample and each weight ω of a grid, four numbers in units of J:

    linear     −(ω/2λ)·⟨∇J(θ₀), ∇ℓ(θ₀)⟩       the prediction: slopes at θ₀, one pass for all
    paper      −(ω/2λ)·⟨∇J(θ*), ∇ℓ(θ*)⟩       Eq. 4 at the solved θ*(ω)
    trapezoid  ½⟨∇J(θ₀) + ∇J(θ*), θ* − θ₀⟩    a check of the curve: it needs θ* as well
    measured   J(θ*) − J(θ₀)                  J evaluated again

θ*(ω) comes from `proximal`; a curve ends at its validity limit, where the inner problem has no
minimum or none was reached.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from scipy import stats

from u2a_core import params
from u2a_core.directional import slopes
from u2a_core.objectives import SmoothObjective
from u2a_core.proximal import ProximalSolve, lanes, moved, rows_of, solve_proximal
from u2a_core.types import Batch
from u2a_core.unlearn import InnerProblem

if TYPE_CHECKING:
    from u2a_core.types import Parameters

ESTIMATORS = ("linear", "paper", "trapezoid")
_AT_SOLUTION = ("paper", "trapezoid", "measured", "measured_low", "measured_high")
_SMALLEST_CONTRACTION = 0.05
_FACTOR, _POINTS = 3.0, 5
_TRIAL_STEPS = 4
_RESAMPLES = 1000
_PROBES = 8


def predicted_impact(slope: float, *, omega: float, lam: float) -> float:
    """ΔJ ≈ −(ω/2λ)·∇Jᵀ∇ℓ (Eq. 4, which has λ = 1), in units of J; positive = unlearning helps.

    Args:
        slope: ⟨∇J, ∇ℓ⟩. With both at θ* and L_R = ‖θ−θ₀‖² the result is ∇J·(θ*−θ₀) exactly, by
            stationarity.
        omega: ω.
        lam: λ > 0.
    """
    return -omega / (2 * lam) * slope


@dataclass(frozen=True)
class ImpactCurves:
    """The curves of chosen samples.

    Attributes:
        problem: the inner problem, with the model at θ₀.
        objective: J, smooth.
        samples: positions of the chosen samples in their set.
        lam: λ > 0 of each sample's own inner problem.
    """

    problem: InnerProblem
    objective: SmoothObjective
    samples: tuple[int, ...]
    lam: float

    @cached_property
    def origin(self) -> tuple[np.ndarray, Parameters]:
        """J of every prompt at θ₀, and ∇J there."""
        values, (gradient,) = self.objective.values_and_parts(self.problem.model)
        return values.numpy(), gradient

    @cached_property
    def slopes(self) -> np.ndarray:
        """⟨∇J, ∇ℓ_k⟩ at θ₀ of all samples of the set, in one pass."""
        model, batches, loss = self.problem.model, self.problem.batches, self.problem.loss
        return slopes(model, batches, loss, along=self.origin[1]).cpu().double().numpy()

    def rounding(self) -> float:
        """The rounding error of J: its spread when each parameter moves to a neighbouring number.

        Up or down at random, frozen parameters too; the standard deviation of J over such moves.
        """
        kept, values = params.snapshot(dict(self.problem.model.named_parameters())), []
        generator = torch.Generator().manual_seed(0)
        for _ in range(_PROBES):
            shaken = {}
            for name, tensor in kept.items():
                up = torch.rand(tensor.shape, generator=generator) < 0.5
                far = torch.where(up, math.inf, -math.inf).to(tensor.dtype)
                shaken[name] = torch.nextafter(tensor.cpu(), far)
            params.load(self.problem.model, shaken)
            values.append(float(self.objective.values(self.problem.model).mean()))
        params.load(self.problem.model, kept)
        return float(np.std(values, ddof=1))

    def grid(self, passing: Callable[[list[list[int]]], Iterator[list[int]]] = iter) -> list[float]:
        """Weights from a largest contraction of 0.05 over the samples to past its limit, ×3 each.

        `passing` yields the groups of samples as they are tried; tells progress.
        """
        theta = params.norm(self.problem.origin)
        first = self._groups()[0]
        solve = self._tried(first, 1e-6)  # any small ω gives ‖∇ℓ‖
        length = max(
            params.norm({name: tensor[i] for name, tensor in solve.gradient.items()})
            for i in range(len(first))
        )
        omega = 2 * self.lam * 1e-3 * theta / max(length, 1e-30)
        for _ in range(2):
            largest = max(
                float(np.nanmax(self._tried(group, omega).contraction.numpy()))
                for group in passing(self._groups())
            )
            omega *= _SMALLEST_CONTRACTION / max(largest, 1e-12)
        grid = [omega * _FACTOR**power for power in range(_POINTS)]
        return [weight for weight in grid if weight <= 1] or [1.0]

    def _tried(self, group: list[int], omega: float) -> ProximalSolve:
        rows = rows_of(self.problem, group)
        return solve_proximal(self.problem, rows, omega=omega, lam=self.lam, max_steps=_TRIAL_STEPS)

    def _groups(self) -> list[list[int]]:
        """The samples, those of like length together, as many as are solved at once."""
        length = {
            int(i): int(n)
            for batch in self.problem.batches
            for i, n in zip(batch.index, batch.attention_mask.sum(1), strict=True)
        }
        order = sorted(self.samples, key=lambda i: (length[i], i))
        size = lanes(self.problem)
        return [order[start : start + size] for start in range(0, len(order), size)]

    def groups_left(self, done: set[int]) -> list[list[int]]:
        """The groups of samples of which not all are done; the same groups whatever was done."""
        return [group for group in self._groups() if not done.issuperset(group)]

    def measure(self, group: list[int], omegas: Sequence[float]) -> list[dict[str, Any]]:
        """The curves of one group: a row for each sample and weight up to its validity limit."""
        rows = rows_of(self.problem, group)
        alive = torch.arange(len(group))
        start: Parameters | None = None
        before, found = 0.0, []
        for omega in omegas:
            on = alive.to(rows.index.device)
            some = Batch(**{name: tensor[on] for name, tensor in vars(rows).items()})
            if start is not None:  # along the curve δ grows with ω
                start = params.scale(start, omega / before)
            solve = solve_proximal(self.problem, some, omega=omega, lam=self.lam, start=start)
            for place, lane in enumerate(alive.tolist()):
                found.append(self._row(group[lane], omega, solve, place))
            kept = solve.converged
            if not bool(kept.any()):
                break
            alive, before = alive[kept], omega
            on = kept.nonzero().squeeze(1).to(rows.index.device)
            start = {name: tensor[on] for name, tensor in solve.shift.items()}
        return found

    def _row(self, sample: int, omega: float, solve: ProximalSolve, place: int) -> dict[str, Any]:
        converged = bool(solve.converged[place])
        row = {
            "sample": sample,
            "omega": omega,
            "linear": predicted_impact(float(self.slopes[sample]), omega=omega, lam=self.lam),
            "residual": float(solve.residual[place]),
            "contraction": float(solve.contraction[place]),
            "steps": int(solve.steps[place]),
            "converged": converged,
        }
        if not converged:  # the curve's end: nothing is claimed there
            return row | dict.fromkeys(_AT_SOLUTION, math.nan)
        values, gradient = self.origin
        shift = {name: tensor[place] for name, tensor in solve.shift.items()}
        loss_gradient = {name: tensor[place] for name, tensor in solve.gradient.items()}
        params.load(self.problem.model, moved(self.problem.origin, solve.shift, place))
        now, (there,) = self.objective.values_and_parts(self.problem.model)
        params.load(self.problem.model, self.problem.origin)
        change = self.objective.estimate(now.numpy() - values)
        return row | {
            "paper": predicted_impact(params.dot(there, loss_gradient), omega=omega, lam=self.lam),
            "trapezoid": 0.5 * (params.dot(gradient, shift) + params.dot(there, shift)),
            "measured": change.mean,
            "measured_low": change.low,
            "measured_high": change.high,
        }


def summary(curves: pd.DataFrame, samples: int, omegas: Sequence[float]) -> dict[str, Any]:
    """How well the predictions meet the measurements, overall and for each weight.

    Args:
        curves: rows of `ImpactCurves.measure`.
        samples: how many samples there are; a curve that ended counts as not converged after it.
        omegas: the grid, ascending.

    Returns:
        omegas, converged_share, contraction, estimators, and per_omega with the same.
    """
    return {
        "omegas": list(omegas),
        **_agreement(curves, samples * len(omegas)),
        "per_omega": [
            {"omega": omega, **_agreement(curves[curves["omega"] == omega], samples)}
            for omega in omegas
        ],
    }


def _agreement(rows: pd.DataFrame, solves: int) -> dict[str, Any]:
    good = rows[rows["converged"].astype(bool)]
    contraction = rows["contraction"].dropna()
    sample = good["sample"].to_numpy()
    return {
        "converged_share": len(good) / solves,
        "contraction": {
            "median": float(contraction.median()) if len(contraction) else None,
            "max": float(contraction.max()) if len(contraction) else None,
        },
        "estimators": {
            name: agreement(good[name].to_numpy(), good["measured"].to_numpy(), sample)
            for name in ESTIMATORS
        },
    }


def agreement(
    predicted: np.ndarray, measured: np.ndarray, samples: np.ndarray | None = None
) -> dict[str, Any]:
    """Spearman's ρ, R² against y = x, the slope of measured on predicted, and the RMSE.

    With 95 % percentile bootstrap intervals over `samples`, the owner of each point (default: each
    its own); None for fewer than three points.
    """
    values = _statistics(predicted, measured)
    found = {n: None if math.isnan(v) else v for n, v in zip(_NAMES, values, strict=True)}
    owners = np.arange(len(predicted)) if samples is None else samples
    own = [np.flatnonzero(owners == owner) for owner in np.unique(owners)]
    generator = np.random.default_rng(0)
    intervals: dict[str, list[float]] = {}
    if len(own) >= 3 and not math.isnan(values[0]):
        draws = generator.integers(len(own), size=(_RESAMPLES, len(own)))
        rows = [np.concatenate([own[i] for i in draw]) for draw in draws]
        drawn = np.array([_statistics(predicted[row], measured[row]) for row in rows])
        bounds = np.nanquantile(drawn, [0.025, 0.975], axis=0).T
        intervals = {n: [float(a), float(b)] for n, (a, b) in zip(_NAMES, bounds, strict=True)}
    return {**found, "n": len(predicted), "intervals": intervals}


_NAMES = ("spearman", "r2", "slope", "rmse")


def _statistics(predicted: np.ndarray, measured: np.ndarray) -> tuple[float, float, float, float]:
    if len(predicted) < 3 or np.ptp(predicted) == 0 or np.ptp(measured) == 0:
        return (math.nan,) * 4
    x, y = predicted - predicted.mean(), measured - measured.mean()
    left = ((measured - predicted) ** 2).mean()
    ranks = np.corrcoef(stats.rankdata(predicted), stats.rankdata(measured))[0, 1]
    return float(ranks), float(1 - left / (y**2).mean()), float(x @ y / (x @ x)), float(left**0.5)
