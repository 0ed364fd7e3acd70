"""Files beside reading them: writing records, replacing as a whole, content hashes."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

Record: TypeAlias = dict[str, Any]
"""As a file holds it: column → value."""

_serial = itertools.count()
_WHOLE, _END = 64 * 2**20, 2**20
_SHOWN = 160


def beginning(text: str) -> str:
    """As much of a text as fits beside a fault or in a table: 160 characters, all of them whole."""
    shown = text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
    return shown if shown.isascii() else shown.encode("utf-8", "replace").decode()


def told(value: Any) -> str:
    """How a value of a file begins: a text itself, anything else as JSON."""
    if isinstance(value, str):
        return beginning(value)
    try:
        return beginning(json.dumps(value, ensure_ascii=False, default=str))
    except (ValueError, RecursionError, TypeError):  # deeper than can be written, or odd keys
        return f"a {type(value).__name__} that cannot be written as JSON"


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
