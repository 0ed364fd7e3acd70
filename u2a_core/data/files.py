"""Any file of records → a list of dicts with their lines: JSONL, JSON, CSV, Parquet, plain text.

The format is recognized by content, because real files carry the wrong names: JSON lines called
.json, arrays called .jsonl. A broken line is a `Fault`, not an exception.
"""

from __future__ import annotations

import codecs
import csv
import hashlib
import io
import itertools
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

from u2a_core.config import there
from u2a_core.data.columns import CONVERSATIONS
from u2a_core.errors import DataError
from u2a_core.types import Fault

Record: TypeAlias = dict[str, Any]
Numbered: TypeAlias = tuple[int, Record]
"""A record and the line (or, in an array or table, the position) it stands at, from 1."""

_ENDINGS = (".jsonl", ".json", ".csv", ".parquet", ".txt")
_serial = itertools.count()
_WHOLE, _END = 64 * 2**20, 2**20
_SHOWN = 160
_HUB_ID = re.compile(r"^[\w.-]+/[\w.-]+(:[\w.-]+)?$")
_HOW = "Give JSONL, JSON, CSV or Parquet with a prompt and a response."
csv.field_size_limit(2**31 - 1)  # a cell may hold a long conversation


def read_records(path: str | Path) -> tuple[list[Numbered], list[Fault]]:
    """All records of a file, or of a hub set given as owner/name or owner/name:split.

    Raises:
        DataError: if it cannot be read as any format, or holds nothing.
    """
    file = Path(path)
    if is_hub_id(path):
        return _hub(str(path)), []
    start = _start(file)
    if start.startswith(b"PAR1"):
        return _parquet(file), []
    if start == b"{":
        return _lines(file)
    text = _text(file)
    return _array(text, file) if start == b"[" else _table(text, file)


def beginning(text: str) -> str:
    """As much of a text as fits beside a fault or in a table: 160 characters."""
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def is_hub_id(path: str | Path) -> bool:
    """Whether it names a hub set: owner/name that is no file here, and by its ending is none."""
    name = str(path)
    return bool(_HUB_ID.match(name)) and not there(Path(name)) and not name.endswith(_ENDINGS)


def write_records(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """JSON lines, moved into place as a whole."""
    text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    replace_file(path, lambda beside: beside.write_text(text, encoding="utf-8"))


def replace_file(target: Path, write: Callable[[Path], object]) -> None:
    """What `write` puts into the file it is given takes the target's place as a whole."""
    target.parent.mkdir(parents=True, exist_ok=True)
    # a signal's handler may write the file that is being written: each has its own beside
    beside = target.with_name(f".{target.name}.{os.getpid()}.{next(_serial)}")
    try:
        write(beside)
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)


def fingerprint(path: Path) -> str:
    """SHA-256 of a file, or of the names and contents of a folder's files.

    Of a file over 64 MiB (weights) its size, first and last MiB stand for the rest.
    """
    if path.is_file():
        with path.open("rb") as file:
            size = path.stat().st_size
            if size <= _WHOLE:
                return hashlib.file_digest(file, "sha256").hexdigest()
            digest = hashlib.sha256(str(size).encode() + file.read(_END))
            file.seek(-_END, os.SEEK_END)
            return hashlib.sha256(digest.digest() + file.read()).hexdigest()
    files = sorted(file for file in path.rglob("*") if file.is_file())
    parts = (f"{file.relative_to(path)} {fingerprint(file)}\n" for file in files)
    return hashlib.sha256("".join(parts).encode()).hexdigest()


@contextmanager
def _opened(file: Path) -> Iterator[BinaryIO]:
    try:
        stream = file.open("rb")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(
            f"{file} must be a readable file; got: {reason} (looked for {_whole(file)}). "
            "Check the path."
        ) from error
    with stream:
        yield stream


def _whole(file: Path) -> str:
    """The path from the root, where there can be one."""
    try:
        return str(file.resolve())[:1000]
    except (OSError, ValueError):
        return "no possible path"


def _start(file: Path) -> bytes:
    """The first byte that tells something; of a Parquet file its mark."""
    with _opened(file) as stream:
        begun = stream.read(4)
        if begun == b"PAR1":
            return begun
        stream.seek(0)
        for line in stream:
            if told := line.removeprefix(codecs.BOM_UTF8).lstrip():
                return told[:1]
    raise DataError(f"{file} must hold at least one record; it is empty. {_HOW}")


def _text(file: Path) -> str:
    with _opened(file) as stream:
        text = _decoded(stream.read(), file)
    if not text.strip():
        raise DataError(f"{file} must hold at least one record; it is empty. {_HOW}")
    return text


def _decoded(raw: bytes, file: Path, position: int = 0) -> str:
    """UTF-8 text that stands at a position of the file."""
    try:
        text = raw.decode("utf-8" if position else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{file} must be UTF-8 text or Parquet; got byte {raw[error.start]:#04x} at position "
            f"{position + error.start}. Save it as UTF-8."
        ) from error
    if "\x00" in text:
        raise DataError(f"{file} must be UTF-8 text or Parquet; got a binary file. {_HOW}")
    return text


def _parquet(file: Path) -> list[Numbered]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        rows = pq.read_table(file).to_pylist()
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file} must be a whole Parquet file; got: {error}.") from error
    return list(enumerate(rows, start=1))


def _hub(name: str) -> list[Numbered]:
    """A hub set through the datasets library; its first split if none is named."""
    import datasets

    path, _, split = name.partition(":")
    try:
        loaded = datasets.load_dataset(path, split=split or None)
    except (OSError, ValueError, ImportError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{name} must be a file or a hub data set; got: {reason}") from error
    rows = loaded if split else next(iter(loaded.values()))
    return [(line, dict(row)) for line, row in enumerate(rows, start=1)]


def _array(text: str, file: Path) -> tuple[list[Numbered], list[Fault]]:
    try:
        items = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file} must be valid JSON; got: {error}.") from error
    return _records(list(enumerate(items, start=1)))


def _lines(file: Path) -> tuple[list[Numbered], list[Fault]]:
    """JSON lines; or one JSON object: a record, or an envelope such as {"data": [...]}."""
    items: list[tuple[int, Any]] = []
    faults: list[Fault] = []
    position = 0
    with _opened(file) as stream:
        for line, raw in enumerate(stream, start=1):
            content = _decoded(raw, file, position)
            position += len(raw)
            if not content.strip():
                continue
            try:
                items.append((line, json.loads(content)))
            except (ValueError, RecursionError) as error:
                faults.append(Fault(line, f"not valid JSON ({error})", beginning(content.strip())))
    if (faults and not items) or (len(items) == 1 and not faults):
        return _object(_text(file), file)
    records, more = _records(items)
    return records, sorted([*faults, *more], key=lambda fault: fault.line)


def _object(text: str, file: Path) -> tuple[list[Numbered], list[Fault]]:
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file} must be valid JSON; got: {error}. {_HOW}") from error
    if not isinstance(whole, dict):
        return _records([(1, whole)])
    (key, inner), *others = whole.items() or [("", None)]
    if others or key in CONVERSATIONS or not isinstance(inner, list):
        return [(1, whole)], []
    return _records(list(enumerate(inner, start=1)))


def _records(items: list[tuple[int, Any]]) -> tuple[list[Numbered], list[Fault]]:
    records = [(line, item) for line, item in items if isinstance(item, dict)]
    faults = [
        Fault(line, f"a {type(item).__name__}, not an object of columns", beginning(str(item)))
        for line, item in items
        if not isinstance(item, dict)
    ]
    return records, faults


def _table(text: str, file: Path) -> tuple[list[Numbered], list[Fault]]:
    """CSV with a header; or one prompt a line, where the name ends in .txt."""
    if file.suffix == ".txt":
        # not splitlines, which also cuts at separators that stand inside a prompt
        lines = enumerate(text.replace("\r\n", "\n").split("\n"), start=1)
        return [(line, {"prompt": prompt}) for line, prompt in lines if prompt.strip()], []
    rows: list[Numbered] = []
    faults: list[Fault] = []
    reader = csv.DictReader(io.StringIO(text, newline=""))
    try:
        for row in reader:
            if None in row or None in row.values():
                reason = "a row with more or fewer cells than the header (a comma without quotes?)"
                cells = [*(v for v in row.values() if isinstance(v, str)), *row.get(None, [])]
                faults.append(Fault(reader.line_num, reason, beginning(",".join(cells))))
            else:
                rows.append((reader.line_num, dict(row)))
    except csv.Error as error:
        raise DataError(f"{file} must be valid CSV; got: {error}. {_HOW}") from error
    if not rows and not faults:
        raise DataError(f"{file} must hold at least one record; got none. {_HOW}")
    return rows, faults
