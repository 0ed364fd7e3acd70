"""The folder through which a page asks and the process of the try-outs answers.

<id>.json    a request, written once
<id>.jsonl   what is answered, append-only: `Line`s; the last one says that it is over
<id>.stop    the page wants no more of it
lock         pid and birth of the process;  log.txt  what it says
"""

from __future__ import annotations

import contextlib
import json
import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock
from pydantic import TypeAdapter

from u2a_core.errors import RunError
from u2a_core.runs.files import read_json, write_json, writing
from u2a_core.runs.journal import Journal
from u2a_core.runs.lock import Lock
from u2a_core.runs.process import detached

_KEPT = 200
"""Tries that are kept; older ones are forgotten."""
_DIED = "The process of the try-outs ended without a word; its log tells why. Send it again."


@dataclass(frozen=True)
class Side:
    """One of the models that a prompt is tried on.

    Attributes:
        title: what the page calls it.
        run: id of the run whose settings load it.
        original: the model that the run began with; else the one that it made.
    """

    title: str
    run: str
    original: bool


@dataclass(frozen=True)
class Try:
    """A request.

    Attributes:
        id: sorts by time.
        prompt: the user's turn.
        temperature: of sampling; 0 takes the likeliest token.
        seed: of sampling, the same for all sides.
        max_new_tokens: longest reply.
        sides: the models, answered in this order.
        time: when it was asked, in seconds since the epoch.
    """

    id: str
    prompt: str
    temperature: float
    seed: int
    max_new_tokens: int
    sides: tuple[Side, ...]
    time: float


@dataclass(frozen=True)
class Reply:
    """One side's reply so far: how it ended (stop, length, stopped), or why there is none."""

    text: str = ""
    ended: str = ""
    error: str = ""


@dataclass(frozen=True)
class Outcome:
    """What there is of a try: the note says what it waits for, or why it ended early."""

    replies: tuple[Reply, ...]
    note: str = ""
    done: bool = False


@dataclass(frozen=True)
class Desk:
    """The requests and answers of a folder of runs."""

    runs: Path

    @property
    def folder(self) -> Path:
        """Beside the runs, and listed as none."""
        return self.runs / ".try"

    @property
    def lock(self) -> Lock:
        """Which process answers."""
        return Lock(self.folder / "lock")

    def log_tail(self) -> str:
        """The last lines that the process said."""
        return Journal(self.folder).log_tail()

    def ask(
        self,
        prompt: str,
        sides: tuple[Side, ...],
        *,
        temperature: float,
        seed: int,
        max_new_tokens: int,
    ) -> Try:
        """Writes a request; the process answers the oldest first.

        Raises:
            RunError: if the folder cannot be written, or the prompt is empty.
        """
        if not prompt.strip():
            raise RunError("The prompt must have a word at least; got none. Write one.")
        name = f"{time.time_ns()}-{secrets.token_hex(3)}"
        made = Try(name, prompt, temperature, seed, max_new_tokens, sides, time.time())
        write_json(self.folder / f"{made.id}.json", asdict(made))
        for old in self.tries()[_KEPT:]:
            if self.outcome(old).done:
                self.forget(old)
        return made

    def stop(self, asked: Try) -> None:
        """Tells the process that no more of it is wanted."""
        with writing(self.folder):
            (self.folder / f"{asked.id}.stop").touch()

    def stopped(self, asked: Try) -> bool:
        """Whether no more of it is wanted."""
        return (self.folder / f"{asked.id}.stop").exists()

    def tries(self) -> list[Try]:
        """All requests, newest first; damaged ones are left out."""
        found = [_try(path) for path in sorted(self.folder.glob("*.json"), reverse=True)]
        return [asked for asked in found if asked is not None]

    def waiting(self) -> Try | None:
        """The oldest request that nobody has begun."""
        return next((asked for asked in reversed(self.tries()) if not self.begun(asked)), None)

    def begun(self, asked: Try) -> bool:
        """Whether a process has taken it up."""
        return self._answers(asked).exists()

    def write(self, asked: Try, **line: Any) -> None:
        """One more line of the answer: side, text, ended, error; note; done.

        A try that was deleted meanwhile gets none.
        """
        if (self.folder / f"{asked.id}.json").exists():
            with (
                writing(self._answers(asked)),
                self._answers(asked).open("a", encoding="utf-8") as file,
            ):
                file.write(json.dumps(line) + "\n")

    def outcome(self, asked: Try) -> Outcome:
        """What there is of the answer."""
        replies = [Reply()] * len(asked.sides)
        note, done = "", False
        for line in self._lines(asked):
            done, note = bool(line.get("done", done)), str(line.get("note", note))
            side = line.get("side")
            if isinstance(side, int) and side in range(len(replies)):
                told = {key: str(line[key]) for key in ("text", "ended", "error") if key in line}
                replies[side] = Reply(**told)
        if not done and not self.lock.alive:
            return Outcome(tuple(replies), _DIED, done=True)
        return Outcome(tuple(replies), note, done)

    def forget(self, asked: Try) -> None:
        """Removes a try."""
        for end in ("json", "jsonl", "stop"):
            with contextlib.suppress(OSError):
                (self.folder / f"{asked.id}.{end}").unlink(missing_ok=True)

    @contextlib.contextmanager
    def door(self) -> Iterator[None]:
        """While open, no process of the try-outs begins or ends.

        Raises:
            RunError: if the folder cannot be written.
        """
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / ".launch.lock", timeout=30):
                yield

    def _answers(self, asked: Try) -> Path:
        return self.folder / f"{asked.id}.jsonl"

    def _lines(self, asked: Try) -> list[dict[str, Any]]:
        """The complete lines of an answer."""
        try:
            text = self._answers(asked).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return []
        found = []
        for line in text[: text.rfind("\n") + 1].split("\n"):
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
        return [line for line in found if isinstance(line, dict)]


def launch(desk: Desk, *, env: Mapping[str, str] = {}) -> None:
    """Starts the process that answers, where none is at work.

    Args:
        desk: where it reads.
        env: what its environment holds besides, such as the hub's token.

    Raises:
        RunError: if the folder cannot be written.
    """
    with desk.door():
        if desk.lock.alive:
            return
        log = desk.folder / "log.txt"
        desk.lock.assign(detached(["try", "--runs", desk.runs], env=env, log=log).pid)


_TRY = TypeAdapter(Try)


def _try(path: Path) -> Try | None:
    """A request, if its parts are what they must be."""
    try:
        return _TRY.validate_python(read_json(path))
    except (RunError, ValueError):
        return None
