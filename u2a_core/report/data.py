"""`u2a data` in the terminal: counts, faults by line, lengths, what sets share, a preview."""

from __future__ import annotations

import dataclasses
import json
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape

from u2a_core.data import DataReport, Inspection, inspect_data

if TYPE_CHECKING:
    from u2a_core.config import Settings
    from u2a_core.models import Rendered


@dataclass(frozen=True)
class DataOptions:
    """Options of `u2a data`."""

    json: bool = False
    """Print everything as JSON on stdout."""
    preview: int = 0
    """Show so many samples of each set as the model reads them: its chat template, its tokens."""


def show_data(settings: Settings, options: DataOptions) -> int:
    """`u2a data`: 0 if every file is usable, else 2."""
    found = inspect_data(settings.data, settings.evaluation)
    shown: list[Rendered] = []
    if options.preview and settings.model.path:
        from u2a_core.models import render

        shown = render(settings, options.preview)
    if options.json:
        facts: dict[str, Any] = {
            "files": [report.as_dict() for report in found.files],
            "overlaps": [overlap._asdict() for overlap in found.overlaps],
            "preview": [dataclasses.asdict(sample) for sample in shown],
        }
        sys.stdout.write(json.dumps(facts, indent=2) + "\n")
    else:
        _show(Console(), found, shown)
    return 2 if any(report.error for report in found.files) else 0


def _show(console: Console, found: Inspection, shown: list[Rendered]) -> None:
    for report in found.files:
        _show_file(console, report)
    for overlap in found.overlaps:
        console.print(f"[yellow]{escape(overlap.sentence)}[/yellow]", soft_wrap=True)
    for sample in shown:
        _show_tokens(console, sample)


def _show_file(console: Console, report: DataReport) -> None:
    console.print(f"[bold]{report.role}[/bold] {escape(report.path)}", soft_wrap=True)
    if report.error:
        console.print(f"  [red]{escape(report.error)}[/red]", soft_wrap=True)
        return
    dropped = "duplicates dropped" if report.role == "negatives" else "duplicates"
    console.print(
        f"  {report.usable} usable, {report.duplicates} {dropped}, "
        f"{len(report.faults)} faults; characters: median {report.median_length:.0f}, "
        f"longest {report.longest}",
        soft_wrap=True,
    )
    for fault in report.faults[:10]:
        console.print(f"  line {fault.line}: {escape(fault.reason)}", soft_wrap=True)
    for text in report.preview:
        console.print(f"  [dim]{escape(text)}[/dim]", soft_wrap=True)


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
