"""What must be the same, is: Eq. 8 against a finite difference, and the named equivalences."""

from collections import deque
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from u2a_core import params
from u2a_core.config import InnerSettings, OuterSettings
from u2a_core.curvature import ConjugateGradient
from u2a_core.descent import descend, follow, pack, start, unpack
from u2a_core.directional import slopes
from u2a_core.losses import (
    NPO,
    GradientAscent,
    NegativeLogLikelihood,
    response_log_probs,
    sequence_log_probs,
    weighted_loss,
)
from u2a_core.objectives import PreferenceObjective
from u2a_core.reweight import Scorer, mirror_descent
from u2a_core.testing import TinyPolicy, random_batch
from u2a_core.types import Batch, PerSampleLoss, Weights
from u2a_core.unlearn import InnerProblem, hessian_product
from u2a_core.weights import marginal_gain, uniform, uniform_over

LAM = 2.0
SPARSITY = 0.05


def preference(model: TinyPolicy) -> PreferenceObjective:
    batch = random_batch(8, seed=5)
    return PreferenceObjective((batch,), sequence_log_probs(model, [batch]), 0.5)


def problem_of(
    model: TinyPolicy,
    batch: Batch,
    *,
    method: str = "npo",
    retain: tuple[Batch, ...] = (),
    **options: float,
) -> InnerProblem:
    settings = InnerSettings(method=method, **{"steps": 6, "learning_rate": 0.2, **options})
    loss: PerSampleLoss = GradientAscent()
    if method == "npo":
        loss = NPO(settings.npo_beta, sequence_log_probs(model, [batch]))
    origin = params.snapshot(params.trainable(model))
    return InnerProblem(model, (batch,), loss, settings, origin, retain=retain, vocabulary=10**6)


def run(problem: InnerProblem, weights: Weights, rounds: Callable | None = None):
    objective = preference_at_origin(problem)
    choose = rounds or follow(problem.model, objective, [weights], seed=0)
    state = start(problem, weights)
    deque(
        descend(
            problem, objective, choose, outer=OuterSettings(steps_per_round=2), seed=0, state=state
        ),
        maxlen=0,
    )
    return state


def preference_at_origin(problem: InnerProblem) -> PreferenceObjective:
    params.load(problem.model, problem.origin)
    return preference(problem.model)


def solve(problem: InnerProblem, omega: torch.Tensor) -> None:
    """θ*(ω) by its fixed point, with the retain term if there is one; ω need not sum to 1."""
    theta = params.trainable(problem.model)
    params.load(problem.model, problem.origin)
    for _ in range(400):
        losses = problem.loss(response_log_probs(problem.model, problem.batches[0]))
        total = weighted_loss(losses, omega, problem.batches[0].index)
        for batch in problem.retain:
            rows = response_log_probs(problem.model, batch)
            total = total + problem.retain_weight * NegativeLogLikelihood()(rows).mean()
        grads = params.gradient(total, theta)
        params.load(problem.model, params.axpy(-0.5 / LAM, grads, problem.origin))


def outer(problem: InnerProblem, objective: PreferenceObjective, omega: torch.Tensor) -> float:
    """g(ω) = −J(θ*(ω)) + β Σ√ω (Eq. 5)."""
    solve(problem, omega)
    return -objective.value(problem.model, seed=0).mean + SPARSITY * float(omega.sqrt().sum())


@pytest.mark.parametrize("method", ["ga", "graddiff", "npo"])
def test_gains_are_finite_differences_of_the_whole_bi_level_objective(method: str):
    """Scorer with conjugate gradients on the full H, for each L_R; re-solved at ω ± ε."""
    model, batch = TinyPolicy(), random_batch(5, seed=1)
    retain = (random_batch(4, seed=9),) if method == "graddiff" else ()
    problem = problem_of(model, batch, method=method, lam=LAM, retain=retain)
    settings = OuterSettings(curvature="cg", sparsity=SPARSITY)
    scorer = Scorer(problem, preference(model), settings)
    omega = torch.tensor([0.1, 0.3, 0.2, 0.25, 0.15], dtype=torch.float64)
    solve(problem, omega)
    report = scorer(Weights(omega), seed=0)
    assert report.solve.converged
    assert report.solve.damping == 0
    for k in range(5):
        bump = 1e-5 * torch.nn.functional.one_hot(torch.tensor(k), 5)
        ahead = outer(problem, scorer.objective, omega + bump)
        behind = outer(problem, scorer.objective, omega - bump)
        assert float(report.gains[k]) == pytest.approx(-(ahead - behind) / 2e-5, rel=1e-4)


@pytest.mark.parametrize("method", ["ga", "npo"])
def test_conjugate_gradients_are_the_dense_inverse_of_the_inner_hessian(method: str):
    model, batch = TinyPolicy(), random_batch(5, seed=1)
    problem = problem_of(model, batch, method=method, lam=LAM)
    objective = preference(model)
    omega = Weights(torch.tensor([0.1, 0.3, 0.2, 0.25, 0.15], dtype=torch.float64))
    exact = dense_inverse_gradient(problem, objective, omega.values)
    _, gradient = objective.value_and_gradient(model, seed=0)
    found = ConjugateGradient(LAM, tolerance=1e-10).solve(
        gradient, product=hessian_product(problem, omega)
    )
    error = params.axpy(-1.0, exact, found.value)
    assert params.norm(error) <= 1e-6 * params.norm(exact)


def test_standard_errors_of_gains_are_those_of_independent_prompts():
    """Parts of one prompt each: the error of Σ_p s_p is √(P·Var_p), Var over prompts."""
    model, batch = TinyPolicy(), random_batch(6, seed=1)
    problem = problem_of(model, batch, method="ga", lam=LAM)
    objective = preference(model)
    report = Scorer(problem, objective, splits=4)(uniform(6), seed=0, check=True)
    _, parts = objective.value_and_parts(model, seed=0, splits=4)
    pieces = torch.stack(
        [
            slopes(model, [batch], problem.loss, along=params.scale(part, 0.5 / LAM))
            for part in parts
        ]
    )
    assert report.parts == 4
    torch.testing.assert_close(report.slopes, pieces.sum(0))
    torch.testing.assert_close(report.errors, (4 * pieces.var(0)).sqrt())


@pytest.mark.parametrize("splits", [2, 4])
def test_pairs_of_one_prompt_count_once(splits: int):
    """Each pair thrice, as pairs of one prompt: the same J, gains, intervals and errors."""
    model, batch = TinyPolicy(), random_batch(6, seed=1)
    problem = problem_of(model, batch, method="ga", lam=LAM)
    once = preference(model)
    rows = [once.batches[0].select(torch.ones(8, dtype=torch.bool)) for _ in range(3)]
    thrice = PreferenceObjective(
        tuple(replace(own, index=own.index + 8 * i) for i, own in enumerate(rows)),
        once.reference_log_probs.repeat(3),
        once.dpo_beta,
        torch.arange(4).repeat(3),
    )
    found, expected = (
        Scorer(problem, objective, splits=splits)(uniform(6), seed=0, check=True)
        for objective in (thrice, once)
    )
    assert found.parts == expected.parts == splits
    torch.testing.assert_close(found.gains, expected.gains)
    torch.testing.assert_close(found.errors, expected.errors)
    assert found.objective.n == 4
    assert found.objective.high == pytest.approx(expected.objective.high)
    naive = Scorer(problem, replace(thrice, prompt_of=None), splits=12)
    assert float(naive(uniform(6), seed=0, check=True).errors.mean()) < 0.7 * float(
        Scorer(problem, once, splits=4)(uniform(6), seed=0, check=True).errors.mean()
    )


class At(torch.nn.Module):
    """The model at a point θ that autograd follows."""

    def __init__(self, model: torch.nn.Module, point: dict[str, torch.Tensor]):
        super().__init__()
        self.model, self.point = model, point

    def forward(self, **inputs: torch.Tensor):
        return torch.func.functional_call(self.model, self.point, (), inputs)


def dense_inverse_gradient(
    problem: InnerProblem, objective: PreferenceObjective, omega: torch.Tensor, lam: float = LAM
) -> dict[str, torch.Tensor]:
    """H⁻¹∇J with H = Σω_i∇²ℓ_i + 2λI formed densely."""
    theta = params.trainable(problem.model)
    names, flat = list(theta), torch.cat([p.detach().flatten() for p in theta.values()])
    shapes = [p.shape for p in theta.values()]

    def total(vector: torch.Tensor) -> torch.Tensor:
        pieces = vector.split([s.numel() for s in shapes])
        point = {n: x.view(s) for n, x, s in zip(names, pieces, shapes, strict=True)}
        batch = problem.batches[0]
        losses = problem.loss(response_log_probs(At(problem.model, point), batch))
        return weighted_loss(losses, omega, batch.index)

    hessian = torch.autograd.functional.hessian(total, flat)
    hessian += 2 * lam * torch.eye(len(flat), dtype=flat.dtype)
    _, gradient = objective.value_and_gradient(problem.model, seed=0)
    right = torch.cat([gradient[n].flatten() for n in names])
    solution = torch.linalg.solve(hessian, right).split([s.numel() for s in shapes])
    return {n: x.view(s) for n, x, s in zip(names, solution, shapes, strict=True)}


@pytest.mark.parametrize("method", ["ga", "npo"])
def test_eq_8_is_the_finite_difference_of_the_bi_level_objective(method: str):
    model = TinyPolicy()
    batch = random_batch(5, seed=1)
    problem = problem_of(model, batch, method=method)
    objective = preference(model)
    omega = torch.tensor([0.1, 0.3, 0.2, 0.25, 0.15], dtype=torch.float64)
    solve(problem, omega)
    direction = dense_inverse_gradient(problem, objective, omega)
    values = slopes(model, [batch], problem.loss, along=direction)
    gains = marginal_gain(values, Weights(omega), sparsity=SPARSITY)
    for k in range(5):
        bump = 1e-5 * torch.nn.functional.one_hot(torch.tensor(k), 5)
        ahead = outer(problem, objective, omega + bump)
        behind = outer(problem, objective, omega - bump)
        assert float(gains[k]) == pytest.approx(-(ahead - behind) / 2e-5, rel=1e-5)


@pytest.mark.parametrize("method", ["ga", "npo"])
def test_ridge_gains_tend_to_the_exact_ones_as_lam_grows(method: str):
    """What Ridge leaves out of H is Σω_i∇²ℓ_i: a share of the gains that falls as 1/λ."""
    model, batch = TinyPolicy(), random_batch(5, seed=1)

    def error(lam: float) -> float:
        problem = problem_of(model, batch, method=method, lam=lam)
        scorer = Scorer(problem, preference(model))
        report = scorer(uniform(5), seed=0, check=True)
        assert report.identity_error < 1e-10
        direction = dense_inverse_gradient(problem, scorer.objective, uniform(5).values, lam)
        exact = -slopes(model, [batch], problem.loss, along=direction)
        return float((report.gains - exact).norm() / exact.norm())

    coarse, fine = error(100.0), error(1000.0)
    assert coarse < 0.1
    assert fine == pytest.approx(coarse / 10, rel=0.1)


def test_uniform_weight_u2a_is_the_baseline():
    def final(choice: str):
        problem = problem_of(TinyPolicy(), random_batch(6, seed=2))
        scorer = Scorer(problem, preference_at_origin(problem))
        still = mirror_descent(scorer, OuterSettings(step_size=0), seed=0)
        return run(problem, uniform(6), still if choice == "u2a" else None)

    ours, baseline = final("u2a"), final("baseline")
    for row, plain in zip(ours.history, baseline.history, strict=True):
        assert {name: row[name] for name in plain} == plain
    for name, tensor in ours.theta.items():
        assert torch.equal(tensor, baseline.theta[name])


def test_replayed_path_gives_the_same_model():
    problem = problem_of(TinyPolicy(), random_batch(6, seed=2))
    objective = preference_at_origin(problem)
    choose = mirror_descent(Scorer(problem, objective), OuterSettings(step_size=0.5), seed=0)
    ours = run(problem, uniform(6), choose)
    reached = params.snapshot(ours.theta)
    path = [Weights(values) for values in ours.weight_path]
    again = run(problem, path[0], follow(problem.model, objective, path, seed=0))
    assert again.best_step == ours.best_step
    assert all(torch.equal(again.theta[name], tensor) for name, tensor in reached.items())


def test_all_weight_on_one_sample_is_training_on_it_alone():
    batch = random_batch(4, seed=3)
    alone = batch.select(batch.index == 2)
    alone = Batch(**{**vars(alone), "index": torch.zeros(1, dtype=torch.long)})
    one = run(problem_of(TinyPolicy(), batch, method="ga"), uniform_over(batch.index == 2))
    other = run(problem_of(TinyPolicy(), alone, method="ga"), uniform(1))
    for name, tensor in one.theta.items():
        torch.testing.assert_close(tensor, other.theta[name], rtol=1e-12, atol=1e-12)


def test_a_sample_listed_twice_with_its_weight_split_is_the_sample_once():
    once = random_batch(3, seed=4)
    rows = torch.tensor([0, 1, 2, 2])
    twice = Batch(**{k: v[rows] for k, v in vars(once).items()} | {"index": torch.arange(4)})
    split = Weights(torch.tensor([0.2, 0.3, 0.25, 0.25], dtype=torch.float64))
    whole = Weights(torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64))
    a = run(problem_of(TinyPolicy(), twice), split)
    b = run(problem_of(TinyPolicy(), once), whole)
    for name, tensor in a.theta.items():
        torch.testing.assert_close(tensor, b.theta[name], rtol=1e-12, atol=1e-12)


def test_stepping_in_batches_of_two_is_stepping_in_one():
    batch = random_batch(6, seed=2)
    pairs = tuple(batch.select((batch.index // 2) == i) for i in range(3))
    whole = problem_of(TinyPolicy(), batch)
    parts = InnerProblem(**{**vars(problem_of(TinyPolicy(), batch)), "batches": pairs})
    a, b = run(whole, uniform(6)), run(parts, uniform(6))
    for name, tensor in a.theta.items():
        torch.testing.assert_close(tensor, b.theta[name], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("stop", [1, 3, 4])
def test_resumed_is_uninterrupted(optimizer: str, stop: int):
    def machine():
        problem = problem_of(TinyPolicy(), random_batch(6, seed=2), optimizer=optimizer)
        objective = preference_at_origin(problem)
        choose = mirror_descent(Scorer(problem, objective), OuterSettings(step_size=0.5), seed=0)
        return problem, objective, choose

    problem, objective, choose = machine()
    whole = run(problem, uniform(6), choose)
    problem, objective, choose = machine()
    going = descend(
        problem,
        objective,
        choose,
        outer=OuterSettings(steps_per_round=2),
        seed=0,
        state=start(problem, uniform(6)),
    )
    for _ in range(stop):
        state = next(going)
    tensors, facts = pack(state)
    saved = {name: tensor.clone() for name, tensor in tensors.items()}
    problem, objective, choose = machine()
    state = unpack(problem, saved, dict(facts))
    deque(
        descend(
            problem, objective, choose, outer=OuterSettings(steps_per_round=2), seed=0, state=state
        ),
        maxlen=0,
    )
    assert state.history == whole.history
    assert torch.equal(torch.stack(state.gain_path), torch.stack(whole.gain_path))
    for name, tensor in state.best_theta.items():
        assert torch.equal(tensor, whole.best_theta[name])
