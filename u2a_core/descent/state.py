"""The state of a run of steps, and its way into a checkpoint and back."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from u2a_core import params
from u2a_core.ledger import Ledger
from u2a_core.types import Estimate, GainReport, Weights
from u2a_core.unlearn import InnerProblem

if TYPE_CHECKING:
    from u2a_core.types import Parameters

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
    """What is decided before an inner step: J(θ), the weights, and the gains behind them.

    Attributes:
        objective: J(θ).
        weights: ω; None where a step weights no negatives.
        report: the gains.
    """

    objective: Estimate
    weights: Weights | None = None
    report: GainReport | None = None


@dataclass(frozen=True)
class Ending:
    """What ends a run beside its budget of steps, and which θ comes out.

    Attributes:
        max_tokens: ends it once so many tokens have gone through the model; 0: no bound.
        keep: best: the step of the largest J; last: the last one, whatever J says. Fine-tuning is
            no alignment: its model is the one that has learned the whole mixture.
    """

    max_tokens: int = 0
    keep: Literal["best", "last"] = "best"


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
        ledger: what was computed so far.
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
    ledger: Ledger = field(default_factory=Ledger)


def start(problem: InnerProblem, weights: Weights) -> UnlearnState:
    """The state at θ₀."""
    theta = params.trainable(problem.model)
    params.load(problem.model, problem.origin)
    return UnlearnState(theta, optimizer_of(problem), weights, params.snapshot(problem.origin))


def optimizer_of(problem: InnerProblem) -> torch.optim.Optimizer:
    """The settings' optimizer of θ, without a past."""
    theta = params.trainable(problem.model)
    family = torch.optim.SGD if problem.settings.optimizer == "sgd" else torch.optim.AdamW
    return family(theta.values(), lr=problem.settings.learning_rate, weight_decay=0.0)


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
    facts = {name: getattr(state, name) for name in _FACTS}
    return tensors, {**facts, "ledger": state.ledger.facts()}


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
    state.ledger = Ledger(**facts["ledger"])
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
