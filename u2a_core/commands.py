"""What each command does with a run directory: load, compute, write tables, write the report.

The same functions are called by the command line, by the demo's workers and by jobs. A command
continues from the run's checkpoint where there is one, and stops at a step when it is told to.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import torch

from u2a_core import params
from u2a_core.config import there
from u2a_core.descent import Choice, UnlearnState, descend, follow, pack, start, unpack
from u2a_core.errors import ConfigError, DataError, RunError
from u2a_core.losses import NegativeLogLikelihood, per_sample_losses
from u2a_core.models import hide_loading_bars, save_policy
from u2a_core.results import auc_facts, samples_table, write_descent, write_path
from u2a_core.reweight import mirror_descent
from u2a_core.runs import Run
from u2a_core.types import Batch, Estimate, Progress, Weights
from u2a_core.unlearn import step_seed
from u2a_core.weights import uniform

if TYPE_CHECKING:
    from u2a_core.config import Settings
    from u2a_core.experiment import Experiment

_CHECKPOINT_SHARE = 20
"""A checkpoint is due when the time since the last is this many times what writing one takes."""


class Stopped(Exception):  # noqa: N818 - not an error: the user asked for it
    """The run stopped at a step, with a checkpoint."""


@dataclass
class Watch:
    """Tells the world how far a command is, and the command when to stop.

    Attributes:
        run: where progress is written.
        stopping: asked between steps; True ends the command with a checkpoint.
        show: called with every line of progress.
    """

    run: Run
    stopping: Callable[[], bool] = lambda: False
    show: Callable[[Progress], None] = lambda _: None
    before: float = 0.0
    _begun: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """Time spent on the run, the parts before a resume included."""
        return self.before + time.monotonic() - self._begun

    def tell(self, stage: str, step: int, total: int, values: Mapping[str, float] = {}) -> None:
        """One line of progress."""
        progress = Progress(stage, step, total, round(self.seconds, 3), dict(values))
        self.run.append_progress(progress)
        self.show(progress)

    def over(self, stage: str, batches: list[Batch]) -> Iterator[Batch]:
        """The batches one by one, with a line of progress for each; ends the command if told to."""
        done, total = 0, sum(len(batch.index) for batch in batches)
        self.tell(stage, 0, total)
        for batch in batches:
            if self.stopping():
                raise Stopped(f"at sample {done} of {total}; resumed, the pass begins anew")
            yield batch
            done += len(batch.index)
            self.tell(stage, done, total)


def run_gains(run: Run, settings: Settings, watch: Watch) -> dict[str, Any]:
    """`u2a gains`: the marginal gain of every negative sample at θ₀."""
    experiment = _loaded(settings, watch)
    n = experiment.problem.size
    watch.tell("sampling replies for J", 0, 1)
    report = experiment.scorer(
        uniform(n),
        seed=_first_seed(settings),
        check=True,
        passing=partial(watch.over, "scoring samples"),
    )
    nll = per_sample_losses(
        experiment.policy.model, list(experiment.problem.batches), NegativeLogLikelihood()
    )
    table = samples_table(experiment)
    table["gain"] = report.gains.cpu().double().numpy()
    table["slope"] = report.slopes.cpu().double().numpy()
    table["nll"] = nll.cpu().double().numpy()
    table["rank"] = table["gain"].rank(ascending=False, method="first").astype(int)
    run.write_table("gains", table.sort_values("rank"))
    truth = experiment.mislabelled
    facts = {
        "objective": dataclasses.asdict(report.objective),
        "helps": int((table["gain"] > 0).sum()),
        "gains": {} if truth is None else auc_facts({"first_round": table["gain"]}, truth),
        "identity_error": report.identity_error,
        "curvature": dataclasses.asdict(experiment.scorer.ridge),
    }
    return _finish(run, experiment, watch, facts)


def run_reweight(run: Run, settings: Settings, watch: Watch) -> dict[str, Any]:
    """`u2a reweight`: weights, their path, and the model of the chosen step."""
    experiment = _loaded(settings, watch)
    choose = mirror_descent(experiment.scorer, settings.outer, seed=settings.seed)
    return _descent(run, experiment, watch, choose, uniform(experiment.problem.size))


def run_unlearn(run: Run, settings: Settings, watch: Watch) -> dict[str, Any]:
    """`u2a unlearn`: the inner problem under uniform weights, a run's path, or a file's weights."""
    experiment = _loaded(settings, watch)
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
        wide = rounds.pivot_table(index="round", columns="id", values="weight")[ids]
        path = [Weights(torch.from_numpy(row.copy())) for row in wide.to_numpy()]
        return path[-1:] if settings.final_weights else path
    if not there(Path(source)):
        raise ConfigError(
            "weights must be 'uniform', a finished reweight run, or a file of {id, weight}; "
            f"got {source!r}."
        )
    return [_weights_file(Path(source), ids)]


def _weights_file(path: Path, ids: list[str]) -> Weights:
    from u2a_core.data import read_records

    given: dict[str, float] = {}
    for line, record in read_records(path)[0]:
        try:
            given[str(record["id"])] = float(record["weight"])
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"Every record of {path} must hold id and weight; line {line} does not."
            ) from error
    unknown = sorted(set(given) - set(ids))
    values = torch.tensor([given.get(i, 0.0) for i in ids], dtype=torch.float64)
    if unknown or not float(values.sum()) > 0 or float(values.min()) < 0:
        problem = f"unknown id {unknown[0]!r}" if unknown else "no positive, or a negative, weight"
        raise ConfigError(f"{path} must weight samples of the negative set; got {problem}.")
    return Weights.normalize(values)


def _loaded(settings: Settings, watch: Watch) -> Experiment:
    from u2a_core.experiment import load_experiment

    watch.tell("loading model and data", 0, 1)
    experiment = load_experiment(settings)
    watch.tell("loading model and data", 1, 1)
    return experiment


def _first_seed(settings: Settings) -> int:
    return step_seed(settings.seed, 0)


def _descent(
    run: Run,
    experiment: Experiment,
    watch: Watch,
    choose: Callable[[UnlearnState], Choice],
    first: Weights,
) -> dict[str, Any]:
    """Runs the inner steps with checkpoints, then compares the model before and after."""
    settings, command = experiment.settings, run.config()["command"]
    watch.tell("replies of the original model", 0, 1)
    before = experiment.evaluate()
    state = _resumed(run, experiment, watch) or start(experiment.problem, first)
    saved, cost = time.monotonic(), 0.0
    for _ in descend(
        experiment.problem,
        experiment.objective,
        choose,
        steps_per_round=settings.outer.steps_per_round,
        seed=settings.seed,
        state=state,
    ):
        watch.tell(f"{command}ing", state.step, settings.inner.steps, state.history[-1])
        stopping = watch.stopping() and not state.ended
        if stopping or time.monotonic() - saved > _CHECKPOINT_SHARE * cost:
            begun = time.monotonic()
            tensors, facts = pack(state)
            run.save_checkpoint(tensors, {**facts, "seconds": watch.seconds})
            write_path(run, experiment, state)
            saved = time.monotonic()
            cost = saved - begun
        if stopping:
            raise Stopped(f"at step {state.step} of {settings.inner.steps}")
    params.load(experiment.policy.model, state.best_theta)
    watch.tell("comparing replies", 0, 1)
    facts = write_descent(run, experiment, state, before, experiment.evaluate())
    run.save_model(partial(save_policy, experiment.policy, provenance={"command": command}))
    watch.tell("comparing replies", 1, 1)
    return _finish(run, experiment, watch, facts)


def _resumed(run: Run, experiment: Experiment, watch: Watch) -> UnlearnState | None:
    found = run.checkpoint()
    if found is None:
        return None
    tensors, facts = found
    watch.before = facts.pop("seconds")
    if not any(name.startswith("theta.") for name in tensors):
        raise RunError(f"The checkpoint of {run.path} must hold parameters; run anew.")
    return unpack(experiment.problem, tensors, facts)


def _finish(
    run: Run, experiment: Experiment, watch: Watch, facts: dict[str, Any]
) -> dict[str, Any]:
    from u2a_core.experiment import describe

    report = {
        "command": run.config()["command"],
        **facts,
        "seconds": round(watch.seconds, 2),
        "data": describe(experiment),
    }
    report = cast("dict[str, Any]", json.loads(json.dumps(report, default=_plain)))
    run.write_report(report)
    return report


def _plain(value: Any) -> Any:
    return dataclasses.asdict(value) if isinstance(value, Estimate) else float(value)


Command: TypeAlias = "Callable[[Run, Settings, Watch], dict[str, Any]]"
"""A command's body: computes, writes the report last, and returns it."""


def execute(run: Run, watch: Watch, command: Command) -> dict[str, Any]:
    """Runs a command in its run directory, to its report; a finished one is read.

    Raises:
        Stopped: if told to stop; the run continues from its checkpoint when executed again.
    """
    if run.finished:
        return run.report()
    hide_loading_bars()
    with run.lock.held():
        run.write_status("running")
        try:
            return command(run, run.settings(), watch)
        except Stopped as stop:
            run.write_status("stopped", str(stop))
            raise
        except KeyboardInterrupt:
            run.write_status("stopped", "at once")
            raise
        except BaseException as error:
            run.write_status("failed", str(error) or type(error).__name__)
            raise
