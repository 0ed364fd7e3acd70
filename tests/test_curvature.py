"""H⁻¹∇J: against dense inverses in float64, and honest where H is indefinite."""

import pytest
import torch

from u2a_core import params
from u2a_core.curvature import ConjugateGradient, Ridge, ritz_values
from u2a_core.errors import ConfigError, NumericalError

LAM = 0.5


def matrix(*eigenvalues: float) -> torch.Tensor:
    """H − 2λI with the given eigenvalues."""
    torch.manual_seed(0)
    basis, _ = torch.linalg.qr(torch.randn(len(eigenvalues), len(eigenvalues)).double())
    return basis @ torch.diag(torch.tensor(eigenvalues).double()) @ basis.T


def product(dense: torch.Tensor):
    """The same as a product on parameters of two tensors."""

    def times(v: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        image = dense @ torch.cat([v["a"].flatten(), v["b"]])
        return {"a": image[:4].view(2, 2), "b": image[4:]}

    return times


def vector(seed: int = 1) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    return {"a": torch.randn(2, 2).double(), "b": torch.randn(2).double()}


def flat(v: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([v["a"].flatten(), v["b"]])


def test_conjugate_gradients_are_the_dense_inverse():
    dense = matrix(3.0, 0.2, 1.0, 7.0, 0.0, 2.0)
    solve = ConjugateGradient(LAM, tolerance=1e-12).solve(vector(), product=product(dense))
    exact = torch.linalg.solve(dense + 2 * LAM * torch.eye(6).double(), flat(vector()))
    assert (flat(solve.value) - exact).norm() <= 1e-9 * exact.norm()
    assert solve.converged
    assert solve.residual < 1e-11
    assert solve.damping == 0
    assert solve.min_curvature == pytest.approx(1.0, rel=1e-6)


def test_given_damping_is_added_to_the_diagonal():
    dense = matrix(3.0, -2.0, 1.0, 7.0, 0.0, 2.0)
    found = ConjugateGradient(LAM, damping=4.0, tolerance=1e-12)
    solve = found.solve(vector(), product=product(dense))
    exact = torch.linalg.solve(dense + (2 * LAM + 4) * torch.eye(6).double(), flat(vector()))
    assert (flat(solve.value) - exact).norm() <= 1e-9 * exact.norm()
    assert solve.neglected == pytest.approx(4 * float(exact.norm() / flat(vector()).norm()))


def test_an_indefinite_hessian_is_damped_and_told():
    solve = ConjugateGradient(LAM).solve(
        vector(), product=product(matrix(3.0, -2.0, 1.0, 7.0, 0.0, 2.0))
    )
    assert solve.min_curvature == pytest.approx(-1.0, rel=1e-6)  # 2λ − 2
    assert solve.damping > 1
    assert solve.converged


def test_too_little_damping_is_reported_as_negative_curvature_and_no_convergence():
    found = ConjugateGradient(LAM, damping=0.1, tolerance=1e-10)
    solve = found.solve(vector(), product=product(matrix(3.0, -20.0, 1.0, 7.0, 0.0, 2.0)))
    assert not solve.converged
    assert solve.min_curvature < 0
    assert solve.residual > 1e-3


def test_a_solve_that_runs_out_of_steps_has_not_converged():
    found = ConjugateGradient(LAM, tolerance=1e-12, max_steps=2)
    solve = found.solve(vector(), product=product(matrix(3.0, 0.2, 1.0, 7.0, 0.0, 2.0)))
    assert not solve.converged
    assert solve.steps == 2


def test_ritz_values_are_the_extreme_eigenvalues_of_a_small_matrix():
    dense = matrix(3.0, -2.0, 1.0, 7.0, 0.5, 2.0)
    low, high = ritz_values(product(dense), vector(), steps=6)
    assert (low, high) == (pytest.approx(-2), pytest.approx(7))


def test_ritz_values_of_few_steps_lie_within_the_spectrum():
    low, high = ritz_values(product(matrix(3.0, -2.0, 1.0, 7.0, 0.5, 2.0)), vector(), steps=3)
    assert -2 <= low <= high <= 7


def test_a_product_that_is_not_finite_is_refused():
    with pytest.raises(NumericalError, match="must be finite"):
        ConjugateGradient(LAM).solve(vector(), product=lambda v: params.scale(v, float("nan")))


def test_a_zero_gradient_needs_no_step():
    solve = ConjugateGradient(LAM).solve(
        params.scale(vector(), 0.0), product=product(matrix(1.0, 1, 1, 1, 1, 1))
    )
    assert params.norm(solve.value) == 0
    assert solve.converged


def test_ridge_tells_the_curvature_that_it_leaves_out():
    dense = matrix(-5.0, -5.0, -5.0, -5.0, -5.0, -5.0)
    solve = Ridge(LAM).solve(vector(), product=product(dense))
    assert solve.min_curvature == pytest.approx(2 * LAM - 5)
    assert solve.neglected == pytest.approx(5 / (2 * LAM))


@pytest.mark.parametrize("kind", [Ridge, ConjugateGradient])
def test_lam_must_be_positive(kind):
    with pytest.raises(ConfigError, match="must be positive; got 0"):
        kind(0.0)


def test_where_the_first_step_finds_no_positive_curvature_there_is_no_answer():
    with pytest.raises(NumericalError, match=r"Raise outer\.damping"):
        ConjugateGradient(LAM, damping=1e-6).solve(
            vector(), product=product(matrix(-5.0, -5, -5, -5, -5, -5))
        )
