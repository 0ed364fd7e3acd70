"""The inner problem: θ moves under given weights ω (Eqs. 2, 3, 6).

    min_θ  Σ_i ω_i ℓ_i(θ) + λ_r·NLL_retain(θ) + λ‖θ − θ₀‖²

by a budget of gradient steps. Every arm that is compared goes through `descend`: the same
budget, the same measurement of J, the same rule for the step that is kept (the largest J on the
preference prompts) and the same guards against collapse. Only the weights differ: `fixed` ones
are the baselines, a path replays a `reweight` run, and `reweight` chooses them as it goes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from u2a_core import params
from u2a_core.config import InnerSettings
from u2a_core.errors import NumericalError
from u2a_core.losses import (
    NegativeLogLikelihood,
    per_sample_losses,
    response_log_probs,
    weighted_loss,
)
from u2a_core.objectives import Objective
from u2a_core.types import (
    Batch,
    Estimate,
    GainReport,
    PerSampleLoss,
    TokenLogProbs,
    Weights,
)

if TYPE_CHECKING:
    from u2a_core.types import Parameters

_PATIENCE = 3
"""Measurements in a row for which the NLL bound must be broken before a run is ended."""


@dataclass(frozen=True)
class InnerProblem:
    """What is minimized over θ once ω is given.

    Attributes:
        model: the policy; its trainable parameters are θ, and are moved in place.
        batches: the negative samples.
        loss: ℓ_i.
        settings: step size, budget, λ, λ_r and the guards.
        origin: θ₀.
        retain: batches of the retain set; watched by the guards, and trained on where
            `settings.method` is graddiff.
        vocabulary: size V; ln V is the NLL of a uniform guess, the default collapse bound.
    """

    model: nn.Module
    batches: tuple[Batch, ...]
    loss: PerSampleLoss
    settings: InnerSettings
    origin: Parameters
    retain: tuple[Batch, ...] = ()
    vocabulary: int = 0

    @property
    def size(self) -> int:
        """n, the number of negative samples."""
        return sum(len(batch.index) for batch in self.batches)

    @property
    def retain_weight(self) -> float:
        """λ_r where the method has a retain term, else 0."""
        return self.settings.lam_retain if self.settings.method == "graddiff" else 0.0


@dataclass(frozen=True)
class Choice:
    """What is decided before an inner step: J(θ), the weights, and the gains behind them."""

    objective: Estimate
    weights: Weights
    report: GainReport | None = None


@dataclass
class UnlearnState:
    """Where a run stands: enough to continue it to the identical result.

    Attributes:
        step: inner steps done.
        theta: θ, the model's own tensors (live).
        optimizer: of the inner problem (live).
        weights: ω of the next step.
        history: one row per measurement of J.
        weight_path: ω of each round, in order.
        slope_path: ⟨u, ∇ℓ_k⟩ of each round that scored the samples.
        gain_path: Δg of each such round.
        best_step: the step of the largest J so far; `best_theta` is θ there.
        breaches: measurements in a row with the NLL bound broken.
        ended: why the run is over; empty while it is not.
    """

    theta: Parameters
    optimizer: torch.optim.Optimizer
    weights: Weights
    best_theta: Parameters
    step: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    weight_path: list[Float[Tensor, " n"]] = field(default_factory=list)
    slope_path: list[Float[Tensor, " n"]] = field(default_factory=list)
    gain_path: list[Float[Tensor, " n"]] = field(default_factory=list)
    best_step: int = 0
    best_objective: float = -math.inf
    breaches: int = 0
    last: dict[str, float] = field(default_factory=dict)
    ended: str = ""


def step_seed(seed: int, step: int) -> int:
    """The seed of whatever is drawn at a step: the same for every arm that is compared."""
    return seed * 1_000_003 + step


def start(problem: InnerProblem, weights: Weights) -> UnlearnState:
    """The state at θ₀."""
    theta = params.trainable(problem.model)
    params.load(problem.model, problem.origin)
    family = torch.optim.SGD if problem.settings.optimizer == "sgd" else torch.optim.AdamW
    optimizer = family(theta.values(), lr=problem.settings.learning_rate, weight_decay=0.0)
    return UnlearnState(theta, optimizer, weights, params.snapshot(problem.origin))


def descend(
    problem: InnerProblem,
    objective: Objective,
    choose: Callable[[UnlearnState], Choice],
    *,
    steps_per_round: int,
    seed: int,
    state: UnlearnState,
) -> Iterator[UnlearnState]:
    """Moves θ by the budget of inner steps; yields the state after every one.

    Args:
        problem: the inner problem.
        objective: J; measured every `steps_per_round` steps and at the end.
        choose: measures J at θ and decides the weights, before each round.
        steps_per_round: inner steps under the same weights.
        seed: of the objective's samples, and of minibatches if `samples_per_step` asks for them.
        state: where to begin; `start` or a checkpoint.
    """
    budget = problem.settings.steps
    while not state.ended:
        if state.step >= budget:
            last = objective.value(problem.model, seed=step_seed(seed, state.step))
            _record(problem, state, Choice(last, state.weights))
            state.ended = state.ended or "budget used"
        elif state.step % steps_per_round == 0:
            choice = choose(state)
            state.weights = choice.weights
            _record(problem, state, choice)
            state.weight_path.append(choice.weights.values)
            if choice.report is not None:
                state.slope_path.append(choice.report.slopes)
                state.gain_path.append(choice.report.gains)
        if not state.ended:
            state.last = inner_step(problem, state, seed=seed)
            state.step += 1
        yield state


def follow(
    model: nn.Module, objective: Objective, path: Sequence[Weights], *, seed: int
) -> Callable[[UnlearnState], Choice]:
    """Weights known beforehand, one per round (the last one holds on); J is only measured.

    One element gives the baselines; a reweight run's path gives that run's model again.
    """

    def choose(state: UnlearnState) -> Choice:
        weights = path[min(len(state.weight_path), len(path) - 1)]
        return Choice(objective.value(model, seed=step_seed(seed, state.step)), weights)

    return choose


def inner_step(problem: InnerProblem, state: UnlearnState, *, seed: int) -> dict[str, float]:
    """One gradient step on the inner problem, in place.

    Returns:
        nll: weighted mean NLL of the negatives before the step; loss: Σω_iℓ_i; retain: retain
        NLL where it is trained on; gradient: norm before clipping.

    Raises:
        NumericalError: if the gradient is not finite.
    """
    totals = {"loss": 0.0, "nll": 0.0}
    drawn, factor = _minibatch(problem, state, seed)
    gradient: Parameters | None = None
    for batch in problem.batches:
        keep = drawn[batch.index.cpu()]
        if not bool(keep.any()):
            continue
        rows = batch.select(keep)
        log_probs = response_log_probs(problem.model, rows)
        loss = factor * weighted_loss(problem.loss(log_probs), state.weights.values, rows.index)
        gradient = params.accumulate(gradient, params.gradient(loss, state.theta))
        totals["loss"] += float(loss.detach())
        totals["nll"] += factor * _weighted_nll(log_probs, state.weights, rows)
    assert gradient is not None
    if problem.retain_weight:
        totals["retain"] = _add_retain(problem, state, gradient)
    if problem.settings.lam:
        for name, p in state.theta.items():
            gradient[name].add_(p.detach() - problem.origin[name], alpha=2 * problem.settings.lam)
    totals["gradient"] = _apply(problem.settings, state, gradient)
    return totals


def _weighted_nll(log_probs: TokenLogProbs, weights: Weights, rows: Batch) -> float:
    return float(weighted_loss(-log_probs.means().detach(), weights.values, rows.index))


def _minibatch(
    problem: InnerProblem, state: UnlearnState, seed: int
) -> tuple[Bool[Tensor, " n"], float]:
    """The samples of this step, and the factor that keeps the expected gradient."""
    support = state.weights.support
    chosen = support.nonzero().squeeze(1)
    size = problem.settings.samples_per_step
    if size == 0 or size >= len(chosen):
        return support, 1.0
    generator = torch.Generator().manual_seed(step_seed(seed, state.step))
    order = torch.randperm(len(chosen), generator=generator)[:size]
    drawn = torch.zeros_like(support).index_fill(0, chosen[order], True)
    return drawn, len(chosen) / size


def _add_retain(problem: InnerProblem, state: UnlearnState, gradient: Parameters) -> float:
    """Adds λ_r·∇NLL_retain to the gradient; returns the retain NLL."""
    count = sum(len(batch.index) for batch in problem.retain)
    total = 0.0
    for batch in problem.retain:
        nll = NegativeLogLikelihood()(response_log_probs(problem.model, batch)).sum() / count
        part = params.gradient(problem.retain_weight * nll, state.theta)
        params.accumulate(gradient, part)
        total += float(nll.detach())
    return total


def _apply(settings: InnerSettings, state: UnlearnState, gradient: Parameters) -> float:
    """Clips and takes the optimizer's step; returns the norm before clipping."""
    length = params.norm(gradient)
    if not math.isfinite(length):
        raise NumericalError(
            f"The inner gradient must be finite; got norm {length} at step {state.step}. "
            "Lower inner.learning_rate."
        )
    factor = min(1.0, settings.max_grad_norm / max(length, 1e-30))
    for name, p in state.theta.items():
        p.grad = gradient[name] * factor
    state.optimizer.step()
    state.optimizer.zero_grad()
    return length


def _record(problem: InnerProblem, state: UnlearnState, choice: Choice) -> None:
    """Adds a row of history, keeps the best θ, and ends the run where a guard says so."""
    row = {
        "step": float(state.step),
        "objective": choice.objective.mean,
        "objective_low": choice.objective.low,
        "objective_high": choice.objective.high,
        "objective_n": float(choice.objective.n),
        "effective_samples": choice.weights.effective_samples(),
        "support": float(choice.weights.support.sum()),
        **state.last,
    }
    if problem.retain:
        row["retain"] = float(
            per_sample_losses(problem.model, list(problem.retain), NegativeLogLikelihood()).mean()
        )
    state.history.append(row)
    if choice.objective.mean > state.best_objective:
        state.best_objective, state.best_step = choice.objective.mean, state.step
        state.best_theta = params.snapshot(state.theta)
    state.ended = _collapse(problem, state, row)


def _collapse(problem: InnerProblem, state: UnlearnState, row: dict[str, float]) -> str:
    """Why the run must end now; empty if it need not."""
    bound = problem.settings.nll_bound or math.log(max(problem.vocabulary, 2))
    state.breaches = state.breaches + 1 if row.get("nll", 0.0) > bound else 0
    if state.breaches >= _PATIENCE:
        return f"negatives' NLL stayed above {bound:.2f}"
    first = state.history[0].get("retain")
    if first is not None and row["retain"] - first > problem.settings.retain_bound:
        return f"retain loss rose by more than {problem.settings.retain_bound:g}"
    return ""


def pack(state: UnlearnState) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The state as named tensors and plain facts, for a checkpoint; `unpack` inverts it."""
    tensors = {"weights": state.weights.values}
    for kind, point in (("theta", state.theta), ("best", state.best_theta)):
        tensors |= {f"{kind}.{name}": tensor.detach() for name, tensor in point.items()}
    for name in _PATHS:
        rounds = getattr(state, name)
        if rounds:
            tensors[name] = torch.stack(rounds)
    for number, slots in state.optimizer.state_dict()["state"].items():
        tensors |= {
            f"optimizer.{number}.{key}": value for key, value in slots.items() if value is not None
        }
    return tensors, {name: getattr(state, name) for name in _FACTS}


def unpack(
    problem: InnerProblem, tensors: dict[str, Tensor], facts: dict[str, Any]
) -> UnlearnState:
    """The state that `pack` took apart, with θ put into the model."""
    state = start(problem, Weights(tensors["weights"]))
    for name in _FACTS:
        setattr(state, name, facts[name])
    for name in _PATHS:
        setattr(state, name, list(tensors[name]) if name in tensors else [])
    device = next(iter(state.theta.values())).device
    params.load(problem.model, {name: tensors[f"theta.{name}"] for name in state.theta})
    state.best_theta = {name: tensors[f"best.{name}"].to(device) for name in state.theta}
    slots: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, number, key = name.split(".")
            slots.setdefault(int(number), {})[key] = tensor
    groups = state.optimizer.state_dict()["param_groups"]
    state.optimizer.load_state_dict({"state": slots, "param_groups": groups})
    return state


_PATHS = ("weight_path", "slope_path", "gain_path")
_FACTS = ("step", "history", "best_step", "best_objective", "breaches", "last", "ended")
