"""u = H⁻¹∇J: inverse-Hessian-vector products of the inner problem.

`Ridge` keeps the proximal part 2λI of H alone, and can say how large the neglected part is.
Conjugate gradients are not here yet.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from u2a_core import params
from u2a_core.errors import ConfigError
from u2a_core.types import Solve

if TYPE_CHECKING:
    from u2a_core.types import Parameters


@dataclass(frozen=True)
class Ridge:
    """H ≈ 2λI, the Hessian of λ‖θ−θ₀‖².

    Attributes:
        lam: λ > 0. Where the inner problem is a number of gradient steps without a proximal
            term, `implied_lam` gives it.
    """

    lam: float

    def __post_init__(self) -> None:
        if not self.lam > 0:
            raise ConfigError(
                f"λ of Ridge must be positive; got {self.lam}. Use curvature.implied_lam."
            )

    def solve(
        self, vector: Parameters, *, product: Callable[[Parameters], Parameters] | None = None
    ) -> Solve:
        """U = vector / 2λ.

        Args:
            vector: ∇J.
            product: v ↦ (H − 2λI)v, the neglected part; where given, ‖(H − 2λI)u‖ / ‖vector‖ is
                measured and returned as `neglected`.
        """
        value = params.scale(vector, 0.5 / self.lam)
        neglected = math.nan
        length = params.norm(vector)
        if product is not None and length > 0:
            neglected = params.norm(product(value)) / length
        return Solve(
            value=value,
            residual=0.0 if math.isnan(neglected) else neglected,
            steps=0,
            converged=True,
            min_curvature=2 * self.lam,
            neglected=neglected,
        )


def implied_lam(learning_rate: float, steps: int) -> float:
    """λ of the proximal term that so many gradient steps stand for: 2λ = 1/(rate · steps)."""
    return 0.5 / (learning_rate * steps)
