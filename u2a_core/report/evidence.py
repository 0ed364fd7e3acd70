"""The evidence in the terminal: ablations, and the results table with its exports."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from u2a_core import table
from u2a_core.data import replace_file
from u2a_core.errors import RunError
from u2a_core.metrics import METRICS
from u2a_core.report.document import write_document
from u2a_core.report.html import results
from u2a_core.runs import Run
from u2a_core.runs.files import writing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


COMPARED = {"reward": "reward", "objective": "J"}
"""What an ablation's arms are compared in, in words."""


def interval(estimate: dict[str, Any]) -> str:
    """`+0.351 [+0.290, +0.412]`; the mean alone where there is no interval."""
    if estimate["mean"] is None:
        return "–"
    if estimate["low"] is None:
        return f"{estimate['mean']:+.3f}"
    return f"{estimate['mean']:+.3f} [{estimate['low']:+.3f}, {estimate['high']:+.3f}]"


def show_ablation(console: Console, _: Run, report: dict[str, Any]) -> None:
    """The table of arms, then the paired differences."""
    metric = next((row["metric"] for row in report["bands"]), "reward")
    name, seeds, original = COMPARED[metric], report["seeds"], report["original"].get(metric)
    console.print(
        f"{report['method']}: {report['arms']} runs over {seeds} seed{'s' * (seeds > 1)} on "
        f"{report['negatives']} negatives."
        + (f" The original model's {name} ↑: {interval(original)}." if original else "")
        + (f" K* = {report['best_k']} (largest J)." if report["best_k"] else "")
    )
    view = Table(title=f"Arms by {name} ↑, mean and 95 % interval over {seeds} seeds", box=SIMPLE)
    view.add_column("arm")
    for column in ("K", "setting", f"{name} ↑", "collapsed"):
        view.add_column(column, justify="right")
    for row in report["bands"]:
        setting = "" if row["value"] is None else f"{row['value']:g}"
        view.add_row(
            row["arm"], str(row["k"] or ""), setting, interval(row), str(row["collapsed"] or "")
        )
    console.print(view)
    view = Table(title=f"Paired difference in {name}, ours − theirs, over seeds", box=SIMPLE)
    for column in ("ours", "theirs"):
        view.add_column(column)
    for column in ("K", "difference", "seeds above 0"):
        view.add_column(column, justify="right")
    for row in report["differences"]:
        above = f"{row['above']} of {row['n']}"
        view.add_row(row["ours"], row["theirs"], str(row["k"] or ""), interval(row), above)
    console.print(view)


@dataclass(frozen=True)
class TableOptions:
    """Options of u2a table."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Runs, runs with arms (demo, reproduce), or folders of runs."""
    csv: Path | None = None
    """Also write a CSV file: mean, low, high and n of every metric."""
    latex: Path | None = None
    """Also write a LaTeX table (booktabs)."""
    markdown: Path | None = None
    """Also write a Markdown table."""
    html: Path | None = None
    """Also write one HTML file with the table and its figures."""
    json: bool = False
    """Print the table's JSON on stdout."""


def results_table(options: TableOptions) -> int:
    """`u2a table`: the rows of all named runs, shown and exported."""
    kept = table.usable(run for folder in options.runs for run in _runs(folder))
    rows, differences = table.rows(kept.runs), table.differences(kept.runs)
    report = table.as_json(rows) | {"differences": differences, "left_out": kept.notes}
    exports: tuple[tuple[Path | None, Callable[[], str]], ...] = (
        (options.csv, lambda: table.frame(rows).to_csv(index=False)),
        (options.latex, lambda: table.latex(rows)),
        (options.markdown, lambda: table.markdown(rows)),
    )
    for path, text in exports:
        if path is not None:
            _write(path, text())
    if options.html is not None:
        notes = table.losses(differences)
        write_document(options.html, "U2A results", results(report | {"notes": notes}))
    if options.json:
        sys.stdout.write(json.dumps(report, indent=2, allow_nan=False) + "\n")
    else:
        show_rows(Console(emoji=False), rows)
        for note in kept.notes:
            Console(emoji=False).print(note, style="dim", markup=False, soft_wrap=True)
    return 0


def _runs(folder: Path) -> list[Run]:
    """The runs of a folder; one that was named itself must be whole."""
    found = table.comparable(folder)
    if Run(folder).exists and (damaged := table.usable(found).damaged):
        raise RunError(damaged[0])
    return found


def _write(path: Path, text: str) -> None:
    with writing(path):
        replace_file(path, lambda beside: beside.write_text(text, encoding="utf-8"))


def show_rows(console: Console, rows: Sequence[table.Row]) -> None:
    """The results table; where it is too wide for the terminal, a list of metrics a method."""
    head, body = table.lines(rows, "[bold]{}[/bold]")
    view = Table(box=SIMPLE, title="Mean and 95 % interval; the best of each metric in bold")
    for name in head:
        view.add_column(name, justify="left" if name == "method" else "right")
    body = [
        _sized(row, cells, table.shown_metrics(rows)) for row, cells in zip(rows, body, strict=True)
    ]
    for cells in body:
        view.add_row(*cells)
    if view.__rich_measure__(console, console.options).minimum <= console.width:
        console.print(view)
        return
    for cells in body:
        console.print(f"[bold]{cells[0]}[/bold]")
        for name, cell in zip(head[1:], cells[1:], strict=True):
            if cell != "–":
                console.print(f"  {escape(name)}: {cell.replace(chr(10), ', ')}")


def _sized(row: table.Row, cells: Sequence[str], metrics: Sequence[str]) -> list[str]:
    """The cells as the terminal shows them, a metric with its n on a second line."""
    shown = [cell if cell.startswith("[bold]") else escape(cell) for cell in cells]
    for place, metric in enumerate(metrics, start=1):
        if metric in row.metrics:
            shown[place] += f"\n[dim]n = {row.metrics[metric]['n']}[/dim]"
    return shown


def show_reproduction(console: Console, run: Run, report: dict[str, Any]) -> None:
    """A reproduction's table, what it does not win, and where its page stands."""
    console.print(f"{report['task']}, {report['scale']} scale, seed {report['seed']}.")
    made = [table.Row(r["method"], r["metrics"], r["ledger"], r["runs"]) for r in report["rows"]]
    show_rows(console, made)
    for name, why in report["missing"].items():
        console.print(f"[dim]{escape(METRICS[name].title)}: {escape(why)}[/dim]")
    show_ablation(console, run, report["ablation"])
    console.print(f"Report: {escape(str(run.path / 'report.html'))}", soft_wrap=True)
