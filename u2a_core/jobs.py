"""Jobs: runs that work in a process of their own, which outlives the page that began it.

A job is `u2a COMMAND --run DIR`, detached (its own session), told to stop by SIGTERM. Jobs of one
folder take turns on a device. Imports no torch before a job's own process needs it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import psutil
from filelock import FileLock, Timeout

from u2a_core.config import Settings
from u2a_core.errors import RunError, U2AError
from u2a_core.runs import Run, Workspace
from u2a_core.runs.files import writing
from u2a_core.runs.lock import device_lock
from u2a_core.runs.process import detached

if TYPE_CHECKING:
    from u2a_core.types import Progress

ACTIVE = ("queued", "running", "stopping")
_NOTHING: Mapping[str, str] = MappingProxyType({})
_AGAIN_S = 5.0
"""A launch within so many seconds of the same one is the same click."""
_POLL_S = 0.2
_ENDING_S = 10.0
"""How long a process may take to end after its last word."""


def launch(
    folder: Path, command: str, settings: Settings, *, env: Mapping[str, str] = _NOTHING
) -> Run:
    """A new job, or the one that was just launched or is at work with the same settings.

    Three quick clicks, or two tabs, thus begin one job.

    Args:
        folder: of the runs.
        command: of `u2a`.
        settings: of the command.
        env: what the process finds in its environment, beside this one's: a token, which is
            written nowhere.

    Raises:
        RunError: if the folder cannot be written.
    """
    with _launching(folder):
        for run in Workspace(folder).runs():
            if _same(run, command, settings):
                return run
        run = Run.create(_free(folder, _name(command, settings)), command, settings)
        try:
            _begin(run, env)
        except RunError:  # no room for its first word: nothing of it is left
            shutil.rmtree(run.path, ignore_errors=True)
            raise
        return run


def begin(run: Run, *, env: Mapping[str, str] = _NOTHING) -> None:
    """Starts the run's process, or continues it from its checkpoint.

    Args:
        run: to begin.
        env: as for `launch`.

    Raises:
        RunError: if a process works on it already, or it is finished.
    """
    _let_go(run)
    with _launching(run.path.parent):
        if run.finished or run.lock.alive:
            raise RunError(f"{run.path} must be at rest to begin; it is {run.status().state}.")
        _begin(run, env)


def _let_go(run: Run) -> None:
    """Waits for a process that has written its last word, and is about to end."""
    worker = run.lock.worker()
    if worker is not None and run.status().state not in ACTIVE:
        with contextlib.suppress(psutil.Error):
            worker.wait(_ENDING_S)


@contextmanager
def _launching(folder: Path) -> Iterator[None]:
    """While open, no other process or thread begins a job in the folder."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".launch.lock", timeout=30):
            yield


def _begin(run: Run, env: Mapping[str, str]) -> None:
    words = [run.config()["command"], "--run", run.path]
    run.write_status("queued")
    run.lock.assign(detached(words, env=env, log=run.log_file, append=True).pid)


def stop(run: Run) -> None:
    """Asks the run's process to stop at its next step, with a checkpoint."""
    worker = run.lock.worker()
    if worker is None:
        return
    if run.status().state == "queued":  # it may not listen yet, and has nothing to lose
        with contextlib.suppress(RunError):  # a full disk: it must stop all the same
            run.write_status("stopping")
    with contextlib.suppress(psutil.NoSuchProcess):
        worker.send_signal(signal.SIGTERM)


def work(run: Run) -> bool:
    """In the job's process: executes it in its turn on the device; False if it was stopped."""
    from u2a_core import report

    def body(stopping: Callable[[], bool]) -> dict[str, Any] | None:
        from u2a_core.models.policy import choose_device

        run.check_unchanged()
        device = str(choose_device(run.settings().model.device))
        with run.lock.held(), turn(run, device, stopping) as mine:
            return compute(run, stopping, report.log_line) if mine else None

    try:
        result = until_stopped(run, body)
    except U2AError as error:
        worker = run.lock.worker()
        if worker is None or worker.pid == os.getpid():  # else another works here, undisturbed
            run.last_word("failed", str(error), type(error).__name__)
        raise
    if result is None and run.status().state != "stopped":
        run.last_word("stopped", "before it began")
    return result is not None


def compute(
    run: Run, stopping: Callable[[], bool], show: Callable[[Progress], None]
) -> dict[str, Any]:
    """The run's command, to its report."""
    from u2a_core import commands
    from u2a_core.demo.run import run_demo
    from u2a_core.reproduce import run_reproduce

    bodies: dict[str, commands.Command] = {
        **commands.BODIES,
        "impact": commands.run_impact,
        "ablate": commands.run_ablate,
        "demo": run_demo,
        "reproduce": run_reproduce,
    }
    watch = commands.Watch(run, stopping=stopping, show=show)
    return commands.execute(run, watch, bodies[run.config()["command"]])


def until_stopped(
    run: Run, body: Callable[[Callable[[], bool]], dict[str, Any] | None]
) -> dict[str, Any] | None:
    """What `body` returns, which is told when to stop; None if SIGTERM or Ctrl-C stopped it.

    Once: at the next step, with a checkpoint. Twice: at once, which keeps the last checkpoint.
    """
    asked: list[int] = []

    def ask(number: int, _: object) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)
        with contextlib.suppress(RunError, OSError):  # on a full disk it stops without a word
            run.write_status("stopping")
            sys.stderr.write("u2a: stopping at the next step; once more stops at once.\n")

    previous = {s: signal.signal(s, ask) for s in (signal.SIGTERM, signal.SIGINT)}
    from u2a_core.commands import Stopped  # torch comes with it, seconds after the signals

    why = "before it began"
    try:
        result = body(lambda: bool(asked))
        if result is not None:
            return result
    except Stopped as stop:
        why = str(stop)
    except KeyboardInterrupt:
        why = "at once"
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    with contextlib.suppress(OSError):
        sys.stderr.write(f"u2a: stopped {why}; continue with --out {run.path} --resume.\n")
    return None


@contextmanager
def turn(run: Run, device: str, stopping: Callable[[], bool]) -> Iterator[bool]:
    """In the job's process: waits until it is first in line and no other job holds the device.

    Yields False, without a turn, if it is told to stop meanwhile.
    """
    lock = device_lock(run.path.parent, device)
    run.lock.assign(os.getpid(), device=device)
    while not stopping():
        if ahead(run) or not _acquired(lock):
            if not run.status().message:
                run.write_status("queued", f"waits for {device}, which another job holds")
            time.sleep(_POLL_S)
            continue
        try:
            yield True
        finally:
            lock.release()
        return
    yield False


def _acquired(lock: FileLock) -> bool:
    try:
        lock.acquire()
    except Timeout:
        return False
    return True


def ahead(run: Run) -> list[Run]:
    """The jobs of the folder that have the run's device before it, the next one first.

    Empty also for a job that has not joined a line yet.
    """
    own = run.lock.turn()
    if own is None:
        return []
    device, since = own
    found = []
    for file in run.path.parent.glob("*/lock"):  # a run at rest has none
        other = Run(file.parent)
        turn = None if other.path == run.path else other.lock.turn()
        if turn is not None and turn[0] == device and (turn[1], other.path) < (since, run.path):
            found.append((turn[1], other.path, other))
    return [other for _, _, other in sorted(found, reverse=True)]


def _same(run: Run, command: str, settings: Settings) -> bool:
    """Whether a run is what would be launched, and is at work or has just begun."""
    try:
        config = run.config()
        alike = config.get("command") == command and run.settings() == settings
        begun = (run.path / "config.json").stat().st_mtime
    except (RunError, OSError):  # unreadable, or deleted meanwhile
        return False
    return alike and (abs(time.time() - begun) < _AGAIN_S or run.status().state in ACTIVE)


def _name(command: str, settings: Settings) -> str:
    """What a run's directory is called: the method and the weights, then the time."""
    method, own = settings.inner.method, settings.evaluation
    model = own.endpoint_model if own.endpoint else ""
    kinds = {
        "gains": f"gains-{method}",
        "impact": f"impact-{method}",
        "ablate": f"ablation-{method}",
        "baseline": settings.baseline.method,
        "reweight": f"u2a-{method}",
        "unlearn": f"{method}-{'uniform' if settings.weights == 'uniform' else 'weighted'}",
        "evaluate": f"evaluate-{Path(model or own.target).name or 'original'}",
    }
    return f"{kinds.get(command, command)}-{time.strftime('%m%d-%H%M%S')}"


def _free(folder: Path, name: str) -> Path:
    """The name, or the name with a number, that no run has."""
    path, number = folder / name, 1
    while path.exists():
        number += 1
        path = folder / f"{name}-{number}"
    return path
