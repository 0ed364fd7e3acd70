"""CSV and its like → records with their lines, a row at a time; an open quote is told."""

from __future__ import annotations

import csv
import re
from collections import Counter, deque
from collections.abc import Iterable, Iterator

from u2a_core.data.files import Record, beginning
from u2a_core.types import Fault

_LONGEST = 20_000
"""Lines of one row: in a longer one a quote was left open long ago."""
csv.field_size_limit(2**31 - 1)  # a cell may hold a long conversation


_TOLD = re.compile(r'"?sep=([\t,;|])"?')


class _Lines:
    """The lines of a text, of which those of the row in hand can be given back."""

    def __init__(self, text: Iterable[str]) -> None:
        self._text, self._again = iter(text), deque[str]()
        self.number, self.open = 0, False
        self.row: list[str] = []

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else next(self._text, "")
        if not line:
            self.open = True  # a row asks for more
            raise StopIteration
        self.number += 1
        self.row.append(line)
        if len(self.row) > _LONGEST:
            began = self.number - len(self.row) + 1
            raise csv.Error(f"a quote in line {began} that is not closed in {_LONGEST:,} lines")
        return line

    def back(self, start: int) -> None:
        """Gives the lines of the row from `start` on back."""
        others = self.row[start:]
        self._again.extendleft(reversed(others))
        self.number -= len(others)
        self.open = False


def rows(text: Iterable[str]) -> Iterator[tuple[int, Record] | Fault]:
    """Records by the header; cells are parted by commas, or what else stands in the header.

    That is a tab, a semicolon or a bar; or what a first line `sep=;` names, as spreadsheets do.
    A row over several lines must be valid CSV: else its first line is a fault, and the rows that
    the open quote would have swallowed are read.

    Raises:
        csv.Error: if two columns have one name, or a quote is never closed.
    """
    lines = _Lines(text)
    header = next((line for line in lines if line.strip()), "")
    if told := _TOLD.fullmatch(header.strip("\r\n")):
        comma = told[1]
        lines.row.clear()
    else:
        lines.back(len(lines.row) - 1)
        comma = next((c for c in "\t;|" if c in header and "," not in header), ",")
    reader = csv.reader(lines, delimiter=comma)
    names = next(reader, [])
    repeated = Counter(name.strip().lower() for name in names)
    if names and (most := repeated.most_common(1)[0])[1] > 1 and most[0]:
        raise csv.Error(f"{most[1]} columns named {most[0]}, of which only one could be read")
    lines.row.clear()
    for cells in reader:
        if (lines.open or len(lines.row) > 1) and not _is_whole(lines.row, comma):
            lines.back(1)
            yield Fault(lines.number, "a quote that is not closed", beginning(lines.row[0].strip()))
        elif cells and len(cells) != len(names):
            reason = "a row with more or fewer cells than the header (a comma without quotes?)"
            yield Fault(lines.number, reason, beginning(",".join(cells)))
        elif cells:
            yield lines.number, dict(zip(names, cells, strict=True))
        lines.row.clear()


def _is_whole(row: list[str], comma: str) -> bool:
    """Whether lines are one row of valid CSV."""
    try:
        return len(list(csv.reader(row, delimiter=comma, strict=True))) == 1
    except csv.Error:
        return False
