"""A command at work in a run directory: progress, stopping, loading, the report at the end."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from u2a_core import params
from u2a_core.commands.shortage import give_back, shortage_told
from u2a_core.commits import commits_of
from u2a_core.config.paths import PATHS
from u2a_core.models import hide_loading_bars
from u2a_core.runs import Run
from u2a_core.runs.files import finite
from u2a_core.runs.journal import LOADING
from u2a_core.types import Batch, Estimate, Progress

if TYPE_CHECKING:
    from u2a_core.config import Settings
    from u2a_core.experiment import Experiment


_GIVE_BACK = 1.0
"""Seconds between the times that free memory is given back in a pass."""


class Stopped(Exception):  # noqa: N818 - not an error: the user asked for it
    """The run stopped at a step, with a checkpoint."""


@dataclass
class Watch:
    """Tells the world how far a command is, and the command when to stop.

    Attributes:
        run: where progress is written.
        stopping: asked between steps; True ends the command with a checkpoint.
        show: called with every line of progress.
        last: an experiment loaded before in this process, whose model is used again if it can be.
    """

    run: Run
    stopping: Callable[[], bool] = lambda: False
    show: Callable[[Progress], None] = lambda _: None
    before: float = 0.0
    last: Experiment | None = None
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

    def over(self, stage: str, batches: Sequence[Batch]) -> Iterator[Batch]:
        """The batches one by one, with a line of progress for each; ends the command if told to."""
        done, total = 0, sum(len(batch.index) for batch in batches)
        last = self.seconds
        self.tell(stage, 0, total)
        for batch in batches:
            if self.stopping():
                raise Stopped(f"at sample {done} of {total}; resumed, the pass begins anew")
            yield batch
            done += len(batch.index)
            self.tell(stage, done, total)
            if self.seconds - last > _GIVE_BACK:
                give_back()
                last = self.seconds


def load(settings: Settings, watch: Watch) -> Experiment:
    """The experiment that the settings name."""
    from u2a_core.experiment import load_experiment

    watch.tell(LOADING, 0, 1)
    watch.last = load_experiment(settings, watch.last)
    note_commits(watch.run, settings)
    watch.tell(LOADING, 1, 1)
    return watch.last


def note_commits(run: Run, settings: Settings, *others: str) -> None:
    """Writes which commit each model and data set of the hub is at that the run has loaded.

    Args:
        run: that loaded them.
        settings: which name them.
        others: models that the settings do not name.

    Raises:
        RunError: if one has moved since the run was begun.
    """
    named = [getattr(getattr(settings, s), field) for s, own in PATHS.items() for field in own]
    run.note_commits(commits_of([*named, *others]))


def finish(
    run: Run, experiment: Experiment | None, watch: Watch, facts: dict[str, Any]
) -> dict[str, Any]:
    """Writes the report, the last file of a run, and returns it."""
    note_commits(run, run.settings())
    commits = run.commits()
    report = {
        "command": run.config()["command"],
        **facts,
        **({"commits": commits} if commits else {}),
        "seconds": round(watch.seconds, 2),
    }
    if experiment is not None:
        report["data"] = _described(experiment) | facts.get("data", {})
        report["warnings"] = [*experiment.warnings, *facts.get("warnings", [])]
    report = cast("dict[str, Any]", finite(report, plain=_plain))
    run.write_report(report)
    return report


def _described(experiment: Experiment) -> dict[str, Any]:
    """What a report says of the data and the model."""
    theta = params.trainable(experiment.policy.model)
    return {
        "negatives": len(experiment.negatives),
        "duplicates_dropped": experiment.negatives.duplicates,
        "faults": len(experiment.negatives.faults),
        "truncated": experiment.encoding.truncated,
        "negatives_sha256": experiment.negatives.sha256,
        "trainable_parameters": sum(p.numel() for p in theta.values()),
        "trained": experiment.settings.model.parameters,
        "slopes_see": "weights of the adapted layers"
        if set(experiment.policy.slopes_see) != set(theta)
        else "the trained parameters",
        "device": str(experiment.policy.device),
        "dtype": str(next(experiment.policy.model.parameters()).dtype).removeprefix("torch."),
        "reward_agreement": None
        if experiment.agreement is None
        else dataclasses.asdict(experiment.agreement),
    }


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
            with shortage_told():
                return command(run, run.settings(), watch)
        except Stopped as stop:
            run.last_word("stopped", str(stop))
            raise
        except KeyboardInterrupt:
            run.last_word("stopped", "at once")
            raise
        except BaseException as error:
            kind = type(error).__name__
            run.last_word("failed", str(error) or kind, kind)
            raise
