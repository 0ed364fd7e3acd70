"""`u2a data` in the terminal: counts, faults by line, lengths, what sets share, a preview."""

from __future__ import annotations

import csv
import dataclasses
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape

from u2a_core.data import (
    DataReport,
    Inspection,
    Remark,
    inspect_data,
    load_negatives,
    load_truth,
    replace_file,
)
from u2a_core.errors import DataError
from u2a_core.runs.files import writing

if TYPE_CHECKING:
    from u2a_core.config import DataSettings, SetName, Settings
    from u2a_core.models import Rendered


@dataclass(frozen=True)
class DataOptions:
    """Options of `u2a data`."""

    json: bool = False
    """Print everything as JSON on stdout."""
    preview: int = 0
    """Show so many samples of each set as the model reads them: its chat template, its tokens."""
    faults: Path | None = None
    """Write every record that is not used, is repeated or looks odd into this file, with its line,
    what became of it and why: CSV, or JSON lines where the name ends in .jsonl."""


def show_data(settings: Settings, options: DataOptions) -> int:
    """`u2a data`: 0 if every file is usable, else 2."""
    found = _inspected(settings, options.faults)
    truth = _truth(settings.data) if not found.files[0].error else ""
    shown: list[Rendered] = []
    if options.preview and settings.model.path:
        from u2a_core.models import render

        shown = render(settings, options.preview)
    if options.json:
        facts: dict[str, Any] = {
            "files": [report.as_dict() for report in found.files],
            "truth": truth,
            "overlaps": [overlap._asdict() for overlap in found.overlaps],
            "preview": [dataclasses.asdict(sample) for sample in shown],
        }
        sys.stdout.write(json.dumps(facts, indent=2) + "\n")
    else:
        _show(Console(emoji=False), found, shown, truth)
    return 2 if truth or any(report.error for report in found.files) else 0


def _inspected(settings: Settings, faults: Path | None) -> Inspection:
    """The reports; every remark of theirs in a file, if one is named.

    Raises:
        RunError: if the file cannot be written.
    """
    if faults is None:
        return inspect_data(settings.data, settings.evaluation, settings.baseline.mixture)
    found: list[Inspection] = []

    def write(beside: Path) -> None:
        with beside.open("w", encoding="utf-8", errors="replace", newline="") as file:
            table = csv.writer(file)
            columns = ("set", "file", *Remark._fields)
            lines = faults.suffix == ".jsonl"
            if not lines:
                table.writerow(columns)

            def keep(name: SetName, path: str, remark: Remark) -> None:
                row = (name, path, *remark)
                if lines:
                    file.write(json.dumps(dict(zip(columns, row, strict=True))) + "\n")
                else:
                    table.writerow(row)

            mixture = settings.baseline.mixture
            found.append(inspect_data(settings.data, settings.evaluation, mixture, keep))

    with writing(faults):
        replace_file(faults, write)
    return found[0]


def _truth(data: DataSettings) -> str:
    """What is wrong with the file of truth; empty if nothing is, or there is none."""
    if not data.truth:
        return ""
    try:
        columns = data.columns_of("negatives")
        negatives = load_negatives(data.negatives, columns=columns, on_fault="skip")
        load_truth(data.truth, [sample.id for sample in negatives.samples])
    except DataError as error:
        return str(error)
    return ""


def _show(console: Console, found: Inspection, shown: list[Rendered], truth: str) -> None:
    for report in found.files:
        _show_file(console, report, raw=not shown)
    if truth:
        console.print(f"[bold]truth[/bold]\n  [red]{escape(truth)}[/red]", soft_wrap=True)
    for overlap in found.overlaps:
        console.print(f"[yellow]{escape(overlap.sentence)}[/yellow]", soft_wrap=True)
    for sample in shown:
        _show_tokens(console, sample)


def _show_file(console: Console, report: DataReport, *, raw: bool) -> None:
    """Counts and faults of a file; its first records, unless samples are shown as they are read."""
    console.print(f"[bold]{report.role}[/bold] {escape(report.path)}", soft_wrap=True)
    if report.error:
        console.print(f"  [red]{escape(report.error)}[/red]", soft_wrap=True)
        return
    console.print(f"  {escape(_format(report))}", soft_wrap=True)
    if report.beside:
        console.print(f"  {escape(report.beside)}", soft_wrap=True)
    dropped = "duplicates dropped" if report.role == "negatives" else "duplicates"
    console.print(
        f"  {report.usable} usable, {report.duplicates} {dropped}, "
        f"{report.faulty} faults{f', {report.left_out} left out' if report.left_out else ''}; "
        f"characters: median {report.median_length:.0f}, longest {report.longest}, longest prompt "
        f"{report.longest_prompt}",
        soft_wrap=True,
    )
    for note in report.notes:
        console.print(f"  the file {escape(note)}", soft_wrap=True)
    for reason in report.reasons:
        if reason.outcome in ("left out", "kept"):
            console.print(
                f"  {reason.records} {reason.outcome}: {escape(reason.reason)} (first: line "
                f"{reason.line})",
                soft_wrap=True,
            )
    for fault in report.faults[:10]:
        console.print(f"  line {fault.line}: {escape(fault.reason)}", soft_wrap=True)
    if report.faulty > 10:
        console.print(f"  and {report.faulty - 10} more; all: --faults FILE", soft_wrap=True)
    for text in report.preview if raw else ():
        console.print(f"  [dim]{escape(text)}[/dim]", soft_wrap=True)


def _format(report: DataReport) -> str:
    """What the file was read as."""
    known = f"{report.title} ({report.format})" if report.format else "by the columns named"
    reads = ", ".join(f"{column} = {read}" for column, read in report.reads.items())
    return f"{known}, {report.container}: {reads}"


def _show_tokens(console: Console, sample: Rendered) -> None:
    """A sample as the model reads it; what is learned or unlearned in bold."""
    told = [f"{sample.number} {sample.reply}".rstrip() + f": {sample.tokens} tokens"]
    told += [f"{sample.response} of the reply"] if sample.reply else []
    told += [f"{sample.cut} cut"] if sample.cut else []
    console.print(
        f"[bold]{sample.set}[/bold] {', '.join(told)}",
        soft_wrap=True,
    )
    marks = {"prompt": "dim", "response": "bold", "cut": "strike"}
    text = "".join(f"[{marks[p.kind]}]{escape(p.text)}[/]" for p in sample.pieces)
    console.print(f"  {text}", soft_wrap=True)
