"""`u2a reweight` and `u2a unlearn`: a descent with checkpoints, and the comparison after it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from u2a_core import params
from u2a_core.commands.work import Stopped, Watch, finish, load
from u2a_core.config import there
from u2a_core.descent import (
    Choice,
    Ending,
    Step,
    UnlearnState,
    descend,
    follow,
    pack,
    start,
    unpack,
)
from u2a_core.errors import ConfigError, DataError, RunError
from u2a_core.models import save_policy
from u2a_core.results import write_descent, write_path
from u2a_core.reweight import mirror_descent, reselect
from u2a_core.runs import Run, slices
from u2a_core.types import Weights
from u2a_core.weights import check_count, uniform

if TYPE_CHECKING:
    from u2a_core.config import OuterSettings, Settings
    from u2a_core.experiment import Experiment

_CHECKPOINT_SHARE = 20
"""A checkpoint is due when the time since the last is this many times what writing one takes."""


def run_reweight(run: Run, settings: Settings, watch: Watch) -> dict[str, Any]:
    """`u2a reweight`: weights, their path, and the model of the chosen step."""
    experiment = load(settings, watch)
    if settings.outer.rule != "weights":
        check_count(settings.outer.k, experiment.problem.size)
    rule = mirror_descent if settings.outer.rule == "weights" else reselect
    choose = rule(experiment.scorer, settings.outer, seed=settings.seed)
    return _descent(run, experiment, watch, choose, uniform(experiment.problem.size))


def run_unlearn(run: Run, settings: Settings, watch: Watch) -> dict[str, Any]:
    """`u2a unlearn`: the inner problem under uniform weights, a run's path, a slice, or a file."""
    experiment = load(settings, watch)
    path = weight_path(settings, experiment)
    choose = follow(experiment.policy.model, experiment.objective, path, seed=settings.seed)
    return _descent(run, experiment, watch, choose, path[0])


def weight_path(settings: Settings, experiment: Experiment) -> list[Weights]:
    """The weights of each round that `settings.weights` names.

    Raises:
        ConfigError: if it names nothing usable, or weights of other samples.
    """
    ids = [sample.id for sample in experiment.negatives.samples]
    source = settings.weights
    if source == "uniform":
        return [uniform(len(ids))]
    if there(Path(source) / "config.json"):
        other = Run.open(Path(source))
        theirs = other.report()["data"]["negatives_sha256"]
        if theirs != experiment.negatives.sha256:
            raise ConfigError(
                f"The weights of {source} must be of these negatives; they were computed for "
                "another set. Use the same data.negatives, or run u2a reweight on this one."
            )
        rounds = other.table("weight_path")
        wide = rounds.pivot_table(index="round", columns="id", values="weight")
        if odd := set(ids) ^ set(wide.columns):
            raise ConfigError(
                f"The weights of {source} must be of these negatives; got {len(odd)} that one of "
                f"the runs leaves out (first: {min(odd)!r}). Use the same model.max_length."
            )
        wide = wide[ids]
        path = [Weights(torch.from_numpy(row.copy())) for row in wide.to_numpy()]
        return path[-1:] if settings.final_weights else path
    if not there(Path(source)):
        raise ConfigError(
            "weights must be 'uniform', a finished reweight run, a saved slice, or a file of "
            f"{{id, weight}}; got {source!r}."
        )
    if slices.is_slice(Path(source)):
        return [_slice_weights(slices.read_slice(Path(source)), experiment.negatives.sha256, ids)]
    return [_weights_file(Path(source), ids)]


def _slice_weights(one: slices.Slice, sha256: str, ids: list[str]) -> Weights:
    """Equal weights on the samples of a slice, none on the others."""
    if one.sha256 and one.sha256 != sha256:
        raise ConfigError(
            f"The slice {one.name!r} must be of these negatives; it was made of another set. "
            "Use the same data.negatives, or make the slice from gains of this set."
        )
    return _of_ids(one.path, dict.fromkeys(one.ids, 1.0), ids)


def _weights_file(path: Path, ids: list[str]) -> Weights:
    from u2a_core.data import read_records

    records, faults = read_records(path)
    if faults:
        raise DataError(
            f"Every line of {path} must be a record; line {faults[0].line} is {faults[0].reason}. "
            "Mend it: a sample that no record names has no weight."
        )
    given: dict[str, float] = {}
    for line, record in records:
        try:
            sample, weight = str(record["id"]), float(record["weight"])
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"Every record of {path} must hold id and weight; line {line} does not."
            ) from error
        if sample in given:
            raise DataError(
                f"{path} must weight each sample once; line {line} has {sample!r} anew."
            )
        given[sample] = weight
    return _of_ids(path, given, ids)


def _of_ids(path: Path, given: dict[str, float], ids: list[str]) -> Weights:
    """The weights that a file gives, in the order of the set."""
    unknown = sorted(set(given) - set(ids))
    values = torch.tensor([given.get(i, 0.0) for i in ids], dtype=torch.float64)
    if unknown or not float(values.sum()) > 0 or float(values.min()) < 0:
        problem = f"unknown id {unknown[0]!r}" if unknown else "no positive, or a negative, weight"
        raise ConfigError(f"{path} must weight samples of the negative set; got {problem}.")
    return Weights.normalize(values)


def _descent(
    run: Run,
    experiment: Experiment,
    watch: Watch,
    choose: Callable[[UnlearnState], Choice],
    first: Weights,
) -> dict[str, Any]:
    """Runs the inner steps with checkpoints, then compares the model before and after."""
    command, outer = run.config()["command"], experiment.settings.outer
    watch.tell("replies of the original model", 0, 1)
    before = experiment.evaluate()
    state = descended(run, experiment, watch, Descent(f"{command}ing", choose, first, outer))
    watch.tell("comparing replies", 0, 1)
    facts = write_descent(run, experiment, state, before, experiment.evaluate())
    run.save_model(partial(save_policy, experiment.policy, provenance={"command": command}))
    watch.tell("comparing replies", 1, 1)
    return finish(run, experiment, watch, facts)


@dataclass(frozen=True)
class Descent:
    """What makes a run of steps: see `descent.descend`.

    Attributes:
        stage: what is being done, for the progress.
        choose: measures J and decides the weights.
        first: the weights at θ₀.
        outer: steps between measurements, patience, restarts.
        step: what moves θ; None: unlearning.
        ending: the bound of tokens, and which step is kept.
    """

    stage: str
    choose: Callable[[UnlearnState], Choice]
    first: Weights
    outer: OuterSettings
    step: Step | None = None
    ending: Ending = Ending()  # noqa: RUF009 - frozen


def descended(run: Run, experiment: Experiment, watch: Watch, descent: Descent) -> UnlearnState:
    """The state after all steps, from the checkpoint where there is one; the model is at the best.

    Raises:
        Stopped: if told to stop, with a checkpoint.
    """
    problem = experiment.problem
    total = problem.settings.steps
    state = _resumed(run, experiment, watch) or start(problem, descent.first)
    saved, cost = time.monotonic(), 0.0
    for _ in descend(
        problem,
        experiment.objective,
        descent.choose,
        outer=descent.outer,
        seed=experiment.settings.seed,
        state=state,
        step=descent.step,
        ending=descent.ending,
    ):
        watch.tell(descent.stage, state.step, total, state.history[-1])
        stopping = watch.stopping() and not state.ended
        if stopping or time.monotonic() - saved > _CHECKPOINT_SHARE * cost:
            begun = time.monotonic()
            tensors, facts = pack(state)
            run.save_checkpoint(tensors, {**facts, "seconds": watch.seconds})
            write_path(run, experiment, state)
            saved = time.monotonic()
            cost = saved - begun
        if stopping:
            raise Stopped(f"at step {state.step} of {total}")
    params.load(problem.model, state.best_theta)
    return state


def _resumed(run: Run, experiment: Experiment, watch: Watch) -> UnlearnState | None:
    found = run.checkpoint()
    if found is None:
        return None
    tensors, facts = found
    watch.before = facts.pop("seconds")
    if not any(name.startswith("theta.") for name in tensors):
        raise RunError(f"The checkpoint of {run.path} must hold parameters; run anew.")
    return unpack(experiment.problem, tensors, facts)
