"""Which process works on a run: its pid, and its start time, which tells it from a later one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from filelock import FileLock

from u2a_core.errors import RunError
from u2a_core.runs.files import read_json, write_json


@dataclass(frozen=True)
class Lock:
    """The file that names the process; it may be left behind by one that was killed."""

    file: Path

    def assign(self, pid: int) -> None:
        """Says that a process works here."""
        try:
            started = psutil.Process(pid).create_time()
        except psutil.NoSuchProcess:  # it has ended already
            started = 0.0
        write_json(self.file, {"pid": pid, "started": started})

    def worker(self) -> psutil.Process | None:
        """The living process that works here."""
        try:
            lock = read_json(self.file)
            process = psutil.Process(lock["pid"])
            same = abs(process.create_time() - lock["started"]) < 1
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except (RunError, KeyError, TypeError, ValueError, OverflowError, psutil.NoSuchProcess):
            return None  # no lock, or a damaged one

    @property
    def alive(self) -> bool:
        """Whether a process works here."""
        return self.worker() is not None

    @contextmanager
    def held(self) -> Iterator[None]:
        """While open, this process is the one that works here.

        Raises:
            RunError: if another living process does.
        """
        worker = self.worker()
        if worker is not None and worker.pid != os.getpid():
            raise RunError(
                f"{self.file.parent} must have one process; another is at work on it. "
                "Stop that first."
            )
        self.assign(os.getpid())
        try:
            yield
        finally:
            self.file.unlink(missing_ok=True)


def device_lock(folder: Path, device: str) -> FileLock:
    """Who of a folder computes on a device: one job, or the process of the try-outs."""
    return FileLock(folder / f".device-{device.replace(':', '-')}.lock", timeout=0)
