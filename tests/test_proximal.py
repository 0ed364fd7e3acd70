"""θ*(ω) of one sample: stationary, the same alone and stacked, and honest without a minimum."""

from types import SimpleNamespace

import pytest
import torch

from u2a_core import params
from u2a_core.config import InnerSettings
from u2a_core.errors import ConfigError
from u2a_core.losses import NPO, GradientAscent, response_log_probs, sequence_log_probs
from u2a_core.proximal import moved, rows_of, sample_gradients, solve_proximal
from u2a_core.testing import TinyPolicy, random_batch
from u2a_core.types import PerSampleLoss, TokenLogProbs
from u2a_core.unlearn import InnerProblem

LAM = 1.0


def problem_of(method: str = "ga", n: int = 5) -> InnerProblem:
    model, batch = TinyPolicy(), random_batch(n, seed=1)
    loss = GradientAscent()
    if method == "npo":
        loss = NPO(0.1, sequence_log_probs(model, [batch]))
    origin = params.snapshot(params.trainable(model))
    halves = [batch.select(batch.index < 2), batch.select(batch.index >= 2)]
    return InnerProblem(model, tuple(halves), loss, InnerSettings(method=method), origin)


def loss_gradient(problem: InnerProblem, sample: int, point: dict[str, torch.Tensor]):
    """∇ℓ_i at a point, by plain autograd on the row alone."""
    params.load(problem.model, point)
    theta = params.trainable(problem.model)
    row = rows_of(problem, [sample])
    found = params.gradient(problem.loss(response_log_probs(problem.model, row)).sum(), theta)
    params.load(problem.model, problem.origin)
    return found


@pytest.mark.parametrize("method", ["ga", "npo"])
def test_the_solution_is_stationary(method: str):
    problem = problem_of(method)
    solve = solve_proximal(problem, rows_of(problem, [0, 1, 2, 3, 4]), omega=0.2, lam=LAM)
    assert solve.converged.all()
    for i in range(5):
        point = moved(problem.origin, solve.shift, i)
        shift = {name: tensor[i] for name, tensor in solve.shift.items()}
        left = params.axpy(0.2 / (2 * LAM), loss_gradient(problem, i, point), shift)
        assert params.norm(left) <= 2e-5 * params.norm(shift)
        assert float(solve.residual[i]) <= 1e-5


@pytest.mark.parametrize("method", ["ga", "npo"])
def test_gradients_of_stacked_samples_are_those_of_each_alone(method: str):
    problem = problem_of(method)
    rows = rows_of(problem, [3, 0, 4])
    torch.manual_seed(0)
    shift = {
        name: 0.1 * torch.randn(3, *tensor.shape).double()
        for name, tensor in problem.origin.items()
    }
    stacked = sample_gradients(problem, rows, shift)
    for place, sample in enumerate([3, 0, 4]):
        alone = loss_gradient(problem, sample, moved(problem.origin, shift, place))
        for name, tensor in alone.items():
            torch.testing.assert_close(stacked[name][place], tensor, rtol=1e-10, atol=1e-12)


def test_samples_solved_together_are_those_solved_alone():
    problem = problem_of()
    together = solve_proximal(problem, rows_of(problem, [0, 1, 2]), omega=0.3, lam=LAM)
    for i in range(3):
        alone = solve_proximal(problem, rows_of(problem, [i]), omega=0.3, lam=LAM)
        for name, tensor in alone.shift.items():
            torch.testing.assert_close(together.shift[name][i], tensor[0], rtol=1e-9, atol=1e-12)
        assert int(alone.steps[0]) == int(together.steps[i])


def test_a_warm_start_reaches_the_same_point_in_fewer_steps():
    problem = problem_of()
    rows = rows_of(problem, [0, 1])
    cold = solve_proximal(problem, rows, omega=0.4, lam=LAM)
    near = solve_proximal(problem, rows, omega=0.38, lam=LAM).shift
    warm = solve_proximal(problem, rows, omega=0.4, lam=LAM, start=params.scale(near, 0.4 / 0.38))
    for name, tensor in cold.shift.items():
        torch.testing.assert_close(warm.shift[name], tensor, rtol=1e-3, atol=1e-6)
    assert int(warm.steps.sum()) < int(cold.steps.sum())


class Quadratic(torch.nn.Module):
    """log π of token 1 is −softplus(E), E = ¾‖θ − 3‖²; `energy` and `minus_energy` are ℓ = ±2E."""

    def __init__(self) -> None:
        super().__init__()
        self.theta = torch.nn.Parameter(torch.tensor([1.0, -2.0]).double())

    def forward(self, input_ids: torch.Tensor, **_: object) -> SimpleNamespace:
        energy = 0.75 * (self.theta - 3).square().sum()
        zero = torch.zeros(*input_ids.shape, 1).double()
        return SimpleNamespace(logits=torch.cat([zero + energy, zero], -1))


def energy(log_probs: TokenLogProbs) -> torch.Tensor:
    return 2 * torch.special.expm1(-log_probs.means()).log()


def minus_energy(log_probs: TokenLogProbs) -> torch.Tensor:
    return -energy(log_probs)


def quadratic(loss: PerSampleLoss) -> InnerProblem:
    model = Quadratic()
    origin = params.snapshot(params.trainable(model))
    batch = random_batch(2, seed=0, vocabulary=2)
    return InnerProblem(model, (batch,), loss, InnerSettings(method="ga"), origin)


def test_the_contraction_of_a_quadratic_is_its_curvature():
    """Successive fixed-point steps shrink by c·h exactly, and δ = c·h/(1 + c·h)·(3 − θ₀)."""
    problem = quadratic(energy)
    solve = solve_proximal(problem, rows_of(problem, [0, 1]), omega=0.2, lam=LAM)
    rate = torch.tensor([0.2 / (2 * LAM) * 3.0] * 2).double()
    torch.testing.assert_close(solve.contraction, rate, rtol=1e-6, atol=0)
    exact = rate / (1 + rate) * (3 - problem.origin["theta"])
    torch.testing.assert_close(solve.shift["theta"][0], exact, rtol=1e-4, atol=0)


@pytest.mark.parametrize("loss", [energy, minus_energy])
def test_where_steps_grow_no_minimum_is_certified(loss: PerSampleLoss):
    """c·h = ±1.35: with the minus sign 2λ − 3ω < 0, and there is no minimum at all."""
    problem = quadratic(loss)
    solve = solve_proximal(problem, rows_of(problem, [0, 1]), omega=0.9, lam=LAM)
    assert not solve.converged.any()
    assert (solve.residual > 1e-2).all()
    assert (solve.contraction > 1).all()


def test_lam_must_be_positive():
    problem = problem_of()
    with pytest.raises(ConfigError, match="must be positive; got 0"):
        solve_proximal(problem, rows_of(problem, [0]), omega=0.1, lam=0.0)
