"""Algebra on named parameters, Hessian-vector products, and the ridge solve."""

import math

import pytest
import torch
from torch import nn

from u2a_core import params
from u2a_core.curvature import Ridge, implied_lam
from u2a_core.errors import ConfigError, NumericalError
from u2a_core.losses import GradientAscent, response_log_probs
from u2a_core.testing import TinyPolicy, random_batch

A = {"x": torch.tensor([1.0, 2.0]), "y": torch.tensor([[3.0]])}
B = {"x": torch.tensor([4.0, -1.0]), "y": torch.tensor([[2.0]])}


def test_algebra_by_hand():
    assert params.dot(A, B) == 4 - 2 + 6
    assert params.norm(A) == pytest.approx(math.sqrt(14))
    assert torch.equal(params.scale(A, 2.0)["y"], torch.tensor([[6.0]]))
    assert torch.equal(params.axpy(2.0, A, B)["x"], torch.tensor([6.0, 3.0]))


def test_inner_products_of_half_precision_accumulate_in_float32():
    ones = {"x": torch.full((4096,), 0.1, dtype=torch.bfloat16)}
    value = float(ones["x"][0])
    assert params.dot(ones, ones) == pytest.approx(4096 * value * value, rel=1e-5)


def test_frozen_parameters_are_not_part_of_theta():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    model[0].requires_grad_(False)
    assert set(params.trainable(model)) == {"1.weight", "1.bias"}


def test_load_moves_the_model_and_snapshot_does_not_follow():
    model = nn.Linear(2, 1)
    before = params.snapshot(params.trainable(model))
    params.load(model, params.scale(before, 3.0))
    assert torch.equal(model.weight, 3 * before["weight"])


def test_gradient_is_zero_where_the_value_does_not_depend():
    model = nn.ModuleDict({"used": nn.Linear(2, 1), "idle": nn.Linear(2, 1)})
    grads = params.gradient(model["used"].weight.sum(), params.trainable(model))
    assert torch.equal(grads["used.weight"], torch.ones(1, 2))
    assert not grads["idle.weight"].any()


def test_hessian_vector_product_is_the_dense_one():
    model, batch = TinyPolicy(), random_batch(4)
    theta = params.trainable(model)
    origin = params.snapshot(theta)
    direction = {name: torch.randn_like(p) for name, p in origin.items()}

    def gradient_at(point: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        params.load(model, point)
        total = GradientAscent()(response_log_probs(model, batch)).sum()
        return params.gradient(total, theta)

    found = params.hessian_vector_product(gradient_at, origin, direction, step=1e-5)
    params.load(model, origin)
    total = GradientAscent()(response_log_probs(model, batch)).sum()
    grads = torch.autograd.grad(total, list(theta.values()), create_graph=True)
    along = sum((g * direction[n]).sum() for n, g in zip(theta, grads, strict=True))
    exact = torch.autograd.grad(along, list(theta.values()))
    for name, expected in zip(theta, exact, strict=True):
        torch.testing.assert_close(found[name], expected, rtol=1e-5, atol=1e-7)


def test_hessian_vector_product_of_zero_is_zero():
    zero = {"x": torch.zeros(2)}
    assert not params.hessian_vector_product(lambda p: p, A, zero)["x"].any()


def test_ridge_divides_by_two_lambda():
    found = Ridge(lam=0.25).solve(A)
    assert torch.equal(found.value["x"], 2 * A["x"])
    assert (found.residual, found.converged, found.min_curvature) == (0.0, True, 0.5)
    assert math.isnan(found.neglected)


def test_ridge_measures_what_it_neglects():
    """H = 2λI + D with D = diag(d): the residual of u = b/2λ is ‖Du‖/‖b‖."""
    scales = {"x": torch.tensor([0.3, 0.1]), "y": torch.tensor([[0.2]])}
    found = Ridge(lam=0.5).solve(A, product=lambda v: {n: scales[n] * t for n, t in v.items()})
    neglected = {n: scales[n] * A[n] for n in A}
    assert found.neglected == pytest.approx(params.norm(neglected) / params.norm(A))
    assert found.residual == found.neglected


def test_ridge_needs_a_positive_lambda():
    with pytest.raises(ConfigError, match="must be positive; got 0"):
        Ridge(lam=0.0)


def test_implied_lambda_makes_the_ridge_solution_that_many_gradient_steps():
    """On a linear loss, `steps` of `rate` move θ by rate·steps·g; the proximal optimum by g/2λ."""
    lam = implied_lam(0.05, 30)
    assert Ridge(lam).solve(A).value["x"].tolist() == pytest.approx([1.5, 3.0])


@pytest.mark.parametrize("length", [math.inf, math.nan])
def test_a_direction_without_a_finite_step_is_told(length: float):
    point = {"x": torch.tensor([1e-30])}
    with pytest.raises(NumericalError, match="must have a finite direction"):
        params.hessian_vector_product(lambda at: at, point, {"x": torch.tensor([length])})
