"""Which process works on a run: its pid, and its birth, which tells it from a later one.

A job also says here on which device it has, or waits for, its turn, and since when.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock

from u2a_core.errors import RunError
from u2a_core.runs.files import read_json, write_json, writing

_BOOT = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Lock:
    """The file that names the process; it may be left behind by one that was killed."""

    file: Path

    def assign(self, pid: int, *, device: str = "") -> None:
        """Says that a process works here, and on which device it wants its turn from now on."""
        try:
            started = _birth(psutil.Process(pid))
        except psutil.NoSuchProcess:  # it has ended already
            started = ""
        turn = {"device": device, "since": time.time()} if device else {}
        write_json(self.file, {"pid": pid, "started": started, **turn})

    def worker(self) -> psutil.Process | None:
        """The living process that works here."""
        try:
            return _living(read_json(self.file))
        except RunError:  # no lock, or a damaged one
            return None

    def turn(self) -> tuple[str, float] | None:
        """The device that the living process has or waits for, and since when."""
        try:
            lock = read_json(self.file)
            turn = str(lock["device"]), float(lock["since"])
        except (RunError, KeyError, TypeError, ValueError):  # none, damaged, or before its turn
            return None
        return None if _living(lock) is None else turn

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
        with self._door():
            worker = self.worker()
            if worker is not None and worker.pid != os.getpid():
                raise RunError(
                    f"{self.file.parent} must have one process; another is at work on it. "
                    "Stop that first."
                )
            if worker is None:  # else it is this process, which may have said its device already
                self.assign(os.getpid())
        try:
            yield
        finally:
            self.file.unlink(missing_ok=True)

    @contextmanager
    def _door(self) -> Iterator[None]:
        """While open, no other process looks whether it may work here, and says that it does."""
        with writing(self.file), FileLock(self.file.with_name(".door.lock"), timeout=30):
            yield


def _living(lock: dict[str, Any]) -> psutil.Process | None:
    """The process that a lock names, if it is alive and the same."""
    try:
        process = psutil.Process(lock["pid"])
        same = _birth(process) == lock["started"]
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except (KeyError, TypeError, ValueError, OverflowError, psutil.NoSuchProcess):
        return None


def _birth(process: psutil.Process) -> str:
    """When a process began, told so that no step of the system's clock moves it."""
    try:  # Linux: which boot, and clock ticks since then; behind the name, which may hold anything
        stat = Path(f"/proc/{process.pid}/stat").read_text(errors="replace")
        return f"{_BOOT.read_text().strip()} {stat.rpartition(')')[2].split()[19]}"
    except OSError:  # elsewhere the system keeps the time as it was then
        return str(process.create_time())


def device_lock(folder: Path, device: str) -> FileLock:
    """Who of a folder computes on a device: one job, or the process of the try-outs."""
    return FileLock(folder / f".device-{device.replace(':', '-')}.lock", timeout=0)
