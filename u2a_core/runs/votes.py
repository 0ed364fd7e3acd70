"""Blind votes on the replies of two models: which is better, said without knowing whose it is.

One append-only file of lines a pair of models. Its first line is the ballot: a seed, which decides
for every prompt which model stands on the left, so that a reload keeps the sides. A line that was
torn by a full disk or a killed process is skipped; a later vote on the same replies replaces the
earlier one.
"""

from __future__ import annotations

import hashlib
import json
import random
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from u2a_core.metrics import share
from u2a_core.runs.files import writing
from u2a_core.types import Estimate

Choice: TypeAlias = Literal["left", "right", "tie", "skip"]
Side: TypeAlias = Literal["a", "b"]
Replies: TypeAlias = tuple[int, int]
"""Two replies to the same draw of a prompt: prompt_index, sample."""


@dataclass(frozen=True)
class Vote:
    """One judgement.

    Attributes:
        prompt: the text that both models replied to.
        prompt_index: its place among the test prompts.
        sample: which draw of it.
        left: the model that stood on the left.
        choice: the side that was found better; tie, or skip for no judgement.
        time: ISO 8601, with the zone.
    """

    prompt: str
    prompt_index: int
    sample: int
    left: Side
    choice: Choice
    time: str

    @property
    def winner(self) -> Side | None:
        """The model that was found better."""
        if self.choice not in ("left", "right"):
            return None
        other: Side = "b" if self.left == "a" else "a"
        return self.left if self.choice == "left" else other


@dataclass(frozen=True)
class Tally:
    """What the votes say.

    Attributes:
        a: votes for A.
        b: votes for B.
        ties: neither is better.
        skipped: no judgement; in no figure.
        rate: share of B among the votes that decided, with its 95 % Wilson interval.
    """

    a: int
    b: int
    ties: int
    skipped: int
    rate: Estimate


@dataclass(frozen=True)
class Ballot:
    """The votes on one pair of models.

    Attributes:
        folder: `Workspace.annotations` of B's run.
        a: A's id; "original" for the original model.
        b: B's id.
    """

    folder: Path
    a: str
    b: str

    @property
    def file(self) -> Path:
        """Where the votes are kept; an id never becomes a path."""
        return self.folder / "votes" / f"{hashlib.sha256(self.a.encode()).hexdigest()[:16]}.jsonl"

    @property
    def begun(self) -> bool:
        """Whether there is a ballot."""
        return self._seed() is not None

    def begin(self) -> None:
        """A new ballot with sides of its own; one that has begun goes on.

        Raises:
            RunError: if the folder cannot be written.
        """
        if self.begun:
            return
        with writing(self.file):
            self.file.parent.mkdir(parents=True, exist_ok=True)
        self._append({"ballot": secrets.token_hex(8), "a": self.a, "b": self.b, "time": _now()})

    def left(self, prompt_index: int, sample: int) -> Side:
        """Which model stands on the left."""
        return random.Random(f"{self._seed()} {prompt_index} {sample}").choice(("a", "b"))

    def shuffled(self, items: Iterable[Replies]) -> list[Replies]:
        """The replies in the ballot's order."""
        order = sorted(items)
        random.Random(f"{self._seed()} order").shuffle(order)
        return order

    def cast(self, prompt: str, prompt_index: int, sample: int, choice: Choice) -> Vote:
        """Keeps a vote.

        Raises:
            RunError: if it cannot be written; the votes before it stay.
        """
        vote = Vote(prompt, prompt_index, sample, self.left(prompt_index, sample), choice, _now())
        self._append(asdict(vote))
        return vote

    def votes(self) -> list[Vote]:
        """The last vote on each pair of replies, in the order in which they were first voted on."""
        found = {(v.prompt_index, v.sample): v for v in map(_vote, self._lines()) if v is not None}
        return list(found.values())

    def delete(self) -> None:
        """Removes the votes; a new ballot will have other sides."""
        with writing(self.file):
            self.file.unlink(missing_ok=True)

    def _append(self, record: dict[str, Any]) -> None:
        text = json.dumps(record, ensure_ascii=False) + "\n"
        with writing(self.file), self.file.open("ab+") as file:
            if file.tell():
                file.seek(-1, 2)
                text = text if file.read(1) == b"\n" else "\n" + text  # after a torn line
            file.write(text.encode())

    def _lines(self) -> list[dict[str, Any]]:
        try:
            text = self.file.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return []
        return [found for line in text.split("\n") if isinstance(found := _object(line), dict)]

    def _seed(self) -> str | None:
        return next((str(line["ballot"]) for line in self._lines() if "ballot" in line), None)


def tally(votes: Sequence[Vote]) -> Tally:
    """Counts and B's win rate."""
    winners = [vote.winner for vote in votes]
    a, b = winners.count("a"), winners.count("b")
    choices = [vote.choice for vote in votes]
    return Tally(a, b, choices.count("tie"), choices.count("skip"), share(b, a + b))


def agreement(votes: Sequence[Vote], changes: Mapping[Replies, float]) -> Estimate:
    """How often the reply that was found better has the higher reward, 95 % Wilson interval.

    Votes that decided nothing, and replies of equal or unknown reward, are left out of n.

    Args:
        votes: of a ballot.
        changes: replies → reward of B minus that of A.
    """
    agreed = []
    for vote in votes:
        change = changes.get((vote.prompt_index, vote.sample), 0.0)
        if vote.winner is not None and abs(change) > 0:  # NaN is not
            agreed.append((vote.winner == "b") == (change > 0))
    return share(sum(agreed), len(agreed))


def _object(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None


def _vote(line: dict[str, Any]) -> Vote | None:
    """A line's vote; None where it is none, or damaged."""
    try:
        vote = Vote(**line)
    except TypeError:
        return None
    whole = isinstance(vote.prompt_index, int) and isinstance(vote.sample, int)
    known = vote.choice in get_args(Choice) and vote.left in get_args(Side)
    return vote if whole and known else None


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")
