"""`u2a export`: options, and what it tells."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console

from u2a_core.errors import ConfigError
from u2a_core.estimate import size
from u2a_core.export.folder import Exported, Wanted, write_export
from u2a_core.export.pushing import check_push, push
from u2a_core.export.training import Choice, Tool
from u2a_core.runs import Run
from u2a_core.runs.slices import read_slice


@dataclass(frozen=True)
class ExportOptions:
    """Options of u2a export.

    Without --merged, --samples or --for it is the model that is exported. A card (README.md) and
    the run's settings always stand beside.
    """

    run: Annotated[Path, tyro.conf.Positional]
    """A finished run of reweight, unlearn, baseline or gains."""
    to: Path
    """The folder to write: a new or an empty one."""
    model: bool = False
    """The model as the run saved it: a PEFT adapter, or whole weights. For use with --samples."""
    merged: bool = False
    """The whole model, an adapter merged in: loads anywhere with transformers alone."""
    samples: bool = False
    """All negatives with texts, weights, gains and marks, as JSONL and Parquet."""
    for_: Annotated[tuple[Tool, ...], tyro.conf.arg(name="for")] = ()
    """Training files of the chosen negatives, with a weight, for these tools."""
    top: int = 0
    """For --for: so many with the largest gains, instead of those that have weight."""
    slice: Path | None = None
    """For --for: those of a saved slice, instead of those that have weight."""
    push: str = ""
    """Upload to this owner/name on the hub, private; with the token in HF_TOKEN."""
    public: bool = False
    """For --push: everyone may read it."""
    json: bool = False
    """Print what was written as JSON on stdout."""


def export_run(options: ExportOptions) -> int:
    """`u2a export RUN --to DIR`.

    Raises:
        RunError, ConfigError, ModelError: if it cannot be done; one sentence says why.
    """
    wanted = _wanted(options)
    if options.push:
        check_push(options.push)
    found = write_export(Run.open(options.run), options.to, wanted)
    address = ""
    if options.push:
        data = not wanted.model
        address = push(found.folder, options.push, dataset=data, public=options.public)
    if options.json:
        facts = {"folder": str(found.folder), "files": dict(found.files), "notes": found.notes}
        sys.stdout.write(json.dumps(facts | {"pushed": address}, indent=2) + "\n")
    else:
        _tell(found, address)
    return 0


def _wanted(options: ExportOptions) -> Wanted:
    """What the options ask for.

    Raises:
        ConfigError: if two of them contradict each other, or one has no use.
    """
    if options.model and options.merged:
        raise ConfigError(
            "The model must be exported as saved or merged; got --model and --merged."
        )
    if options.top and options.slice is not None:
        raise ConfigError("The negatives must be chosen by --top or --slice; got both.")
    if (options.top or options.slice is not None) and not options.for_:
        raise ConfigError("--top and --slice choose what --for writes; got no --for. Name a tool.")
    if options.top < 0:
        raise ConfigError(f"--top must be a count of samples; got {options.top}.")
    if options.public and not options.push:
        raise ConfigError("--public is for --push owner/name; got no --push.")
    alone = not (options.merged or options.samples or options.for_)
    model: Literal["", "saved", "merged"] = "saved" if options.model or alone else ""
    one = None if options.slice is None else read_slice(options.slice)
    return Wanted(
        model="merged" if options.merged else model,
        samples=options.samples,
        tools=tuple(dict.fromkeys(options.for_)),
        choice=Choice(options.top, one),
    )


def _tell(found: Exported, address: str) -> None:
    console = Console(emoji=False)
    for name, count in found.files.items():
        console.print(f"{_bytes(count):>10}  {name}", markup=False, highlight=False, soft_wrap=True)
    for note in found.notes:
        console.print(note, markup=False, highlight=False, soft_wrap=True)
    console.print(
        "README.md names no license: choose one before you publish.", markup=False, soft_wrap=True
    )
    console.print(f"Export: {found.folder}", markup=False, highlight=False, soft_wrap=True)
    if address:
        console.print(f"On the hub: {address}", markup=False, highlight=False, soft_wrap=True)


def _bytes(count: int) -> str:
    return size(count) if count >= 2**20 else f"{count / 1024:.1f} KiB"
