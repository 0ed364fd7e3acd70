"""The inner step against closed forms, and the guards of a run: bounds, patience, the kept step."""

import math
from collections import deque
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from u2a_core import params
from u2a_core.config import InnerSettings, OuterSettings, Settings
from u2a_core.descent import Choice, UnlearnState, descend, start
from u2a_core.errors import NumericalError
from u2a_core.losses import (
    GradientAscent,
    NegativeLogLikelihood,
    per_sample_losses,
    response_log_probs,
    weighted_loss,
)
from u2a_core.objectives import Objective
from u2a_core.results import _rounded, _unmoved
from u2a_core.testing import TinyPolicy, random_batch
from u2a_core.types import Estimate, Weights
from u2a_core.unlearn import InnerProblem, hessian_product, inner_step, step_seed
from u2a_core.weights import uniform

RATE = 0.1
OMEGA = Weights(torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64))


def problem_of(*, retain: int = 0, vocabulary: int = 0, **settings: object) -> InnerProblem:
    model = TinyPolicy()
    inner = InnerSettings(
        **{"method": "ga", "learning_rate": RATE, "max_grad_norm": 1e9, **settings}
    )
    return InnerProblem(
        model,
        (random_batch(4, seed=1),),
        GradientAscent(),
        inner,
        params.snapshot(params.trainable(model)),
        retain=(random_batch(retain, seed=2),) if retain else (),
        vocabulary=vocabulary,
    )


def moved(problem: InnerProblem, weights: Weights = OMEGA, *, seed: int = 0, away: float = 0.0):
    """What one SGD step subtracts from θ in units of the step, taken at θ₀ + `away`."""
    state = start(problem, weights)
    with torch.no_grad():
        for tensor in state.theta.values():
            tensor.add_(away)
    before = params.snapshot(state.theta)
    facts = inner_step(problem, weights, state.optimizer, step=0, seed=seed)
    return {n: (before[n] - p.detach()) / RATE for n, p in state.theta.items()}, facts


def gradient_of(problem: InnerProblem, total: torch.Tensor) -> dict[str, torch.Tensor]:
    return params.gradient(total, params.trainable(problem.model))


def weighted(problem: InnerProblem, weights: Weights = OMEGA) -> torch.Tensor:
    batch = problem.batches[0]
    losses = problem.loss(response_log_probs(problem.model, batch))
    return weighted_loss(losses, weights.values, batch.index)


def test_a_step_is_the_gradient_of_the_weighted_loss():
    problem = problem_of()
    params.load(problem.model, problem.origin)
    total = weighted(problem)
    expected = gradient_of(problem, total)
    step, facts = moved(problem)
    torch.testing.assert_close(step, expected)
    assert facts["loss"] == pytest.approx(float(total.detach()))
    assert facts["nll"] == pytest.approx(-facts["loss"])  # GA's loss is the mean log-probability
    assert facts["gradient"] == pytest.approx(params.norm(expected))


def test_the_proximal_term_pulls_back_by_two_lam():
    plain, _ = moved(problem_of(), away=0.05)
    held, _ = moved(problem_of(lam=3.0), away=0.05)
    for name, tensor in held.items():
        torch.testing.assert_close(tensor - plain[name], torch.full_like(tensor, 2 * 3.0 * 0.05))


def test_graddiff_adds_lam_retain_times_the_gradient_of_the_retain_nll():
    problem = problem_of(method="graddiff", retain=3, lam_retain=0.7)
    params.load(problem.model, problem.origin)
    nll = NegativeLogLikelihood()(response_log_probs(problem.model, problem.retain[0])).mean()
    extra = gradient_of(problem, 0.7 * nll)
    plain, _ = moved(problem_of())
    both, facts = moved(problem)
    for name, tensor in both.items():
        torch.testing.assert_close(tensor - plain[name], extra[name])
    assert facts["retain"] == pytest.approx(float(nll.detach()))


def test_a_retain_set_is_not_trained_on_without_its_weight():
    step, facts = moved(problem_of(retain=3))
    plain, _ = moved(problem_of())
    torch.testing.assert_close(step, plain)
    assert "retain" not in facts


def test_clipping_keeps_the_direction_and_tells_the_norm_before():
    free, _ = moved(problem_of())
    clipped, facts = moved(problem_of(max_grad_norm=0.01))
    assert params.norm(clipped) == pytest.approx(0.01)
    assert facts["gradient"] == pytest.approx(params.norm(free))
    cosine = params.dot(free, clipped) / (params.norm(free) * params.norm(clipped))
    assert cosine == pytest.approx(1)


def test_the_expected_minibatch_step_is_the_full_step():
    """Four samples, one a step: the mean over enough draws; every sample must be drawn."""
    full, _ = moved(problem_of())
    problem = problem_of(samples_per_step=1)
    singles = []
    for k in range(4):
        alone = torch.nn.functional.one_hot(torch.tensor(k), 4).double()
        params.load(problem.model, problem.origin)
        singles.append(4 * OMEGA.values[k] * torch.cat(_flat(problem, Weights(alone))))
    expected = torch.stack(singles)
    drawn = [torch.cat([x.flatten() for x in moved(problem, seed=s)[0].values()]) for s in range(8)]
    which = [int((expected - step).norm(dim=1).argmin()) for step in drawn]
    for step, k in zip(drawn, which, strict=True):
        torch.testing.assert_close(step, expected[k])
    assert len(set(which)) > 1
    torch.testing.assert_close(expected.mean(0), torch.cat([x.flatten() for x in full.values()]))


def _flat(problem: InnerProblem, weights: Weights) -> list[torch.Tensor]:
    return [x.flatten() for x in gradient_of(problem, weighted(problem, weights)).values()]


def test_a_gradient_that_is_not_finite_is_refused():
    problem = problem_of()
    state = start(problem, OMEGA)
    with torch.no_grad():
        problem.model.head.weight[0, 0] = math.inf
    with pytest.raises(NumericalError, match=r"Lower inner\.learning_rate"):
        inner_step(problem, OMEGA, state.optimizer, step=0, seed=0)


class Scripted(Objective):
    """An objective whose values are known beforehand, one a measurement."""

    def __init__(self, *values: float):
        self.values = deque(values)

    def value(self, model: torch.nn.Module, *, seed: int) -> Estimate:
        mean = float(self.values.popleft())
        return Estimate(mean, mean, mean, 1)

    def value_and_parts(self, model: torch.nn.Module, *, seed: int, splits: int):
        raise AssertionError("fixed weights need no gradient of J")


def run(problem: InnerProblem, objective: Scripted, **outer: object) -> UnlearnState:
    settings = OuterSettings(**{"steps_per_round": 2, **outer})

    def choose(state: UnlearnState) -> Choice:
        return Choice(objective.value(problem.model, seed=0), uniform(problem.size))

    state = start(problem, uniform(problem.size))
    deque(
        descend(problem, objective, choose, outer=settings, seed=0, state=state),
        maxlen=0,
    )
    return state


def test_the_step_of_the_largest_objective_is_kept():
    problem = problem_of(steps=5, vocabulary=10**6)
    state = run(problem, Scripted(0.1, 0.4, 0.3, 0.4))
    assert [row["step"] for row in state.history] == [0, 2, 4, 5]
    assert (state.best_step, state.best_objective) == (2, 0.4)  # the earlier of two equals
    assert state.ended == "budget used"
    again = run(problem_of(steps=2, vocabulary=10**6), Scripted(0.1, 0.4))
    torch.testing.assert_close(state.best_theta, again.best_theta, rtol=0, atol=0)
    assert any(not torch.equal(state.theta[n], t) for n, t in state.best_theta.items())


def test_a_run_that_only_hurts_keeps_the_origin():
    problem = problem_of(steps=4, vocabulary=10**6)
    state = run(problem, Scripted(0.5, 0.2, 0.1))
    assert state.best_step == 0
    torch.testing.assert_close(state.best_theta, problem.origin, rtol=0, atol=0)


def test_a_broken_nll_bound_ends_the_run_after_three_measurements():
    state = run(problem_of(steps=20, nll_bound=1e-3), Scripted(*range(20)))
    assert state.ended == "negatives' NLL stayed above 0.00"
    assert [row["step"] for row in state.history] == [0, 2, 4, 6]  # none is known at step 0


def test_the_nll_bound_is_that_of_a_uniform_guess_by_default():
    state = run(problem_of(steps=40, learning_rate=2.0, vocabulary=7), Scripted(*range(40)))
    assert state.ended == "negatives' NLL stayed above 1.95"  # ln 7
    assert all(row["nll"] > math.log(7) for row in state.history[-3:])
    assert any(row.get("nll", 0) <= math.log(7) for row in state.history[:-3])


def test_a_retain_loss_that_rises_ends_the_run():
    problem = problem_of(retain=3, steps=40, learning_rate=2.0, retain_bound=0.2, nll_bound=1e9)
    state = run(problem, Scripted(*range(40)))
    assert state.ended == "retain loss rose by more than 0.2"
    rises = [row["retain"] - state.history[0]["retain"] for row in state.history]
    assert rises[-1] > 0.2 >= max(rises[:-1])
    params.load(problem.model, problem.origin)
    first = per_sample_losses(problem.model, list(problem.retain), NegativeLogLikelihood())
    assert state.history[0]["retain"] == pytest.approx(float(first.mean()))


def test_step_seeds_do_not_meet():
    assert len({step_seed(seed, step) for seed in range(5) for step in range(1000)}) == 5000


def test_a_run_ends_when_j_has_not_risen_for_its_patience():
    problem = problem_of(steps=20, vocabulary=10**6)
    state = run(problem, Scripted(0.1, 0.4, 0.3, 0.4, 0.2), patience=2)
    assert [row["step"] for row in state.history] == [0, 2, 4, 6]
    assert state.ended == "J did not rise for 2 rounds"
    assert state.best_step == 2


def test_a_cold_round_starts_at_the_original_model():
    """Each round's steps are those of the first: the same weights give the same model again."""
    problem = problem_of(steps=6, vocabulary=10**6)
    state = run(problem, Scripted(0.1, 0.1, 0.1, 0.1), restart="cold")
    alone = run(problem_of(steps=2, vocabulary=10**6), Scripted(0.1, 0.1))
    for name, tensor in state.theta.items():
        torch.testing.assert_close(tensor, alone.theta[name], rtol=0, atol=0)


def test_the_residual_is_relative_to_the_original_model():
    problem = problem_of(steps=4, vocabulary=10**6)
    history = run(problem, Scripted(0.1, 0.1, 0.1)).history
    fresh = problem_of()
    first = params.norm(gradient_of(fresh, weighted(fresh, uniform(4))))
    for row in history[1:]:
        assert row["residual"] == pytest.approx(row["gradient"] / first)


@pytest.mark.parametrize("retain", [0, 3])
def test_the_hessian_product_is_the_dense_one(retain: int):
    """Σω_i∇²ℓ_i + λ_r∇²NLL_retain by autograd twice, against the central difference."""
    problem = problem_of(retain=retain, lam_retain=0.7 if retain else 0.0)
    theta = params.trainable(problem.model)
    torch.manual_seed(0)
    direction = {name: torch.randn_like(p) for name, p in theta.items()}
    total = weighted(problem)
    if retain:
        rows = response_log_probs(problem.model, problem.retain[0])
        total = total + 0.7 * NegativeLogLikelihood()(rows).mean()
    first = torch.autograd.grad(total, list(theta.values()), create_graph=True)
    along = sum((g * direction[n]).sum() for n, g in zip(theta, first, strict=True))
    exact = torch.autograd.grad(along, list(theta.values()))
    found = hessian_product(problem, OMEGA)(direction)
    for name, tensor in zip(theta, exact, strict=True):
        torch.testing.assert_close(found[name], tensor, rtol=1e-6, atol=1e-8)
    for name, tensor in theta.items():
        assert torch.equal(tensor, problem.origin[name])


@pytest.mark.parametrize(
    ("command", "ended", "wanted"),
    [
        ("reweight", "budget used", "smaller inner.learning_rate (it was 0.05)"),
        ("unlearn", "J did not rise for 3 rounds", "ended early: J did not rise for 3 rounds"),
        ("baseline", "budget used", "smaller baseline.learning_rate (it was 1e-05)"),
    ],
)
def test_a_descent_that_never_raised_j_says_how_far_it_fell(command: str, ended: str, wanted: str):
    history = [{"step": 2.0 * n, "objective": -0.693 - 0.01 * n} for n in range(4)]
    state = SimpleNamespace(best_step=0, history=history, ended=ended)
    experiment = SimpleNamespace(settings=Settings())
    (said,) = _unmoved(command, experiment, state)
    assert "No step raised J: the saved model is the original." in said
    assert "measured (3): from -0.693 to -0.723 at step 6" in said
    assert wanted in said
    history[1]["objective"] = -0.693  # not below: then it did not fall everywhere
    assert "J fell" not in _unmoved(command, experiment, state)[0]
    state.best_step = 2
    assert _unmoved(command, experiment, state) == []


@pytest.mark.parametrize(("dtype", "rate", "lost"), [
    ("float32", 1e-6, None), ("bfloat16", 1e-6, 1.0), ("bfloat16", 10.0, 0.0),
])  # fmt: skip
def test_steps_that_sixteen_bits_swallow_are_told(dtype: str, rate: float, lost: float | None):
    """Weights in bfloat16 do not move by less than 0.2 % of themselves."""
    problem = problem_of(learning_rate=rate, steps=2, vocabulary=10**6)
    problem.model.to(getattr(torch, dtype))
    with torch.no_grad():
        for p in problem.model.parameters():
            p.fill_(0.5)
            p[..., ::2] = 0.25
    problem = replace(problem, origin=params.snapshot(params.trainable(problem.model)))
    state = run(problem, Scripted(0, 1))
    found = state.history[-1].get("rounded_away")
    assert found == lost if lost in (None, 1.0) else found < 0.1
    for command, setting in (("unlearn", "inner.learning_rate 0.05"),
                             ("baseline", "baseline.learning_rate 1e-05")):  # fmt: skip
        said = " ".join(_rounded(command, SimpleNamespace(settings=Settings()), state))
        assert (setting in said) == (lost == 1.0)
    assert ("Up to 100% of the trained weights stood still" in said) == (lost == 1.0)
