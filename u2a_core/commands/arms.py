"""Arms: runs inside a run, at work in several processes.

Each arm is an ordinary run in `arms/`: made by the same code, stopped and resumed like any other.
Processes are kept from arm to arm, and so is the model that they loaded.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import TYPE_CHECKING

from u2a_core.commands.baselines import run_baseline
from u2a_core.commands.descents import run_reweight, run_unlearn
from u2a_core.commands.evaluating import run_evaluate
from u2a_core.commands.scoring import run_gains
from u2a_core.commands.work import Command, Stopped, Watch, execute
from u2a_core.errors import NumericalError
from u2a_core.models.policy import choose_device
from u2a_core.runs import Run

if TYPE_CHECKING:
    from u2a_core.config import Settings
    from u2a_core.experiment import Experiment

BODIES: dict[str, Command] = {
    "gains": run_gains,
    "reweight": run_reweight,
    "unlearn": run_unlearn,
    "baseline": run_baseline,
    "evaluate": run_evaluate,
}
"""Command → what it does; those that can be an arm."""
_POLL_S = 0.5


def arm(parent: Run, name: str, command: str, settings: Settings) -> Run:
    """The run directory of an arm, made or found.

    Raises:
        RunError: if another run stands there.
    """
    path = parent.path.resolve() / "arms" / name
    return Run.open(path) if Run(path).exists else Run.create(path, command, settings)


def processes(settings: Settings, asked: int = 0) -> int:
    """How many arms are at work at the same time: one on a GPU."""
    if choose_device(settings.model.device).type != "cpu":
        return 1
    return asked or os.cpu_count() or 1


def execute_arms(
    arms: Mapping[str, Run], watch: Watch, *, workers: int, total: int = 0
) -> dict[str, str]:
    """Runs the arms, the first ones first, and tells each one's progress; finished ones are read.

    Args:
        arms: name → run.
        watch: of the run that they belong to.
        workers: processes.
        total: how many arms there are in all, where others are still to come.

    Returns:
        name → why, of the arms that ended in a numerical failure; the others are finished.

    Raises:
        Stopped: if told to stop; each arm continues from its own checkpoint.
        U2AError: what an arm raised that is no numerical failure; the others stop.
    """
    left = {name: run for name, run in arms.items() if not run.finished}
    total = max(total, len(arms))
    watch.tell("arms", len(arms) - len(left), total)
    if len(left) < 2:  # another process would only have to load everything
        failed = {name: why for name, run in left.items() if (why := _alone(run, watch))}
        watch.tell("arms", len(arms), total)
        return failed
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    with ProcessPoolExecutor(min(workers, len(left)), context, _initialize, (stop,)) as pool:
        pending = {name: pool.submit(_execute, str(run.path)) for name, run in left.items()}
        with _stopped_on_error(stop):
            failed = _follow(arms, pending, watch, stop, total)
    if stop.is_set():
        done = sum(run.finished for run in arms.values())
        raise Stopped(f"with {done} of {total} arms finished")
    return failed


def _alone(run: Run, watch: Watch) -> str:
    """One arm in this process; why it failed numerically, empty if it did not."""
    inside = Watch(run, stopping=watch.stopping, last=watch.last)
    try:
        execute(run, inside, BODIES[run.config()["command"]])
    except NumericalError as error:
        return str(error)
    finally:
        watch.last = inside.last
    return ""


@contextmanager
def _stopped_on_error(stop: Event) -> Iterator[None]:
    try:
        yield
    except BaseException:
        stop.set()
        raise


def _follow(
    arms: Mapping[str, Run],
    pending: dict[str, Future[bool]],
    watch: Watch,
    stop: Event,
    total: int,
) -> dict[str, str]:
    """Until all are done: passes on progress, and the wish to stop."""
    seen, before = dict.fromkeys(pending, 0), len(arms) - len(pending)
    failed: dict[str, str] = {}
    told = 0
    while True:
        done = [name for name, future in pending.items() if future.done()]
        for name in done:
            try:
                pending[name].result()  # raises what its arm raised
            except NumericalError as error:
                failed[name] = str(error)
        for name in pending:
            lines = arms[name].progress()
            steps = [line for line in lines[seen[name] :] if line.total > 1]
            if steps:
                watch.tell(name, steps[-1].step, steps[-1].total, steps[-1].values)
            seen[name] = len(lines)
        if len(done) > told:
            told = len(done)
            watch.tell("arms", before + told, total)
        if watch.stopping():
            stop.set()
        if len(done) == len(pending):
            return failed
        time.sleep(_POLL_S)


_stop: Event | None = None
_last: Experiment | None = None
"""In a worker: the parent's wish to stop, and what the arm before has loaded."""


def _initialize(stop: Event) -> None:
    """In a worker: the parent decides when to stop."""
    global _stop  # noqa: PLW0603 - a worker process has one parent
    _stop = stop
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _stopping() -> bool:
    return _stop is not None and _stop.is_set()


def _execute(path: str) -> bool:
    """In a worker: one arm, to its end; False if it was stopped."""
    global _last  # noqa: PLW0603 - a worker process works on one arm at a time
    if _stopping():
        return False
    run = Run.open(Path(path))
    watch = Watch(run, stopping=_stopping, last=_last)
    try:
        execute(run, watch, BODIES[run.config()["command"]])
    except Stopped:
        return False
    finally:
        _last = watch.last
    return True
