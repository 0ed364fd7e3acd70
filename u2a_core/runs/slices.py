"""Slices: selections of a run's samples that a person has named, to come back to or to unlearn.

One JSON file each, `annotations/slices/<slug>-<hash>.json`, which names the set of negatives by
its content hash. `weights` in the settings may name such a file: those samples are then unlearned
with equal weights. A name is only ever content; of it the path has a few letters and a hash.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from u2a_core.errors import RunError
from u2a_core.runs.directory import Run
from u2a_core.runs.files import read_json, write_json, writing
from u2a_core.runs.workspace import Workspace

LONGEST_NAME = 80
_SLUG = 24


@dataclass(frozen=True)
class Slice:
    """A named list of samples.

    Attributes:
        name: as its maker wrote it.
        ids: of the samples, in the order of the selection.
        sha256: of the set of negatives that the ids are of.
        path: of its file.
    """

    name: str
    ids: tuple[str, ...]
    sha256: str
    path: Path

    @property
    def key(self) -> str:
        """Its id within the run, for an address."""
        return self.path.stem


def all_slices(workspace: Workspace, run: Run) -> list[Slice]:
    """The slices of a run, by name; damaged files are passed over."""
    found = map(_lenient, _folder(workspace, run).glob("*.json"))
    return sorted((one for one in found if one is not None), key=_order)


def of_set(workspace: Workspace, sha256: str) -> list[Slice]:
    """The slices of any run of one set of negatives, by name.

    Args:
        workspace: the folder of runs.
        sha256: the set's content hash, as reports have it.
    """
    places = ("*", "*/*", "*/arms/*")  # runs, those inside a run, and notes on shipped ones
    found = [
        one
        for place in places
        for folder in ("annotations/slices", "slices")
        for path in workspace.folder.glob(f"{place}/{folder}/*.json")
        if (one := _lenient(path)) is not None and one.sha256 == sha256
    ]
    return sorted(found, key=_order)


def save(workspace: Workspace, run: Run, name: str, ids: Sequence[str]) -> Slice:
    """Keeps a selection of a finished run under a new name.

    Raises:
        RunError: if the name is empty, too long or taken, nothing is selected, or the folder
            cannot be written.
    """
    name = _free_name(workspace, run, name)
    if not ids:
        raise RunError("A slice must hold at least one sample; got none. Select some first.")
    sha256 = str(run.report()["data"]["negatives_sha256"])
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:_SLUG]
    digest = hashlib.sha256(f"{time.time_ns()} {name}".encode()).hexdigest()[:10]
    path = _folder(workspace, run) / f"{slug or 'slice'}-{digest}.json"
    return _write(Slice(name, tuple(dict.fromkeys(ids)), sha256, path))


def rename(workspace: Workspace, run: Run, one: Slice, name: str) -> Slice:
    """The same slice under another name; its key stays, so links to it hold.

    Raises:
        RunError: if the name is empty, too long or taken, or the file cannot be written.
    """
    if name.strip() == one.name:
        return one
    return _write(Slice(_free_name(workspace, run, name), one.ids, one.sha256, one.path))


def delete(one: Slice) -> None:
    """Removes a slice; one that is gone already is no fault.

    Raises:
        RunError: if its file cannot be removed.
    """
    with writing(one.path):
        one.path.unlink(missing_ok=True)


def is_slice(path: Path) -> bool:
    """Whether a file of weights is a slice."""
    try:
        return "ids" in read_json(path)
    except RunError:
        return False


def read_slice(path: Path) -> Slice:
    """A slice's file.

    Raises:
        RunError: if it is not there, or holds no slice.
    """
    found: dict[str, Any] = read_json(path)
    ids, sha256 = found.get("ids"), found.get("negatives_sha256", "")
    if not isinstance(ids, list) or not ids or not all(isinstance(i, str) for i in ids):
        raise RunError(f"{path} must hold ids, a list of sample ids; it does not.")
    return Slice(str(found.get("name", path.stem)), tuple(ids), str(sha256), path)


def _lenient(path: Path) -> Slice | None:
    try:
        return read_slice(path)
    except RunError:
        return None


def _order(one: Slice) -> tuple[str, str]:
    return one.name.casefold(), one.key


def _write(one: Slice) -> Slice:
    content = {"name": one.name, "negatives_sha256": one.sha256, "ids": list(one.ids)}
    write_json(one.path, content)
    return one


def _folder(workspace: Workspace, run: Run) -> Path:
    return workspace.annotations(run) / "slices"


def _free_name(workspace: Workspace, run: Run, name: str) -> str:
    """The name as it is kept; refused if it is none, or another slice has it."""
    name = " ".join(name.split())
    if not 1 <= len(name) <= LONGEST_NAME:
        raise RunError(
            f"A slice's name must have 1 to {LONGEST_NAME} characters; got {len(name)}. "
            "Name it anew."
        )
    if any(one.name.casefold() == name.casefold() for one in all_slices(workspace, run)):
        raise RunError(f"A slice's name must be new; {name!r} is taken. Name it anew.")
    return name
