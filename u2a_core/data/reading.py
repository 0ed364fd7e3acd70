"""Any file of records → a stream of them with their lines: JSONL, JSON, CSV, Parquet, plain text.

What a file is, is recognized by content, because real files carry the wrong names: JSON lines
called .json, arrays called .jsonl. A broken line is a `Fault`, not an exception. Of JSON lines,
CSV, Parquet and text a part at a time is in memory; only JSON that is one value is read whole.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from u2a_core.data import hub
from u2a_core.data.columns import CONVERSATIONS
from u2a_core.data.delimited import rows
from u2a_core.data.files import Record, beginning, told
from u2a_core.data.lines import CHUNK, HOW, WHOLE, begins, check_decodable, decoded, lines, opened
from u2a_core.errors import DataError
from u2a_core.types import Fault

Numbered: TypeAlias = tuple[int, Record]
"""A record and the line (or, in an array or table, the position) it stands at, from 1."""

_ROWS = 64


@dataclass(frozen=True)
class Stream:
    """The records of a file, to be gone through once.

    Attributes:
        container: what the file is: JSON lines, JSON array, CSV, …
        marked: whether it begins with a byte order mark.
        events: records with their lines, and the lines that are none. Going through them raises
            DataError where the file cannot be read any further, or holds nothing.
    """

    container: str
    marked: bool
    events: Iterator[Numbered | Fault]


def stream_records(path: str | Path) -> Stream:
    """The records of a file, or of a hub set, named as `hub` says.

    Raises:
        DataError: if it cannot be read as any format, or is empty.
    """
    file = Path(path)
    if hub.is_hub_id(path):
        container, events = hub.read(str(path))
        return Stream(container, False, events)
    start, marked = begins(file)
    if start == b"PAR1":
        return Stream("Parquet", False, _parquet(file))
    if start == b"{":
        return _objects(file, marked)
    if start == b"[":
        return Stream("JSON array", marked, _entries(_value(file)))
    if file.suffix.lower() == ".txt":
        return Stream("lines of text", marked, _text_lines(file))
    return Stream("CSV", marked, _table(file))


def read_records(path: str | Path) -> tuple[list[Numbered], list[Fault]]:
    """All records of a file, or of a hub set, at once.

    Raises:
        DataError: if it cannot be read as any format, or holds nothing.
    """
    records: list[Numbered] = []
    faults: list[Fault] = []
    for event in stream_records(path).events:
        if isinstance(event, Fault):
            faults.append(event)
        else:
            records.append(event)
    return records, faults


def _value(file: Path) -> Any:
    """A file that is one JSON value."""
    with opened(file) as stream:
        raw = stream.read(WHOLE + 1)
    if len(raw) > WHOLE:
        raise DataError(
            f"{file} must be JSON lines, CSV or Parquet where it has more than {WHOLE // 2**20} "
            "MiB; got one JSON value, which is read whole. Write one record a line."
        )
    try:
        return json.loads(decoded(raw, file))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file} must be valid JSON; got: {error}. {HOW}") from error


def _objects(file: Path, marked: bool) -> Stream:
    """JSON lines; or one JSON object: a record, or an envelope such as {"data": [...]}."""
    full = ((line, raw) for line, _, raw in lines(file) if not _blank(raw))
    first, second = next(full), next(full, None)
    if second is None or (isinstance(_parsed(*first), Fault) and not _goes_on(file, *second)):
        try:
            whole = _value(file)  # an object over several lines, or the only line
        except DataError:
            if second is None:
                raise
        else:
            return Stream("JSON object", marked, _entries(_inside(whole)))
    return Stream("JSON lines", marked, _json_lines(file))


def _goes_on(file: Path, line: int, raw: bytes) -> bool:
    """Whether a line is a record of a file too large to be tried as one value for nothing."""
    return file.stat().st_size > WHOLE // 8 and isinstance(_parsed(line, raw), dict)


def _inside(whole: Any) -> Any:
    """The records of an envelope; of any other object itself."""
    (key, inner), *others = whole.items() or [("", None)]
    if others or key in CONVERSATIONS or not isinstance(inner, list) or _turns(inner):
        return [whole]
    return inner


def _turns(entries: list[Any]) -> bool:
    """Whether a list is a conversation, and so the cell of a record."""
    return bool(entries) and all(
        isinstance(turn, dict) and (turn.keys() >= {"role", "content"} or "from" in turn)
        for turn in entries
    )


def _json_lines(file: Path) -> Iterator[Numbered | Fault]:
    """Line by line.

    Raises:
        DataError: at the end, if no line is valid JSON.
    """
    some, why = False, None
    for line, _, raw in lines(file):
        if _blank(raw):
            continue
        item = _parsed(line, raw)
        if isinstance(item, Fault):
            why = why or item.reason
            yield item
            continue
        some = True
        yield (line, item) if isinstance(item, dict) else _no_record(line, item)
    if not some:
        raise DataError(f"{file} must be valid JSON; got: {why}. {HOW}")


def _blank(raw: bytes) -> bool:
    return not raw.removeprefix(codecs.BOM_UTF8).strip()


def _parsed(line: int, raw: bytes) -> Any:
    """The value of a line, or a Fault."""
    try:
        text = raw.decode("utf-8-sig" if line == 1 else "utf-8")
    except UnicodeDecodeError as error:
        shown = beginning(raw[: 4 * 160].decode("utf-8", "replace").strip())
        return Fault(line, f"not UTF-8 text (byte {raw[error.start]:#04x})", shown)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        return Fault(line, f"not valid JSON ({error})", beginning(text.strip()))


def _entries(items: Any) -> Iterator[Numbered | Fault]:
    """The entries of an array."""
    for line, item in enumerate(items, start=1):
        yield (line, item) if isinstance(item, dict) else _no_record(line, item)


def _no_record(line: int, item: Any) -> Fault:
    return Fault(line, f"a {type(item).__name__}, not an object of columns", told(item))


def _parquet(file: Path) -> Iterator[Numbered]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as table:
            line = 0
            for batch in table.iter_batches(_ROWS):
                for row in batch.to_pylist():
                    line += 1
                    yield line, row
    # a date that Python has no year for is a ValueError or an OverflowError
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise DataError(f"{file} must be a whole Parquet file; got: {error}.") from error


def _text_lines(file: Path) -> Iterator[Numbered]:
    """A prompt a line. Not splitlines, which also cuts at separators that stand inside a prompt."""
    for line, position, raw in lines(file):
        prompt = decoded(raw, file, position).removesuffix("\n").removesuffix("\r")
        if prompt.strip():
            yield line, {"prompt": prompt}


def _table(file: Path) -> Iterator[Numbered | Fault]:
    """CSV with a header; cells are parted as `delimited` says."""
    found = False
    with opened(file) as raw:
        if b"\x00" in raw.read(CHUNK):
            check_decodable(file)
            raise DataError(f"{file} must be UTF-8 text or Parquet; got a binary file. {HOW}")
        raw.seek(0)
        text = io.TextIOWrapper(raw, encoding="utf-8-sig", newline="")
        try:
            for event in rows(text):
                found = True
                yield event
        except UnicodeDecodeError:
            check_decodable(file)
        except csv.Error as error:
            raise DataError(f"{file} must be valid CSV; got: {error}. {HOW}") from error
    if not found:
        raise DataError(f"{file} must hold at least one record; got none. {HOW}")
