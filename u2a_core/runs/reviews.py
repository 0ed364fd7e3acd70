"""Reviews: what a person says of samples that may have been flagged as negative by mistake.

One file a set of negatives, `.annotations/sets/<content hash>.json` beside the runs, replaced as a
whole: sample id → mark. It is of the set, so it holds for every run of it and outlives them.
"""

from __future__ import annotations

import re
from pathlib import Path

from filelock import FileLock

from u2a_core.errors import RunError
from u2a_core.runs.files import read_json, write_json, writing
from u2a_core.runs.workspace import Workspace

MARKS = {"mistake": "mistake", "real": "real negative", "unsure": "unsure"}
"""A mark and its words: flagged by mistake, a negative indeed, undecided."""


def marks(workspace: Workspace, sha256: str) -> dict[str, str]:
    """Sample id → mark, in the order of marking; a damaged file holds none."""
    try:
        kept = read_json(_file(workspace, sha256)).get("marks")
    except RunError:
        return {}
    pairs = kept.items() if isinstance(kept, dict) else ()
    return {sample: mark for sample, mark in pairs if mark in MARKS}


def put(workspace: Workspace, sha256: str, sample: str, mark: str | None) -> None:
    """Marks a sample, or takes its mark back; two tabs that mark at once lose nothing.

    Raises:
        RunError: if the mark is none of MARKS, the hash is none, or the file cannot be written.
    """
    if mark is not None and mark not in MARKS:
        raise RunError(f"A mark must be one of {', '.join(MARKS)}; got {mark!r}.")
    path = _file(workspace, sha256)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock"), timeout=10):
            kept = marks(workspace, sha256)
            kept.pop(sample, None)
            write_json(path, {"marks": kept if mark is None else kept | {sample: mark}})


def tally(kept: dict[str, str]) -> dict[str, int]:
    """How many samples have each mark."""
    return {mark: sum(said == mark for said in kept.values()) for mark in MARKS}


def _file(workspace: Workspace, sha256: str) -> Path:
    if not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise RunError(f"The set's content hash must be 64 hex digits; got {sha256[:80]!r}.")
    return workspace.folder / ".annotations" / "sets" / f"{sha256}.json"
