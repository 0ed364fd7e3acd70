"""The user's own files: uploads kept by their content's hash, and every version that was seen.

`.datasets.json` in the folder of runs remembers what an upload was called, and for each set which
contents it had, since when, with how many samples.
"""

import hashlib
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import streamlit as st
from filelock import FileLock

from app import parts
from u2a_core.config import Part, there
from u2a_core.data import DataReport, fingerprint, replace_file
from u2a_core.errors import RunError
from u2a_core.runs.files import read_json, write_json, writing

KINDS = ("jsonl", "json", "csv", "parquet", "txt")
LIMIT_MB = 200
"""Of an upload; larger files are named by their path."""
LARGE = 16 * 2**20
"""Bytes of a file above which the server does not read it itself."""
_MOST_VERSIONS = 50

_REPLY = "a prompt and a reply, or a whole conversation"
_NEEDS = {
    "preferences": "a prompt, a chosen and a rejected reply",
    "questions": "a prompt, a chosen and a rejected reply",
} | dict.fromkeys(("objective_prompts", "prompts", "harmful", "benign"), "a prompt")
"""Of what a record must hold, in words."""


@dataclass(frozen=True)
class Version:
    """A content that a set had.

    Attributes:
        sha256: of the file.
        path, name: where it is, and what the user called it; the name is for display only.
        usable, faults: records.
        first_seen: seconds since 1970.
        columns: what the settings said of its columns, or of its format.
    """

    sha256: str
    path: str
    name: str
    usable: int
    faults: int
    first_seen: float
    columns: dict[Part, str] = field(default_factory=dict)

    @property
    def there(self) -> bool:
        """Whether the file still holds this content."""
        file = Path(self.path)
        return there(file) and content_hash(file) == self.sha256


def store(upload: Any) -> Path:
    """An upload, kept under its content's hash: a name from a user never becomes a path.

    Raises:
        RunError: if the folder of runs cannot be written.
    """
    content = upload.getbuffer()
    kind = Path(upload.name).suffix.lower().removeprefix(".")
    sha256 = hashlib.sha256(content).hexdigest()
    target = _uploads() / f"{sha256}.{kind if kind in KINDS else 'txt'}"
    with writing(target):
        replace_file(target, lambda beside: beside.write_bytes(content))
    _change(lambda kept: kept["names"].update({sha256: upload.name[:200]}))
    return target


def name(path: str) -> str:
    """What the user calls a file: an upload by its own name, another by its path."""
    file = Path(path)
    if file.parent == _uploads():
        return str(_kept()["names"].get(file.stem, file.name))
    return path


def explained(report: DataReport) -> str:
    """Why nothing can be read, with the file as the user calls it, and what its set needs."""
    if not report.path:
        return ""
    told, general, _ = report.error.partition(" Accepted columns:")  # of all kinds of sets
    told = told.replace(report.path, name(report.path))
    return f"{told} A record needs {_NEEDS.get(report.role, _REPLY)}." if general else told


def content_hash(file: Path) -> str:
    """Of a file as it is now; empty if it cannot be read."""
    try:
        state = file.stat()
        return _hashed(str(file), state.st_mtime_ns, state.st_size)
    except OSError:
        return ""


def remember(report: DataReport, columns: dict[Part, str]) -> None:
    """Keeps the content that a set has now, if it is a new one.

    Raises:
        RunError: if the folder of runs cannot be written.
    """
    sha256 = content_hash(Path(report.path))
    known = versions(report.role)
    if not sha256 or any(
        (v.sha256, v.path, v.columns) == (sha256, report.path, columns) for v in known
    ):
        return
    new = Version(
        sha256, report.path, name(report.path), report.usable, report.faulty, time.time(),
        columns,
    )  # fmt: skip
    _change(
        lambda kept: kept["versions"].update(
            {report.role: [asdict(v) for v in (new, *known)][:_MOST_VERSIONS]}
        )
    )


def versions(role: str) -> list[Version]:
    """All contents that a set had, the newest first."""
    found = _kept()["versions"].get(role, [])
    try:
        return [Version(**entry) for entry in found]
    except TypeError:  # written by another version of the workbench
        return []


def _uploads() -> Path:
    return parts.workspace().folder / ".uploads"


def _file() -> Path:
    return parts.workspace().folder / ".datasets.json"


def _kept() -> dict[str, dict[str, Any]]:
    try:
        kept = read_json(_file())
    except RunError:  # none yet, or damaged: what was seen is forgotten, the files are there
        kept = {}
    return {
        key: found if isinstance(found := kept.get(key), dict) else {}
        for key in ("names", "versions")
    }


def _change(change: Any) -> None:
    """Changes what is kept, one tab at a time."""
    with writing(_file()):
        _file().parent.mkdir(parents=True, exist_ok=True)
        with FileLock(_file().with_suffix(".lock"), timeout=10):
            kept = _kept()
            change(kept)
            write_json(_file(), kept)


@st.cache_data(max_entries=64, show_spinner=False)
def _hashed(file: str, changed: int, size: int) -> str:
    return fingerprint(Path(file))
