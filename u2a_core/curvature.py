"""u = H⁻¹∇J: inverse-Hessian-vector products of the inner problem (Eq. 8).

    H = Σ_i ω_i∇²ℓ_i + λ_r∇²NLL_retain + 2λI

`Ridge` keeps the proximal part 2λI of H alone, and says how large the neglected part is.
`ConjugateGradient` takes all of it through Hessian-vector products. H may be indefinite (GA's ∇²ℓ
is minus a likelihood's): every solve says which curvature it met, and never hides a failure.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from u2a_core import params
from u2a_core.errors import ConfigError, NumericalError
from u2a_core.types import Solve

if TYPE_CHECKING:
    from u2a_core.types import Parameters

    Product: TypeAlias = Callable[[Parameters], Parameters]
    """v ↦ (H − 2λI)v."""

_FLOOR = 0.01
"""Automatic damping makes the smallest curvature at least this share of the largest."""
_MARGIN = 0.1
"""Share of a negative Ritz value that is added, for the eigenvalue below it."""


@dataclass(frozen=True)
class Ridge:
    """H ≈ 2λI, the Hessian of λ‖θ−θ₀‖².

    Attributes:
        lam: λ > 0. Where the inner problem is a number of gradient steps without a proximal
            term, `implied_lam` gives it.
    """

    lam: float

    def __post_init__(self) -> None:
        _check_lam(self.lam)

    def solve(self, vector: Parameters, *, product: Product | None = None) -> Solve:
        """U = vector / 2λ.

        Args:
            vector: ∇J.
            product: the neglected part of H; where given, ‖(H − 2λI)u‖ / ‖vector‖ is measured and
                returned as `neglected`.
        """
        value = params.scale(vector, 0.5 / self.lam)
        neglected, curvature = math.nan, 2 * self.lam
        length = params.norm(vector)
        if product is not None and length > 0:
            rest = product(value)
            neglected = params.norm(rest) / length
            curvature += params.dot(value, rest) / params.dot(value, value)
        return Solve(
            value=value,
            residual=0.0 if math.isnan(neglected) else neglected,
            steps=0,
            converged=True,
            min_curvature=curvature,
            neglected=neglected,
        )


@dataclass(frozen=True)
class ConjugateGradient:
    """(H + δI)u = ∇J by conjugate gradients.

    Attributes:
        lam: λ > 0 of the 2λI in H.
        damping: δ ≥ 0. 0: a short Lanczos run finds the extreme curvatures, and δ lifts the
            smallest to a hundredth of the largest where it lies below; 0 where it does not.
        tolerance: relative residual at which a solve has converged.
        max_steps: of the conjugate gradients.
        lanczos_steps: products spent on the extreme curvatures; 0: δ is as given.
    """

    lam: float
    damping: float = 0.0
    tolerance: float = 1e-3
    max_steps: int = 100
    lanczos_steps: int = 15

    def __post_init__(self) -> None:
        _check_lam(self.lam)

    def solve(self, vector: Parameters, *, product: Product) -> Solve:
        """U ≈ (H + δI)⁻¹ vector; stops where the curvature along a step is not positive.

        The residual is that of the damped system, computed anew from the result; `neglected` is
        δ‖u‖/‖vector‖, what the damping leaves of the undamped one.

        Raises:
            NumericalError: if a product is not finite, or the first step finds no positive
                curvature.
        """
        length = params.norm(vector)
        if length == 0:
            return Solve(params.scale(vector, 0.0), 0.0, 0, True, 2 * self.lam, 0.0)

        def hessian(v: Parameters) -> Parameters:
            return params.axpy(2 * self.lam, v, product(v))

        low, damping = math.inf, self.damping
        if self.lanczos_steps:
            low, high = ritz_values(hessian, vector, steps=self.lanczos_steps)
            damping = self.damping or _damping(low, high)

        def damped(v: Parameters) -> Parameters:
            return params.axpy(damping, v, hessian(v))

        value, steps, least = _iterate(damped, vector, self.tolerance, self.max_steps)
        if steps == 0:
            raise NumericalError(
                f"H + δI must be positive along ∇J; got a curvature of {least:.3g} with δ = "
                f"{damping:.3g}. Raise outer.damping, set it to 0 to have it chosen, or use "
                "outer.curvature ridge."
            )
        residual = params.norm(params.axpy(-1.0, damped(value), vector)) / length
        return Solve(
            value=value,
            residual=residual,
            steps=steps,
            # the recurrence and the true residual part ways by the products' own error
            converged=least > 0 and residual <= 2 * self.tolerance,
            # what CG met adds to Lanczos only where it is negative: the difference cancels
            min_curvature=low if low < math.inf and least > 0 else min(low, least - damping),
            neglected=damping * params.norm(value) / length,
            damping=damping,
        )


def implied_lam(learning_rate: float, steps: int) -> float:
    """λ of the proximal term that so many gradient steps stand for: 2λ = 1/(rate · steps)."""
    return 0.5 / (learning_rate * steps)


def ritz_values(hessian: Product, start: Parameters, *, steps: int) -> tuple[float, float]:
    """The extreme Ritz values of H in the Krylov space of `start`: (smallest, largest).

    They lie within H's spectrum and approach its ends; Lanczos' three-term recurrence, which
    keeps three vectors only.

    Raises:
        NumericalError: if a product is not finite.
    """
    basis = params.scale(start, 1 / params.norm(start))
    before: Parameters | None = None
    diagonal: list[float] = []
    beside: list[float] = []
    for _ in range(min(steps, sum(tensor.numel() for tensor in start.values()))):
        image = hessian(basis)
        diagonal.append(params.dot(basis, image))
        if not math.isfinite(diagonal[-1]):
            raise NumericalError(
                "Hessian-vector products must be finite; got NaN or infinity. "
                "Lower inner.learning_rate, or use outer.curvature ridge."
            )
        image = params.axpy(-diagonal[-1], basis, image)
        if before is not None:
            image = params.axpy(-beside[-1], before, image)
        beside.append(params.norm(image))
        if beside[-1] <= 1e-6 * max(map(abs, diagonal)):  # an invariant subspace
            break
        before, basis = basis, params.scale(image, 1 / beside[-1])
    size = len(diagonal)
    inner = beside[: size - 1]
    values = np.linalg.eigvalsh(np.diag(diagonal) + np.diag(inner, 1) + np.diag(inner, -1))
    return float(values[0]), float(values[-1])


def _damping(low: float, high: float) -> float:
    """δ that lifts the smallest curvature to a share of the largest."""
    floor = _FLOOR * max(abs(low), abs(high))
    return max(0.0, floor - low + _MARGIN * max(0.0, -low))


def _iterate(
    matrix: Product, vector: Parameters, tolerance: float, max_steps: int
) -> tuple[Parameters, int, float]:
    """Conjugate gradients from 0: (solution, steps, the smallest pᵀAp / pᵀp met)."""
    value = params.scale(vector, 0.0)
    residual, along = vector, vector
    squared = params.dot(residual, residual)
    goal, least = tolerance**2 * squared, math.inf
    for step in range(max_steps):
        image = matrix(along)
        curvature = params.dot(along, image)
        least = min(least, curvature / params.dot(along, along))
        if not curvature > 0:  # no step: along p the quadratic has no minimum
            return value, step, least
        rate = squared / curvature
        value = params.axpy(rate, along, value)
        residual = params.axpy(-rate, image, residual)
        squared, before = params.dot(residual, residual), squared
        if squared <= goal:
            return value, step + 1, least
        along = params.axpy(squared / before, along, residual)
    return value, max_steps, least


def _check_lam(lam: float) -> None:
    if not lam > 0:
        raise ConfigError(
            f"λ of a curvature must be positive; got {lam}. Use curvature.implied_lam."
        )
