"""A folder of an export: made beside, moved into place as a whole, never over other files."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd

from u2a_core.config import there
from u2a_core.errors import RunError, U2AError
from u2a_core.estimate import size
from u2a_core.export.card import Form, card, settings_text
from u2a_core.export.samples import TABLES, Samples, samples_of, write_jsonl, write_parquet
from u2a_core.export.training import Choice, Tool, chosen, training_files
from u2a_core.runs import Run, Workspace, as_found, base_of, reviews
from u2a_core.runs.files import read_json

CARD = "README.md"


@dataclass(frozen=True)
class Wanted:
    """What an export is to hold, beside its card and settings.

    Attributes:
        model: none; as the run saved it; or whole, with its adapter merged in.
        samples: all negatives with weights and gains.
        tools: for which the chosen negatives are written.
        choice: which those are.
    """

    model: Literal["", "saved", "merged"] = ""
    samples: bool = False
    tools: tuple[Tool, ...] = ()
    choice: Choice = Choice()  # noqa: RUF009 - frozen

    def words(self) -> str:
        """The same as words of the command."""
        found = [{"": "", "saved": "--model", "merged": "--merged"}[self.model]]
        found += ["--samples"] if self.samples else []
        found += ["--for", *self.tools] if self.tools else []
        found += ["--top", str(self.choice.top)] if self.choice.top else []
        found += ["--slice", self.choice.slice.path.name] if self.choice.slice else []
        return " ".join(filter(None, found))


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        folder: that holds it.
        files: name → bytes.
        notes: what its maker must know.
        form: of its model.
    """

    folder: Path
    files: Mapping[str, int]
    notes: tuple[str, ...]
    form: Form


def write_export(run: Run, folder: Path, wanted: Wanted) -> Exported:
    """Writes the folder.

    Raises:
        RunError: if the run cannot give what is wanted, the folder holds files, or cannot be
            written; then nothing is left behind.
        ModelError: if an adapter and its model do not load.
    """
    check_exportable(run)
    with _written(folder):
        _check_free(folder)
        _check_model(run, folder, wanted)
    sampled = bool(wanted.samples or wanted.tools)
    samples = samples_of(run, _marks(run)) if sampled else None
    rows = chosen(samples, wanted.choice) if samples is not None and wanted.tools else None
    beside = folder.absolute().with_name(f".{folder.absolute().name}.{os.getpid()}")
    with _written(folder):
        try:
            notes = list(samples.notes) if samples is not None else []
            notes += _model(run, beside, wanted)
            files = _texts(beside, wanted, samples, rows)
            form = _form(run, wanted)
            files["settings.yaml"] = "the run's settings"
            (beside / "settings.yaml").write_text(settings_text(run), encoding="utf-8")
            told = card(run, evaluations(run), form, files, wanted.words())
            (beside / CARD).write_text(told, encoding="utf-8")
            if folder.is_dir():  # empty, as was checked; a folder is not replaced everywhere
                folder.rmdir()
            beside.replace(folder)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    written = sorted(file for file in folder.rglob("*") if file.is_file())
    sizes = {file.relative_to(folder).as_posix(): file.stat().st_size for file in written}
    return Exported(folder, sizes, tuple(notes), form)


def run_card(run: Run) -> str:
    """The card of a finished run's model by itself, for a download."""
    form: Form = "adapter" if run.settings().model.parameters == "lora" else "whole"
    return card(run, evaluations(run), form, {}, "")


def check_exportable(run: Run) -> None:
    """Refuses a run of another kind, or one that is not finished."""
    command = run.config()["command"]
    if command not in TABLES:
        arms = " Name one of the runs in its arms/." if (run.path / "arms").is_dir() else ""
        raise RunError(
            f"An export must be of a run of {', '.join(TABLES)}; {run.path} is of {command}.{arms}"
        )
    run.report()


def evaluations(run: Run) -> list[Run]:
    """Finished evaluations of the run's model and of its original, the newest of each."""
    found: dict[str, Run] = {}
    for one in _workspace(run).runs():
        if one.config()["command"] == "evaluate" and one.finished:
            of = _measures(one, run)
            if of:
                found.setdefault(of, one)
    return list(found.values())


def _measures(evaluation: Run, run: Run) -> Literal["", "ours", "original"]:
    """Which model an evaluation is of; of neither: nothing."""
    try:
        theirs, ours = evaluation.settings(), run.settings()
    except U2AError:  # of another version: no reason to fail here
        return ""
    if theirs.evaluation.endpoint:  # of whatever it serves, which no run can tell
        return ""
    target = theirs.evaluation.target
    if target:
        return "ours" if Path(target).resolve() == run.path.resolve() else ""
    return "original" if (theirs.model, theirs.data) == (ours.model, ours.data) else ""


def _workspace(run: Run) -> Workspace:
    """The folder of runs that a run stands in, or that the run stands in whose arm it is."""
    path = run.path.resolve()
    while True:
        around = path.parent.parent if path.parent.name == "arms" else path.parent
        if not Run(around).exists:
            return Workspace(path.parent)
        path = around


def _marks(run: Run) -> dict[str, str]:
    sha256 = str((run.report().get("data") or {}).get("negatives_sha256", ""))
    return reviews.marks(_workspace(run), sha256)


def _check_free(folder: Path) -> None:
    """Refuses a folder that holds anything, and a file."""
    if folder.is_file():
        raise RunError(f"--to must name a folder; {folder} is a file. Name another.")
    held = list(folder.iterdir()) if there(folder) else []
    if held:
        raise RunError(
            f"--to must name a new or an empty folder; {folder} holds {held[0].name}"
            + (f" and {len(held) - 1} more" if len(held) > 1 else "")
            + ". Name another, or delete it first: nothing is overwritten."
        )


def _check_model(run: Run, folder: Path, wanted: Wanted) -> None:
    """Refuses what has no model, or no room."""
    if not wanted.model:
        return
    if not there(run.model_folder):
        why = "gains trains none" if run.config()["command"] == "gains" else (
            "runs that ship with the demo leave theirs out; launch it again to have one"
        )  # fmt: skip
        raise RunError(
            f"{run.path} must hold the model that is exported; it has none ({why}). Its samples "
            "need none: --samples, --for."
        )
    if _form(run, wanted) == "adapter" and (start := _start_adapter(run)):
        raise RunError(
            f"{run.path} must be exported with --merged: it began from the adapter {start}, and "
            "its own adapter alone, on the model below, would be another model."
        )
    whole = Path(base_of(run)) if _merges(run, wanted) else run.model_folder
    needed = _bytes(whole) if there(whole) else 0
    place = next(path for path in folder.absolute().parents if there(path))
    free = shutil.disk_usage(place).free
    if needed > free:
        raise RunError(
            f"{folder} must have room for the model, {size(needed)}; the disk has {size(free)} "
            "free. Free space, or name a folder elsewhere with --to."
        )


def _start_adapter(run: Run) -> str:
    """The adapter that the run's own was trained over; empty without."""
    note = run.model_folder / "u2a.json"
    return str(read_json(note).get("start_adapter", "")) if there(note) else ""


def _bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _merges(run: Run, wanted: Wanted) -> bool:
    return wanted.model == "merged" and there(run.model_folder / "adapter_config.json")


def _form(run: Run, wanted: Wanted) -> Form:
    if not wanted.model:
        return ""
    adapter = there(run.model_folder / "adapter_config.json")
    return "adapter" if adapter and wanted.model == "saved" else "whole"


def _model(run: Run, target: Path, wanted: Wanted) -> list[str]:
    """The model's files, and what must be known of them."""
    if _merges(run, wanted):
        return _merged(run, target)
    target.mkdir(parents=True)
    if not wanted.model:
        return []
    for file in run.model_folder.rglob("*"):
        if file.is_file():
            copy = target / file.relative_to(run.model_folder)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
    if _form(run, wanted) == "adapter" and there(Path(base_of(run))):
        return [
            f"adapter_config.json names the model by its folder here, {base_of(run)}. Elsewhere "
            "set base_model_name_or_path to where that model is; or export with --merged."
        ]
    whole = wanted.model == "merged"
    return ["The run trained whole weights, so there was no adapter to merge."] if whole else []


def _merged(run: Run, target: Path) -> list[str]:
    from u2a_core.models import hide_loading_bars, save_merged

    hide_loading_bars()
    trained_in = (run.report().get("data") or {}).get("dtype", "float32")
    settings = run.settings().model.model_copy(update={"dtype": trained_in})
    target.parent.mkdir(parents=True, exist_ok=True)
    untied = save_merged(settings, run.model_folder, target, weights=as_found(run, base_of(run)))
    return [
        "The adapter reached the output head, which the model shares with its input embedding: "
        "the export has a head of its own, and is larger by it."
    ] if untied else []  # fmt: skip


def _texts(
    target: Path, wanted: Wanted, samples: Samples | None, rows: pd.DataFrame | None
) -> dict[str, str]:
    """Samples and training files; returns name → what it is."""
    files: dict[str, str] = {}
    if samples is not None and wanted.samples:
        (target / "samples").mkdir()
        write_jsonl(samples, target / "samples" / "negatives.jsonl")
        write_parquet(samples, target / "samples" / "negatives.parquet")
        about = f"all {len(samples)} negatives: texts, weights, gains with their errors"
        files |= {"samples/negatives.jsonl": about, "samples/negatives.parquet": "the same"}
    for tool in wanted.tools:
        assert rows is not None
        place = target / "training" / tool
        place.mkdir(parents=True)
        for name, lines in training_files(tool, rows).items():
            with (place / name).open("w", encoding="utf-8", newline="\n") as file:
                file.writelines(lines)
            chose = f"{len(rows)} chosen negatives, with a weight, for {tool}"
            described = f"tells {tool} of them"
            files[f"training/{tool}/{name}"] = chose if name.endswith("jsonl") else described
    return files


@contextmanager
def _written(folder: Path) -> Iterator[None]:
    """A failed write as a sentence."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:200]
        full = getattr(error, "errno", None) == errno.ENOSPC or "No space left" in reason
        what = "Free disk space, or name" if full else "Name"
        raise RunError(
            f"{folder} must be writable; got: {reason}. {what} a folder elsewhere with --to; "
            "nothing was left behind, and the run is as it was."
        ) from error
