"""Counts over one file, item by item, in memory that a million records do not fill."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np

from u2a_core.data.files import beginning
from u2a_core.data.items import Item
from u2a_core.data.overlaps import Keys
from u2a_core.data.records import Identity
from u2a_core.data.source import Outcome, Remark
from u2a_core.types import Fault, PreferencePair, Sample, prompt_text

KEPT = 10_000
"""Faults and repetitions that are kept with their texts; beyond that they are counted only."""
SHOWN_ROWS = 1_000
_MOST_REASONS = 100

Sink: TypeAlias = Callable[[Remark], object]
"""Takes every remark on a file, however many there are."""


class Row(NamedTuple):
    """A usable record as a table shows it; texts are cut."""

    line: int
    id: str
    kind: str
    prompt: str
    reply: str = ""
    """Of a pair the chosen one."""
    rejected: str = ""


class Repeat(NamedTuple):
    """A record that says the same as an earlier one."""

    line: int
    first: int
    text: str


class Reason(NamedTuple):
    """Why so many records are not used, or look odd, and the line of the first of them."""

    outcome: Outcome
    reason: str
    records: int
    line: int


class Tally:
    """What a file holds.

    Attributes:
        usable, faulty, duplicates, left_out, odd: counts of records.
        faults, repeated: the first of these.
        rows: the first usable records.
        lengths: of replies, in characters; of prompts, where there are no replies.
        longest_prompt: in characters.
        keys: what tells the usable records apart.
    """

    def __init__(self, sink: Sink, identity: Identity | None) -> None:
        """Begins at nothing.

        Args:
            sink: takes all remarks.
            identity: of negatives, whose repetitions are dropped; None for other sets.
        """
        self.usable = self.faulty = self.duplicates = self.left_out = self.odd = 0
        self.faults: list[Fault] = []
        self.repeated: list[Repeat] = []
        self.rows: list[Row] = []
        self.lengths = array("L")
        self.longest_prompt = 0
        self.keys = Keys()
        self._sink, self._identity = sink, identity
        self._first: dict[int, int] = {}
        self._reasons: dict[tuple[Outcome, str], list[int]] = {}

    def remark(self, remark: Remark) -> None:
        """A record of which there is something to tell."""
        self._sink(remark)
        if remark.outcome in ("no record", "fault"):
            self.faulty += 1
            if len(self.faults) < KEPT:
                self.faults.append(Fault(remark.line, remark.reason, remark.text))
        elif remark.outcome == "left out":
            self.left_out += 1
        else:
            self.odd += 1
        # what stands in brackets is told of one line alone
        key = (remark.outcome, remark.reason.split(" (")[0])
        if key not in self._reasons and len(self._reasons) >= _MOST_REASONS:
            key = (remark.outcome, "other reasons")
        counted = self._reasons.setdefault(key, [0, remark.line])
        counted[0] += 1

    def add(self, line: int, item: Item) -> None:
        """A usable record."""
        key = self.keys.add(item)
        first = self._first.get(key)  # maybe of the same line: a record may hold a reply twice
        self._first.setdefault(key, line)
        prompt, reply = _texts(item)
        if first is not None:
            self._repeat(line, first, beginning(" → ".join(filter(None, (prompt, reply)))))
            if self._identity is not None:
                return
        self.usable += 1
        if self._identity is not None and isinstance(item, Sample):
            self._identity.add(line, item)
        self.lengths.append(len(reply or prompt))
        self.longest_prompt = max(self.longest_prompt, len(prompt))
        if len(self.rows) < SHOWN_ROWS:
            self.rows.append(_row(line, item))

    def _repeat(self, line: int, first: int, text: str) -> None:
        self.duplicates += 1
        self._sink(Remark(line, "repeated", f"says what line {first} says", text))
        if len(self.repeated) < KEPT:
            self.repeated.append(Repeat(line, first, text))

    @property
    def reasons(self) -> tuple[Reason, ...]:
        """Why records are not used, or look odd; the most frequent first."""
        found = [
            Reason(outcome, reason, records, line)
            for (outcome, reason), (records, line) in self._reasons.items()
        ]
        return tuple(sorted(found, key=lambda reason: -reason.records))

    @property
    def median_length(self) -> float:
        """Of the lengths; 0 where there is none."""
        return float(np.median(np.asarray(self.lengths))) if self.lengths else 0.0


def _texts(item: Item) -> tuple[str, str]:
    """Prompt and reply; of a pair both replies, of a prompt none."""
    if isinstance(item, Sample):
        return prompt_text(item.prompt), item.response
    if isinstance(item, PreferencePair):
        return prompt_text(item.prompt), f"{item.chosen} ≻ {item.rejected}"
    return prompt_text(item), ""


def _row(line: int, item: Item) -> Row:
    prompt, reply = map(beginning, _texts(item))
    if isinstance(item, PreferencePair):
        return Row(line, "", "", prompt, beginning(item.chosen), beginning(item.rejected))
    if isinstance(item, Sample):
        return Row(line, item.id, item.kind, prompt, reply)
    return Row(line, "", "", prompt)
