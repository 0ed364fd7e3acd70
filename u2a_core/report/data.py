"""`u2a data` in the terminal: counts, faults by line, lengths."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from u2a_core.data import DataReport, inspect_data

if TYPE_CHECKING:
    from u2a_core.config import DataSettings


def show_data(settings: DataSettings, *, as_json: bool) -> int:
    """`u2a data`: counts, faults by line, lengths; 0 if every file is usable, else 2."""
    reports = inspect_data(settings)
    if as_json:
        sys.stdout.write(json.dumps([report.as_dict() for report in reports], indent=2) + "\n")
    else:
        console = Console()
        for report in reports:
            _show_file(console, report)
    return 2 if any(report.error for report in reports) else 0


def _show_file(console: Console, report: DataReport) -> None:
    console.print(f"[bold]{report.role}[/bold] {escape(report.path)}", soft_wrap=True)
    if report.error:
        console.print(f"  [red]{escape(report.error)}[/red]", soft_wrap=True)
        return
    console.print(
        f"  {report.usable} usable, {report.duplicates} duplicates dropped, "
        f"{len(report.faults)} faults; characters: median {report.median_length:.0f}, "
        f"longest {report.longest}",
        soft_wrap=True,
    )
    for fault in report.faults[:10]:
        console.print(f"  line {fault.line}: {escape(fault.reason)}", soft_wrap=True)
    for text in report.preview:
        console.print(f"  [dim]{escape(text)}[/dim]", soft_wrap=True)
