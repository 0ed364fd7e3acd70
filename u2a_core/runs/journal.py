"""What the process of a run says, and what is made of it: state, progress, log.

Reading is lenient: a damaged file of one run must not hide the others.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from pydantic import TypeAdapter

from u2a_core.commits import DATA
from u2a_core.config import there
from u2a_core.errors import RunError
from u2a_core.runs.files import RESUME, read_json, write_json, writing
from u2a_core.runs.lock import Lock
from u2a_core.types import Progress

State: TypeAlias = Literal["queued", "running", "stopping", "stopped", "failed", "finished"]


LOADING = "loading model and data"
"""The stage before a run computes anything."""
ENDED_FROM_OUTSIDE = "EndedFromOutside"
"""The kind of a failure that the process itself could not tell."""


@dataclass(frozen=True)
class Status:
    """What a run is doing, and why, in a sentence."""

    state: State
    message: str = ""
    kind: str = ""
    """Of a failed run: the class of its error, by which a page tells what to do next."""


@dataclass(frozen=True)
class Journal:
    """The part of a run directory that its process keeps writing while it works."""

    path: Path

    @property
    def exists(self) -> bool:
        """Whether the directory holds a run."""
        return there(self.path / "config.json")

    @property
    def finished(self) -> bool:
        """Whether the report is there."""
        return there(self.path / "report.json")

    @property
    def lock(self) -> Lock:
        """Which process works here."""
        return Lock(self.path / "lock")

    @property
    def log_file(self) -> Path:
        """What the process of a job says."""
        return self.path / "log.txt"

    def check_there(self) -> None:
        """For a job that is about to write.

        Raises:
            RunError: if the directory was deleted meanwhile.
        """
        if not self.exists:
            raise RunError(f"{self.path} must be there until its job has ended; it was deleted.")

    def status(self) -> Status:
        """What the files say, corrected by whether the process is alive."""
        if self.finished:
            return Status("finished")
        if not (self.path / "status.json").exists():
            return Status("queued") if self.lock.alive else Status("stopped", "It was not begun.")
        said = self._said()
        if said.state not in ("queued", "running", "stopping") or self.lock.alive:
            return said
        if said.state == "stopping":
            return Status("stopped", "at once")
        return Status(
            "failed",
            "The process was ended from outside: killed, or the machine ran out of memory or was "
            "switched off. Resume continues the run.",
            ENDED_FROM_OUTSIDE,
        )

    def _said(self) -> Status:
        """status.json."""
        try:
            said = read_json(self.path / "status.json")
        except RunError as error:
            return Status("failed", str(error))
        for state in get_args(State):
            if said.get("state") == state:
                return Status(state, str(said.get("message", "")), str(said.get("kind", "")))
        return Status("failed", "status.json is damaged. Resume continues the run.")

    def commits(self) -> dict[str, str]:
        """Hub id → commit, of the models and data sets of the hub that the run has loaded.

        Raises:
            RunError: if the file that holds them is damaged.
        """
        path = self.path / "commits.json"
        found = read_json(path) if there(path) else {}
        return {name: str(commit) for name, commit in found.items()}

    def note_commits(self, found: Mapping[str, str]) -> None:
        """Adds models and data sets of the hub that were loaded, as `commits` gives them.

        Raises:
            RunError: if one is at another commit than it was for this run.
        """
        then = self.commits()
        for name, commit in found.items():
            if then.get(name, commit) != commit:
                fixed = f"{name.removeprefix(DATA).partition('@')[0]}@{then[name]}"
                raise RunError(
                    f"A run must find its models and data as they were; {name} of {self.path} was "
                    f"at commit {then[name]} and is at {commit} now. Begin a new run; {fixed} "
                    "names it as it was."
                )
        if not found.keys() <= then.keys():
            write_json(self.path / "commits.json", {**then, **found}, then=RESUME)

    def write_status(self, state: State, message: str = "", kind: str = "") -> None:
        """status.json; a run that was deleted meanwhile gets none."""
        if self.exists:
            said = dataclasses.asdict(Status(state, message, kind))
            write_json(self.path / "status.json", said, then=RESUME)

    def last_word(self, state: State, message: str = "", kind: str = "") -> None:
        """The status that a process ends with: where it cannot be written, the end stays as it is.

        A full disk must not take the place of what ended the process.
        """
        with contextlib.suppress(RunError):
            self.write_status(state, message, kind)

    def append_progress(self, progress: Progress) -> None:
        """One more line of progress.jsonl."""
        path = self.path / "progress.jsonl"
        with writing(path, then=RESUME), path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(dataclasses.asdict(progress)) + "\n")

    def progress(self) -> list[Progress]:
        """The complete lines of progress.jsonl."""
        try:
            text = (self.path / "progress.jsonl").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return []
        whole = text[: text.rfind("\n") + 1]  # the last line may be half-written
        return [line for line in map(_progress, whole.splitlines()) if line is not None]

    def progress_time(self) -> float:
        """When the last line of progress was written, in seconds since the epoch."""
        try:
            return (self.path / "progress.jsonl").stat().st_mtime
        except OSError:
            return time.time()

    def size(self) -> int:
        """Bytes on disk; a file that goes away meanwhile counts nothing."""
        found = 0
        for folder, _, files in os.walk(self.path):
            for name in files:
                with contextlib.suppress(OSError):
                    found += (Path(folder) / name).stat().st_size
        return found

    def log_tail(self, lines: int = 40) -> str:
        """The log's last lines; empty where there is no log."""
        try:
            with self.log_file.open("rb") as file:
                file.seek(max(0, self.log_file.stat().st_size - 200 * lines))
                text = file.read().decode("utf-8", errors="replace")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[-lines:])


_PROGRESS = TypeAdapter(Progress)


def _progress(line: str) -> Progress | None:
    """A line, if its parts are what they must be."""
    try:
        found = _PROGRESS.validate_json(line)
    except ValueError:
        return None
    return found if math.isfinite(found.seconds) else None
