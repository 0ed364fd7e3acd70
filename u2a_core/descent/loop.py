"""A run of inner steps: the budget, the measurement of J, the step that is kept, the guards.

Every arm that is compared goes through `descend`: the same budget, the same rule for the step that
is kept (the largest J on its own prompts or pairs) and the same guards against collapse. Two
functions make the difference. What a step does: unlearn under the weights, or else what
`u2a_core.baselines` gives. And how the weights come about: `follow`ing fixed ones gives uniform
unlearning, following a path replays a `reweight` run, and `reweight` chooses them as it goes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

from torch import nn

from u2a_core import params
from u2a_core.config import OuterSettings
from u2a_core.descent.state import Choice, Ending, UnlearnState, optimizer_of
from u2a_core.losses import NegativeLogLikelihood, per_sample_losses
from u2a_core.objectives import Objective
from u2a_core.types import Weights
from u2a_core.unlearn import InnerProblem, inner_step, step_seed

_PATIENCE = 3
"""Measurements in a row for which the NLL bound must be broken before a run is ended."""

Step: TypeAlias = Callable[[UnlearnState], dict[str, float]]
"""Moves θ once, in place, by the state's optimizer; returns facts for the history, among them the
norm of the gradient. It draws by the state's step alone, so that a resumed run draws the same."""


def descend(
    problem: InnerProblem,
    objective: Objective,
    choose: Callable[[UnlearnState], Choice],
    *,
    outer: OuterSettings,
    seed: int,
    state: UnlearnState,
    step: Step | None = None,
    ending: Ending = Ending(),  # noqa: B008 - frozen
) -> Iterator[UnlearnState]:
    """Moves θ by the budget of steps; yields the state after every one, with its ledger.

    Args:
        problem: the inner problem.
        objective: J; measured before every round and at the end.
        choose: measures J at θ and decides the weights, before each round.
        outer: inner steps of a round, whether it starts again at θ₀, and when J has stopped rising.
        seed: of the objective's samples, and of minibatches if `samples_per_step` asks for them.
        state: where to begin; `start` or a checkpoint.
        step: what moves θ; default: one gradient step on the inner problem.
        ending: the bound of tokens, and which step is kept. Where a bound ends the run, J is
            measured once more, so that the last step can be kept.
    """
    step = step or unlearning(problem, seed=seed)
    while not state.ended:
        with state.ledger.counting(problem.model):
            starts = state.step % outer.steps_per_round == 0
            if why := _budget_used(problem, state, ending.max_tokens):
                last = objective.value(problem.model, seed=step_seed(seed, state.step))
                weights = state.weights if state.weight_path else None
                _record(problem, state, Choice(last, weights), outer, ending)
                state.ended = state.ended or why
            elif starts:
                _begin_round(problem, state, choose(state), outer, ending)
            if not state.ended:
                state.last = step(state)
                if state.step == 0 or (starts and outer.restart == "cold"):
                    state.at_origin = state.last["gradient"]
                state.last["residual"] = state.last["gradient"] / max(state.at_origin, 1e-30)
                state.step += 1
        yield state


def unlearning(problem: InnerProblem, *, seed: int) -> Step:
    """The step of unlearning: down the gradient of the inner problem under the state's weights."""

    def step(state: UnlearnState) -> dict[str, float]:
        return inner_step(problem, state.weights, state.optimizer, step=state.step, seed=seed)

    return step


def _budget_used(problem: InnerProblem, state: UnlearnState, max_tokens: int) -> str:
    """Which budget is used up; empty while there is some of each."""
    if state.step >= problem.settings.steps:
        return "budget used"
    return "token budget used" if 0 < max_tokens <= state.ledger.tokens else ""


def _begin_round(
    problem: InnerProblem,
    state: UnlearnState,
    choice: Choice,
    outer: OuterSettings,
    ending: Ending,
) -> None:
    """Takes over what was chosen; a cold round goes back to θ₀."""
    _record(problem, state, choice, outer, ending)
    if choice.weights is not None:
        state.weights = choice.weights
        state.weight_path.append(choice.weights.values)
    if choice.report is not None:
        state.slope_path.append(choice.report.slopes)
        state.gain_path.append(choice.report.gains)
        if state.step == 0:
            state.identity_error = choice.report.identity_error
            state.first_errors, state.parts = choice.report.errors, choice.report.parts
    if outer.restart == "cold" and state.step > 0 and not state.ended:
        params.load(problem.model, problem.origin)
        state.optimizer = optimizer_of(problem)


def follow(
    model: nn.Module, objective: Objective, path: Sequence[Weights], *, seed: int
) -> Callable[[UnlearnState], Choice]:
    """Weights known beforehand, one per round (the last one holds on); J is only measured.

    One element gives plain unlearning; a reweight run's path gives that run's model again.
    """

    def choose(state: UnlearnState) -> Choice:
        weights = path[min(len(state.weight_path), len(path) - 1)]
        return Choice(objective.value(model, seed=step_seed(seed, state.step)), weights)

    return choose


def measure(
    model: nn.Module, objective: Objective, *, seed: int
) -> Callable[[UnlearnState], Choice]:
    """J is measured and nothing weighted: for the steps of baselines."""

    def choose(state: UnlearnState) -> Choice:
        return Choice(objective.value(model, seed=step_seed(seed, state.step)))

    return choose


def _record(
    problem: InnerProblem,
    state: UnlearnState,
    choice: Choice,
    outer: OuterSettings,
    ending: Ending,
) -> None:
    """Adds a row of history, keeps the best θ, and ends the run where a guard says so."""
    row = {
        "step": float(state.step),
        "objective": choice.objective.mean,
        "objective_low": choice.objective.low,
        "objective_high": choice.objective.high,
        "objective_n": float(choice.objective.n),
        **_concentration(choice.weights),
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
    if ending.keep == "last" or choice.objective.mean > state.best_objective:
        state.best_objective, state.best_step = choice.objective.mean, state.step
        state.best_theta = params.snapshot(state.theta)
    state.ended = _collapse(problem, state, row) or _standstill(state, outer)


def _concentration(weights: Weights | None) -> dict[str, float]:
    """How many samples share the weight, where there is one."""
    if weights is None:
        return {}
    support = float(weights.support.sum())
    return {"effective_samples": weights.effective_samples(), "support": support}


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
