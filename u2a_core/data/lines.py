"""The bytes of a text file: where it begins, its lines with their positions, decoded as UTF-8."""

from __future__ import annotations

import codecs
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from u2a_core.config import there
from u2a_core.errors import DataError

WHOLE = 2**29
"""Bytes of one JSON value, or of one line, that are read at most."""

CHUNK = 2**16
_PACKED = {b"\x1f\x8b": "gzip", b"\xfd7zX": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
"""How a packed file begins → by what it was packed."""
_UNPACK = {"gzip": "gunzip", "xz": "unxz", "zstd": "unzstd"}
HOW = "Give JSONL, JSON, CSV or Parquet with a prompt and a response."


@contextmanager
def opened(file: Path) -> Iterator[BinaryIO]:
    """A file to read from.

    Raises:
        DataError: if it cannot be opened, or has no end of its own.
    """
    if there(file) and not (file.is_file() or file.is_dir()):
        raise DataError(
            f"{file} must be a file; got a pipe or a device. Copy its content into one."
        )
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
    except (OSError, ValueError, RuntimeError):  # the last: links in a ring
        return "no possible path"


def begins(file: Path) -> tuple[bytes, bool]:
    """The first byte that tells something, of a Parquet file its mark; whether a BOM is before."""
    with opened(file) as stream:
        begun = stream.read(4)
        if begun == b"PAR1":
            return begun, False
        if packer := next((how for mark, how in _PACKED.items() if begun.startswith(mark)), ""):
            raise DataError(
                f"{file} must be unpacked before it is read; got a file packed by {packer}. "
                f"Unpack it ({_UNPACK[packer]} -k FILE), and name the file that comes out."
            )
        stream.seek(0)
        marked = begun.startswith(codecs.BOM_UTF8)
        while chunk := stream.read(CHUNK):
            if found := chunk.removeprefix(codecs.BOM_UTF8).lstrip():
                return found[:1], marked
    raise DataError(f"{file} must hold at least one record; it is empty. {HOW}")


def decoded(raw: bytes, file: Path, position: int = 0) -> str:
    """UTF-8 text that stands at a position of the file.

    Raises:
        DataError: naming the byte that is not.
    """
    try:
        text = raw.decode("utf-8" if position else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{file} must be UTF-8 text or Parquet; got byte {raw[error.start]:#04x} at position "
            f"{position + error.start}. Save it as UTF-8."
        ) from error
    if "\x00" in text:
        raise DataError(f"{file} must be UTF-8 text or Parquet; got a binary file. {HOW}")
    return text


def lines(file: Path) -> Iterator[tuple[int, int, bytes]]:
    """Number, position and content of every line.

    Raises:
        DataError: if one is too long.
    """
    position = 0
    with opened(file) as stream:
        for line in itertools.count(1):
            raw = stream.readline(WHOLE)
            if not raw:
                return
            if len(raw) == WHOLE:
                raise DataError(
                    f"A line of {file} must have less than {WHOLE // 2**20} MiB; line {line} is "
                    "longer. Give JSON lines, one record a line."
                )
            yield line, position, raw
            position += len(raw)


def check_decodable(file: Path) -> None:
    """Whether the whole file is UTF-8 text.

    Raises:
        DataError: naming the first byte that is not.
    """
    for _, position, raw in lines(file):
        decoded(raw, file, position)
