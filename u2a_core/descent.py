"""A run of inner steps: the budget, the measurement of J, the step that is kept, the guards.

Every arm that is compared goes through `descend`: the same budget, the same rule for the step that
is kept (the largest J on its own prompts or pairs) and the same guards against collapse. Only the
weights differ: `follow`ing fixed ones gives the baselines, following a path replays a `reweight`
run, and `reweight` chooses them as it goes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from u2a_core import params
from u2a_core.config import OuterSettings
from u2a_core.losses import NegativeLogLikelihood, per_sample_losses
from u2a_core.objectives import Objective
from u2a_core.types import Estimate, GainReport, Weights
from u2a_core.unlearn import InnerProblem, inner_step, step_seed

if TYPE_CHECKING:
    from u2a_core.types import Parameters

_PATIENCE = 3
"""Measurements in a row for which the NLL bound must be broken before a run is ended."""
_PATHS = ("weight_path", "slope_path", "gain_path")
_FACTS = (
    "step",
    "history",
    "best_step",
    "best_objective",
    "breaches",
    "last",
    "ended",
    "identity_error",
    "at_origin",
    "parts",
)


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
        identity_error: |Σ_k s_k − v·∇Σ_k ℓ_k| / Σ_k |s_k| of the first round, where it was checked.
        first_errors: standard errors of the first round's gains, from so many `parts` of J.
        at_origin: norm of the inner problem's gradient at θ₀, by which residuals are measured.
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
    identity_error: float | None = None
    first_errors: Float[Tensor, " n"] | None = None
    parts: int = 0
    at_origin: float = 0.0


def start(problem: InnerProblem, weights: Weights) -> UnlearnState:
    """The state at θ₀."""
    theta = params.trainable(problem.model)
    params.load(problem.model, problem.origin)
    return UnlearnState(theta, _optimizer(problem), weights, params.snapshot(problem.origin))


def _optimizer(problem: InnerProblem) -> torch.optim.Optimizer:
    theta = params.trainable(problem.model)
    family = torch.optim.SGD if problem.settings.optimizer == "sgd" else torch.optim.AdamW
    return family(theta.values(), lr=problem.settings.learning_rate, weight_decay=0.0)


def descend(
    problem: InnerProblem,
    objective: Objective,
    choose: Callable[[UnlearnState], Choice],
    *,
    outer: OuterSettings,
    seed: int,
    state: UnlearnState,
) -> Iterator[UnlearnState]:
    """Moves θ by the budget of inner steps; yields the state after every one.

    Args:
        problem: the inner problem.
        objective: J; measured before every round and at the end.
        choose: measures J at θ and decides the weights, before each round.
        outer: inner steps of a round, whether it starts again at θ₀, and when J has stopped rising.
        seed: of the objective's samples, and of minibatches if `samples_per_step` asks for them.
        state: where to begin; `start` or a checkpoint.
    """
    budget = problem.settings.steps
    while not state.ended:
        starts = state.step % outer.steps_per_round == 0
        if state.step >= budget:
            last = objective.value(problem.model, seed=step_seed(seed, state.step))
            _record(problem, state, Choice(last, state.weights), outer)
            state.ended = state.ended or "budget used"
        elif starts:
            _begin_round(problem, state, choose(state), outer)
        if not state.ended:
            state.last = inner_step(
                problem, state.weights, state.optimizer, step=state.step, seed=seed
            )
            if state.step == 0 or (starts and outer.restart == "cold"):
                state.at_origin = state.last["gradient"]
            state.last["residual"] = state.last["gradient"] / max(state.at_origin, 1e-30)
            state.step += 1
        yield state


def _begin_round(
    problem: InnerProblem, state: UnlearnState, choice: Choice, outer: OuterSettings
) -> None:
    """Takes over what was chosen; a cold round goes back to θ₀."""
    state.weights = choice.weights
    _record(problem, state, choice, outer)
    state.weight_path.append(choice.weights.values)
    if choice.report is not None:
        state.slope_path.append(choice.report.slopes)
        state.gain_path.append(choice.report.gains)
        if state.step == 0:
            state.identity_error = choice.report.identity_error
            state.first_errors, state.parts = choice.report.errors, choice.report.parts
    if outer.restart == "cold" and state.step > 0 and not state.ended:
        params.load(problem.model, problem.origin)
        state.optimizer = _optimizer(problem)


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


def _record(
    problem: InnerProblem, state: UnlearnState, choice: Choice, outer: OuterSettings
) -> None:
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
    if choice.report is not None:
        solve = choice.report.solve.facts()
        row |= {f"solve_{name}": float(value) for name, value in solve.items()}
    if problem.retain:
        row["retain"] = float(
            per_sample_losses(problem.model, list(problem.retain), NegativeLogLikelihood()).mean()
        )
    state.history.append(row)
    if choice.objective.mean > state.best_objective:
        state.best_objective, state.best_step = choice.objective.mean, state.step
        state.best_theta = params.snapshot(state.theta)
    state.ended = _collapse(problem, state, row) or _standstill(state, outer)


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


def _standstill(state: UnlearnState, outer: OuterSettings) -> str:
    """Whether J has stopped rising on its own prompts."""
    rounds = (state.step - state.best_step) / outer.steps_per_round
    if outer.patience and rounds >= outer.patience:
        return f"J did not rise for {outer.patience} rounds"
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
    if state.first_errors is not None:
        tensors["first_errors"] = state.first_errors
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
    state.first_errors = tensors.get("first_errors")
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
