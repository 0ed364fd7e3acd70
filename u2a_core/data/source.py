"""A file → its items one by one, with what has to be told of its other records. A single pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import chain, islice
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

from u2a_core.config import BESIDE, FormatName, Part
from u2a_core.data.columns import KINDS, Kind, recognize
from u2a_core.data.entries import Entry
from u2a_core.data.files import Record, told
from u2a_core.data.formats import FORMATS, detect, named_columns
from u2a_core.data.items import SYSTEM, Item, by_columns, items
from u2a_core.data.reading import Numbered, stream_records
from u2a_core.data.spoiled import spoiled
from u2a_core.data.turns import LeftOut, Unusable
from u2a_core.data.verdicts import Verdicts
from u2a_core.errors import DataError
from u2a_core.types import Fault, PreferencePair, Sample

Outcome: TypeAlias = Literal["no record", "fault", "left out", "kept", "repeated"]
"""no record: a line that is none; fault: a record that lacks something; left out: one that by a
rule of its format gives nothing to the set; kept: an item is made of it, though it looks odd;
repeated: it says what an earlier one says."""

Named: TypeAlias = Mapping[Part, str]

LOOKED_AT = 200
"""Records at the beginning of a file that tell its format."""
_HEAD = 5
_MOST_COLUMNS = 10_000
"""Names of columns that are remembered; a file of records may have new ones in each."""


class Remark(NamedTuple):
    """What there is to tell of a record."""

    line: int
    outcome: Outcome
    reason: str
    text: str


class Source:
    """The items of a file, for one pass; counts grow while it is gone through.

    Attributes:
        path: of the file, or a hub set.
        kind: what is made of its records.
        named: part → column, as the settings say; and format → its name.
        format: as the settings say, else as it is recognized; None: by the columns' names.
        container, marked: see `reading.Stream`.
        columns: all names of columns so far, in their order.
        head: the first records.
        records: how many records there were so far.
    """

    def __init__(self, path: str | Path, kind: Kind, named: Named | None = None) -> None:
        """Reads the beginning.

        Raises:
            DataError: if the file cannot be read, or is empty.
        """
        self.path, self.kind = path, kind
        self.named: Named = {p: column for p, column in (named or {}).items() if p != "format"}
        stream = stream_records(path)
        self.container, self.marked = stream.container, stream.marked
        begun = list(islice(stream.events, LOOKED_AT))
        records = [event[1] for event in begun if not isinstance(event, Fault)]
        self.head = records[:_HEAD]
        self.format = self._format((named or {}).get("format"), records)
        self.columns: dict[str, None] = {}
        self.records = 0
        self._verdicts = Verdicts(kind)
        self._events = chain(begun, stream.events)

    def _format(self, asked: str | None, records: Sequence[Record]) -> FormatName | None:
        known = next((name for name in FORMATS if name == asked), None)
        if known is not None:
            self.named = {**named_columns(known), **self.named}
            return known
        if set(self.named) - set(BESIDE):
            return None
        return detect([_lowered(record) for record in records])

    def __iter__(self) -> Iterator[tuple[int, Item] | Remark]:
        """Items with their lines, and remarks, in the order of the file.

        Raises:
            DataError: if the file cannot be read on; at its end, if no record is usable.
        """
        some, reasons = False, dict[str, list[int]]()
        for event in self._events:
            if isinstance(event, Fault):
                found: Iterable[tuple[int, Item] | Remark]
                found = [Remark(event.line, "no record", event.reason, event.text)]
            else:
                self._count(event)
                found = self._of(*event)
            for one in found:
                if not isinstance(one, Remark):
                    some = True
                elif not some and (one.reason in reasons or len(reasons) < LOOKED_AT):
                    reasons.setdefault(one.reason, [one.line, 0])[1] += 1
                yield one
        if not some:
            raise DataError(self._nothing_usable(reasons))

    def _count(self, event: Numbered) -> None:
        self.records += 1
        if len(self.columns) < _MOST_COLUMNS:
            self.columns.update(dict.fromkeys(map(str, event[1])))

    def _of(self, line: int, record: Record) -> Iterator[tuple[int, Item] | Remark]:
        """What is made of a record."""
        lowered = _lowered(record)
        try:
            entry, key, group = self._entry(lowered)
        except Unusable as reason:
            yield Remark(line, _outcome(reason), str(reason), told(record))
            return
        for found in items(entry, self.kind, key, group):
            if isinstance(found, Unusable):
                yield Remark(line, _outcome(found), str(found), told(record))
                continue
            yield line, found
            if odd := _odd(found):
                yield Remark(line, "kept", odd, told(record))
        for own, against in self._verdicts.against(line, entry):
            yield Remark(own, "kept", against, told(record))

    def _entry(self, record: Record) -> tuple[Entry, object, object]:
        """The record by its meaning, its own id and kind.

        Raises:
            Unusable: if it lacks a column.
        """
        known = FORMATS[self.format] if self.format else None
        if known is None or known.entry is None:
            parts = self._parts(tuple(record))
            entry = by_columns(record, self.kind, parts)
        else:
            missing = next((column for column in known.needs if column not in record), None)
            if missing is not None:
                raise Unusable(f"has no column {missing}, which {known.title} has")
            parts = {p: self.named.get(p, p).strip().lower() for p in BESIDE}
            entry = known.entry(record)
            if SYSTEM in record and SYSTEM in known.reads:
                entry = replace(entry, system=record[SYSTEM])
        # a column may have an empty name, as the index of a table that pandas wrote
        key, group = (record.get(parts[p]) if p in parts else None for p in BESIDE)
        return entry, key, group

    def _parts(self, columns: tuple[str, ...]) -> Named:
        parts = _recognized(columns, self.kind, tuple(self.named.items()))
        for part, column in self.named.items():
            if part not in parts and part not in BESIDE:
                raise Unusable(f"has no column {column}, which is named for the {part}")
        return parts

    @property
    def reads(self) -> dict[str, str]:
        """Column as the file spells it → the part, or words for what it is read as."""
        spelled = {_plain(column): column for column in self.columns}
        known = FORMATS[self.format] if self.format else None
        found: dict[str, str]
        if known is None or known.entry is None:
            parts = _recognized(tuple(spelled), self.kind, tuple(self.named.items()))
            more = {"input": "prompt, continued"} if parts.get("prompt") == "instruction" else {}
            found = {SYSTEM: "system message", **more}
            found |= {column: part for part, column in parts.items()}
        else:
            beside = {self.named.get(part, part).strip().lower(): part for part in BESIDE}
            found = {**beside, **known.reads}
        return {spelled[column]: part for column, part in found.items() if column in spelled}

    @property
    def unread(self) -> list[str]:
        """Columns, as the file spells them, that no set would read of a file of this format."""
        known = FORMATS[self.format] if self.format else None
        read = set(self.reads)
        if known is not None and known.entry is None:
            plain, named = tuple(map(_plain, self.columns)), tuple(self.named.items())
            others = (_recognized(plain, kind, named).values() for kind in set(KINDS.values()))
            taken = set(chain.from_iterable(others))
            read |= {column for column in self.columns if _plain(column) in taken}
        return [column for column in self.columns if column not in read]

    def _nothing_usable(self, reasons: Mapping[str, Sequence[int]]) -> str:
        columns = sorted(self.columns)[:12]
        why = "no records"
        if reasons:  # the reason of most lines is that of the file
            often = max(reasons, key=lambda reason: reasons[reason][1])
            why = f"line {reasons[often][0]}: {often}"
        known = f"{FORMATS[self.format].title}; " if self.format else ""
        return (
            f"{self.path} must hold usable records; got none of {self.records} ({why}; {known}"
            f"columns: {', '.join(columns) or 'none'}). Accepted columns: prompt/response, "
            "messages, instruction/output, question/answer, or prompt/chosen/rejected; others are "
            "named with data.columns, a format with data.formats."
        )


def _outcome(reason: Unusable) -> Outcome:
    return "left out" if isinstance(reason, LeftOut) else "fault"


def _odd(item: Item) -> str:
    """What is odd about an item's texts, though they are kept."""
    if isinstance(item, Sample):
        prompt, replies = item.prompt, [item.response]
    elif isinstance(item, PreferencePair):
        prompt, replies = item.prompt, [item.chosen, item.rejected]
    else:
        prompt, replies = item, []
    texts = [*replies, *(message.content for message in prompt)]
    return next((odd for text in texts if (odd := spoiled(text))), "")


def _lowered(record: Record) -> Record:
    return {_plain(column): value for column, value in record.items()}


@lru_cache(4096)
def _plain(column: object) -> str:
    """A column's name without regard to case, blanks around it, and a second byte order mark."""
    return str(column).strip("\ufeff \t\r\n").lower()


@lru_cache(256)
def _recognized(columns: tuple[str, ...], kind: Kind, named: tuple[tuple[Part, str], ...]) -> Named:
    return recognize(columns, kind, dict(named))
