"""In the process of the try-outs: loads the models that are asked for, and streams their replies.

It holds the device as a job does, by the same lock, but never against one: when a job queues, the
process frees its models and lets the device go; a reply in hand begins anew when the job has ended.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from u2a_core.config import Settings, there
from u2a_core.errors import ModelError, U2AError
from u2a_core.models import Policy, hide_loading_bars, load_policy, load_saved, use_threads
from u2a_core.models.policy import choose_device
from u2a_core.models.streaming import stream_reply
from u2a_core.runs import Run, Workspace, as_found, base_of
from u2a_core.runs.lock import device_lock
from u2a_core.tryout.desk import Desk, Side, Try

IDLE_S = 600.0
"""Without a request for so long, the process ends and its memory is free again."""
_POLL_S = 0.2
_LOOK_S = 0.5
"""How often a generation looks whether a job waits for the device."""


class _Ended(Exception):  # noqa: N818 - not an error: told to the user as it stands
    """The try ends early."""


@dataclass
class Worker:
    """One process; its models stay loaded between prompts.

    Attributes:
        desk: where requests come from.
        idle_s: seconds without a request after which it ends.
    """

    desk: Desk
    idle_s: float = IDLE_S
    _policies: dict[str, Policy] = field(default_factory=dict)
    _held: dict[str, FileLock] = field(default_factory=dict)
    _looked: float = 0.0

    def work(self) -> None:
        """Answers until nothing was asked for a while, or a job wants the device."""
        hide_loading_bars()
        self.desk.lock.assign(os.getpid())
        self._end_abandoned()
        since = time.monotonic()
        while True:
            asked = self.desk.waiting()
            if asked is not None:
                self._answer(asked)
                since = time.monotonic()
                continue
            wanted = bool(self._held) and self._job_waits()
            if (wanted or time.monotonic() - since > self.idle_s) and self._close():
                return
            time.sleep(_POLL_S)

    def _end_abandoned(self) -> None:
        """Tries that a killed process left half-answered."""
        for asked in self.desk.tries():
            if self.desk.begun(asked) and not self.desk.outcome(asked).done:
                self.desk.write(asked, note="It was cut off: the process ended.", done=True)

    def _close(self) -> bool:
        """Ends the process' claim; False if a request came in meanwhile."""
        with self.desk.door():
            if self.desk.waiting() is not None:
                return False
            self._let_go()
            self.desk.lock.file.unlink(missing_ok=True)
        return True

    def _let_go(self) -> None:
        """Frees the models' memory, then the device."""
        self._policies.clear()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        for lock in self._held.values():
            lock.release()
        self._held.clear()

    def _answer(self, asked: Try) -> None:
        """Every side in turn; what goes wrong with one is told on its side."""
        self.desk.write(asked, note="begins")
        self._drop_others(asked)
        try:
            for place, side in enumerate(asked.sides):
                self._reply(asked, place, side)
        except _Ended as why:
            self.desk.write(asked, note=str(why), done=True)
            return
        self.desk.write(asked, note="", done=True)

    def _reply(self, asked: Try, place: int, side: Side) -> None:
        try:
            while not self._replied(asked, place, side):
                self._let_go()  # to the job that waits; the reply begins anew after it
        except U2AError as error:
            self.desk.write(asked, side=place, error=str(error))
        except (torch.OutOfMemoryError, MemoryError):
            self._let_go()
            self.desk.write(
                asked, side=place, error="The models must fit into memory together; they do not. "
                "Try the smaller of them alone, or a run with model.dtype bfloat16.",
            )  # fmt: skip

    def _replied(self, asked: Try, place: int, side: Side) -> bool:
        """One side's reply; False if a job wants the device before it is over."""
        policy = self._policy(asked, side)
        self.desk.write(asked, note=f"{side.title} writes")
        text, ended = stream_reply(
            policy, asked.prompt, max_new_tokens=asked.max_new_tokens,
            temperature=asked.temperature, seed=asked.seed,
            told=lambda text: self.desk.write(asked, side=place, text=text),
            stopping=lambda: self._interrupted(asked),
        )  # fmt: skip
        if ended == "stopped" and not self.desk.stopped(asked):
            self.desk.write(asked, side=place, text="")
            return False
        self.desk.write(asked, side=place, text=text, ended=ended)
        if ended == "stopped":
            raise _Ended("Stopped.")
        return True

    def _policy(self, asked: Try, side: Side) -> Policy:
        """The side's model, loaded in its turn on the device."""
        key, settings, load = self._model(side)
        self._take(asked, str(choose_device(settings.model.device)))
        if key not in self._policies:
            self.desk.write(asked, note=f"loading {side.title}")
            self._policies[key] = load()
            use_threads(settings.threads, self._policies[key].model)
        return self._policies[key]

    def _model(self, side: Side) -> tuple[str, Settings, Callable[[], Policy]]:
        """What tells a side's model from others, and how it is loaded."""
        run = Workspace(self.desk.runs).find(side.run)
        settings = run.settings()
        whole = settings.model.model_copy(update={"parameters": "full"})
        if side.original:
            found = as_found(run, whole.path)
            return f"{found} {whole!r}", settings, lambda: load_policy(whole, weights=found)
        if not there(run.model_folder):
            raise ModelError(
                f"{side.title} must have kept its model; {run.model_folder} is not there. "
                "Launch it again on Unlearn, and try the new run."
            )
        written = run.model_folder.stat().st_mtime_ns
        key = f"{run.path} {written}"
        base = as_found(run, base_of(run))
        return key, settings, lambda: load_saved(settings.model, run.model_folder, weights=base)

    def _drop_others(self, asked: Try) -> None:
        """Models that this try does not need leave the memory before others are loaded."""
        needed = set()
        for side in asked.sides:
            try:
                needed.add(self._model(side)[0])
            except U2AError:  # told when its turn comes
                continue
        self._policies = {key: p for key, p in self._policies.items() if key in needed}

    def _take(self, asked: Try, device: str) -> None:
        """Waits until no job holds the device or waits for it."""
        if self._held and self._job_waits():
            self._let_go()
        lock = self._held.get(device) or device_lock(self.desk.runs, device)
        told = False
        while not lock.is_locked:
            if self.desk.stopped(asked):
                raise _Ended("Stopped.")
            try:
                if self._job_waits():
                    raise Timeout(str(lock.lock_file))
                lock.acquire()
            except Timeout:
                if not told:
                    self.desk.write(asked, note=f"waits for {device}, which a job holds")
                told = True
                time.sleep(_POLL_S)
        self._held[device] = lock

    def _interrupted(self, asked: Try) -> bool:
        """Whether the reply in hand ends: told to, or a job waits for the device."""
        if time.monotonic() - self._looked < _LOOK_S:
            return False
        self._looked = time.monotonic()
        return self.desk.stopped(asked) or self._job_waits()

    def _job_waits(self) -> bool:
        """Whether a job of the folder queues."""
        folders = (path for path in self.desk.runs.iterdir() if not path.name.startswith("."))
        runs = (run for run in map(Run, folders) if run.exists)
        return any(run.status().state == "queued" for run in runs)


@dataclass(frozen=True)
class TryOptions:
    """Options of the process."""

    runs: Path
    """The folder of runs, whose requests it answers."""
    idle: float = IDLE_S
    """Seconds without a request after which it ends."""


def work(options: TryOptions) -> int:
    """`u2a try`: what the workbench starts when somebody tries a prompt."""
    sys.stderr.write(f"Answers the try-outs of {options.runs}.\n")
    Worker(Desk(options.runs.resolve()), options.idle).work()
    return 0
