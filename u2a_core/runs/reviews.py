"""Reviews: what a person says of samples that may have been flagged as negative by mistake.

One file, `annotations/reviews.json`, replaced as a whole: sample id → mark.
"""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock

from u2a_core.errors import RunError
from u2a_core.runs.directory import Run
from u2a_core.runs.files import read_json, write_json, writing
from u2a_core.runs.workspace import Workspace

MARKS = {"mistake": "mistake", "real": "real negative", "unsure": "unsure"}
"""A mark and its words: flagged by mistake, a negative indeed, undecided."""


def marks(workspace: Workspace, run: Run) -> dict[str, str]:
    """Sample id → mark, in the order of marking; a damaged file holds none."""
    try:
        kept = read_json(_file(workspace, run)).get("marks")
    except RunError:
        return {}
    pairs = kept.items() if isinstance(kept, dict) else ()
    return {sample: mark for sample, mark in pairs if mark in MARKS}


def put(workspace: Workspace, run: Run, sample: str, mark: str | None) -> None:
    """Marks a sample, or takes its mark back; two tabs that mark at once lose nothing.

    Raises:
        RunError: if the mark is none of MARKS, or the file cannot be written.
    """
    if mark is not None and mark not in MARKS:
        raise RunError(f"A mark must be one of {', '.join(MARKS)}; got {mark!r}.")
    path = _file(workspace, run)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(".reviews.lock"), timeout=10):
            kept = marks(workspace, run)
            kept.pop(sample, None)
            write_json(path, {"marks": kept if mark is None else kept | {sample: mark}})


def tally(kept: dict[str, str]) -> dict[str, int]:
    """How many samples have each mark."""
    return {mark: sum(said == mark for said in kept.values()) for mark in MARKS}


def _file(workspace: Workspace, run: Run) -> Path:
    return workspace.annotations(run) / "reviews.json"
