"""Checks of a model: `u2a estimate` in a process of its own, its result kept by what was checked.

The page starts one and asks how it stands; it never waits for it. A result is a file of the folder
of runs, under the hash of the settings and of the files they name, so it survives a reload and is
known to be of other settings once they change.
"""

import hashlib
import json
import subprocess
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import yaml

from u2a_core.config import Settings
from u2a_core.estimate import Estimate, from_dict
from u2a_core.runs.files import writing
from u2a_core.runs.process import detached

State: TypeAlias = Literal["none", "running", "failed", "done"]
_LONGEST_S = 600
_running: dict[Path, "_Process"] = {}
_failures: dict[Path, "Failure"] = {}
_lock = threading.Lock()


@dataclass(frozen=True)
class Failure:
    """Why there is no estimate: a sentence, and the class of its error."""

    message: str
    kind: str = ""


@dataclass(frozen=True)
class _Process:
    process: subprocess.Popen[bytes]
    begun: float


@dataclass(frozen=True)
class Check:
    """The check of settings.

    Attributes:
        folder: of the runs.
        settings: what is checked.
    """

    folder: Path
    settings: Settings

    @property
    def name(self) -> str:
        """The hash of the settings and of the state of the files they name."""
        files = {name: _state(path) for name, path in self.settings.local_paths().items()}
        text = json.dumps([self.settings.model_dump(mode="json"), files], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def file(self) -> Path:
        """Where its result is."""
        return self.folder / ".estimates" / f"{self.name}.json"

    def start(self, env: Mapping[str, str]) -> None:
        """Begins it, unless it is at work.

        Raises:
            RunError: if the folder cannot be written.
        """
        file = self.file
        with _lock:
            if file in _running:
                return
            _failures.pop(file, None)
            config = file.with_suffix(".yaml")
            with writing(file):
                file.parent.mkdir(parents=True, exist_ok=True)
                text = yaml.safe_dump(self.settings.model_dump(mode="json"), sort_keys=False)
                config.write_text(text, encoding="utf-8")
            process = detached(
                ["estimate", config, "--json"], env=env, log=_log(file), out=_said(file)
            )
            _running[file] = _Process(process, time.monotonic())

    def state(self) -> State:
        """How it stands; takes in what the process has said, once it has ended."""
        file = self.file
        with _lock:
            found = _running.get(file)
            if found is not None:
                if found.process.poll() is None:
                    if time.monotonic() - found.begun < _LONGEST_S:
                        return "running"
                    found.process.kill()
                    found.process.wait()
                del _running[file]
                _take(file, found.process.returncode)
            if file in _failures:
                return "failed"
        return "done" if file.exists() else "none"

    @property
    def failure(self) -> Failure:
        """Why it failed."""
        return _failures.get(self.file, Failure("The check is gone. Check again."))

    def result(self) -> Estimate | None:
        """The estimate; None if its file is damaged or went away."""
        return read(self.file)


def read(file: Path) -> Estimate | None:
    """A kept estimate; None if it is damaged or went away."""
    try:
        return from_dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _take(file: Path, code: int) -> None:
    """What an ended process has left becomes the result, or a failure."""
    said, log = _said(file), _log(file)
    try:
        facts: dict[str, Any] = json.loads(said.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        facts = {}
    if code == 0 and facts:
        said.replace(file)
    elif "error" in facts:
        _failures[file] = Failure(str(facts["error"]), str(facts.get("kind", "")))
    else:
        _failures[file] = Failure(_last_words(log, code))
    for left in (said, log, file.with_suffix(".yaml")):
        left.unlink(missing_ok=True)


def _last_words(log: Path, code: int) -> str:
    if code < 0:
        return (
            "The check must come to its end; it was killed, perhaps because it took longer than "
            f"{_LONGEST_S // 60} minutes or memory ran out. Check again."
        )
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except OSError:
        lines = []
    return lines[-1][:400].removeprefix("u2a: ") if lines else "The check ended without a word."


def _said(file: Path) -> Path:
    return file.with_suffix(".part")


def _log(file: Path) -> Path:
    return file.with_suffix(".log")


def _state(path: Path) -> list[int]:
    """What changes when a file, or a folder's list of files, does."""
    try:
        found = path.stat()
    except OSError:
        return []
    return [found.st_mtime_ns, found.st_size]
