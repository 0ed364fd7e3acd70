"""Runs shown in the terminal: progress bars, result tables, replies before and after.

Reads run directories only; everything shown was computed by the run and stands in its tables.
Progress goes to stderr, so that stdout stays clean for --json.
"""

from __future__ import annotations

import json
import sys
from types import TracebackType
from typing import TYPE_CHECKING, Any

import pandas as pd
from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import (
    Progress as Bars,
)
from rich.table import Table

from u2a_core.data import DataReport, inspect_data

if TYPE_CHECKING:
    from u2a_core.config import DataSettings
    from u2a_core.runs import Run
    from u2a_core.types import Progress

_SHOWN_REPLIES = 6


class ProgressBars:
    """A bar a stage, with elapsed and remaining time."""

    def __init__(self) -> None:
        self._bars = Bars(
            TextColumn("{task.description:<34}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=Console(stderr=True),
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> ProgressBars:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.stop()

    def show(self, progress: Progress) -> None:
        """Moves the bar of a stage."""
        if progress.stage not in self._tasks:
            self._tasks[progress.stage] = self._bars.add_task(
                escape(progress.stage), total=progress.total, note=""
            )
        objective = progress.values.get("objective")
        self._bars.update(
            self._tasks[progress.stage],
            completed=progress.step,
            note="" if objective is None else f"J {objective:+.3f}",
        )


def log_line(progress: Progress) -> None:
    """One line of a job's log, on stderr."""
    objective = progress.values.get("objective")
    note = "" if objective is None else f"  J {objective:+.3f}"
    sys.stderr.write(
        f"{progress.seconds:8.1f} s  {progress.stage} {progress.step}/{progress.total}{note}\n"
    )


def show(run: Run) -> None:
    """A finished run, as tables on stdout."""
    console = Console()
    report = run.report()
    views = {"gains": _show_gains, "demo": _show_demo}
    if "data" in report:
        console.print("\n" + _data_line(report["data"]))
    views.get(report["command"], _show_descent)(console, run, report)
    console.print(f"\n[dim]Run directory:[/dim] {escape(str(run.path))}")


def _data_line(data: dict[str, Any]) -> str:
    """What was loaded, and what was dropped or cut on the way."""
    losses = [
        f"{data[key]} {what}"
        for key, what in (
            ("duplicates_dropped", "duplicates dropped"),
            ("faults", "faulty records dropped"),
            ("truncated", "replies cut to model.max_length"),
        )
        if data[key]
    ]
    return (
        f"{data['negatives']} negative samples{''.join('; ' + text for text in losses)}. "
        f"{data['trainable_parameters']:,} trained parameters ({data['trained']}; slopes see "
        f"{data['slopes_see']}), "
        f"{data['dtype']} on {data['device']}."
    )


def interval(estimate: dict[str, Any]) -> str:
    """`+0.351 [+0.290, +0.412]`."""
    return f"{estimate['mean']:+.3f} [{estimate['low']:+.3f}, {estimate['high']:+.3f}]"


def _show_gains(console: Console, run: Run, report: dict[str, Any]) -> None:
    table = run.table("gains")
    n = len(table)
    console.print(
        f"J = {interval(report['objective'])} (n = {report['objective']['n']} prompts). "
        f"{report['helps']} of {n} negatives help when unlearned (gain > 0)."
    )
    if report["gains"]:
        console.print(_auc_line(report["gains"]))
    view = Table(title="Marginal gain Δg, positive = unlearning helps alignment")
    for name in ("rank", "gain", "prompt", "response"):
        view.add_column(name, justify="right" if name in ("rank", "gain") else "left")
    for row in pd.concat([table.head(8), table.tail(8)]).to_dict("records"):
        view.add_row(
            str(row["rank"]),
            f"{row['gain']:+.3f}",
            escape(str(row["prompt"])[:60]),
            escape(str(row["response"])[:80]),
        )
    console.print(view)


def _show_descent(console: Console, run: Run, report: dict[str, Any]) -> None:
    objective = report["objective"]
    console.print(
        f"{report['command']} with {report['method']}: step {report['steps']} of "
        f"{report['steps_taken']} kept (the largest J: "
        f"{objective['before']:+.3f} → {objective['after']:+.3f}); ended: {report['ended']}."
    )
    console.print(f"Effective samples 1/Σω²: {report['effective_samples']:.1f}.")
    if "weight_on_mislabelled" in report:
        console.print(f"Weight on mislabelled samples: {report['weight_on_mislabelled']:.3f}.")
    if "gains" in report:
        console.print(_auc_line(report["gains"]))
    if report["reward"]:
        for name, estimate in report["reward"].items():
            console.print(f"Reward ↑ {name}: {interval(estimate)} (n = {estimate['n']})")
    show_replies(console, run)


def _auc_line(gains: dict[str, Any]) -> str:
    """Both AUCs with their intervals."""
    rounds = {"auc_first_round": "in the first round", "auc_accumulated": "accumulated"}
    told = [
        f"{gains[key]:.3f} [{low:.3f}, {high:.3f}] {rounds[key]}"
        for key, (low, high) in gains["intervals"].items()
    ]
    return (
        f"Gains tell real negatives from mislabelled ones with AUC {', '.join(told)} "
        f"(n = {gains['n']})."
    )


def show_replies(console: Console, run: Run, title: str = "Replies before and after") -> None:
    """The replies whose reward changed most, with the reward where it was measured."""
    table = run.table("generations")
    if table.empty:
        return
    scored = not table["reward_after"].isna().any()
    if scored:
        change = table["reward_after"] - table["reward_before"]
        order = change.abs().sort_values(ascending=False, kind="stable").index
        table = table.loc[order].drop_duplicates("prompt")
    view = Table(title=title)
    for name in ("prompt", "before", "after", *(("reward",) if scored else ())):
        view.add_column(name, overflow="fold")
    for row in table.head(_SHOWN_REPLIES).itertuples():
        cells = [row.prompt, row.reply_before, row.reply_after]
        if scored:
            cells.append(f"{row.reward_before:+.1f} → {row.reward_after:+.1f}")
        view.add_row(*(escape(str(cell)) for cell in cells))
    console.print(view)


def _show_demo(console: Console, run: Run, report: dict[str, Any]) -> None:
    from u2a_core.runs import Run as RunDirectory

    scenario, original = report["scenario"], report["original"]["reward"]
    console.print(
        f"\n{scenario['negatives']} negatives, {scenario['mislabelled']} of them good replies "
        f"flagged by mistake (seed {scenario['seed']}). Reward of the original model ↑: "
        f"{interval(original)} (n = {original['n']})."
    )
    view = Table(
        title=f"After unlearning: reward with 95 % interval, n = {original['n']} test replies",
        box=SIMPLE,  # 80 columns hold it
    )
    for name in ("method", "weights"):
        view.add_column(name)
    for name in ("reward ↑", "weight on\nmislabels ↓", "effective\nsamples", "step"):
        view.add_column(name, justify="right", no_wrap=name == "reward ↑")
    for row in report["methods"]:
        view.add_row(
            row["method"],
            row["weights"],
            interval(row["reward"]),
            f"{row['weight_on_mislabelled']:.3f}",
            f"{row['effective_samples']:.0f}",
            str(row["steps"]),
            style="bold" if row["weights"] == "u2a" else None,
            end_section=row["weights"] == "random",
        )
    console.print(view)
    console.print(_auc_line(report["gains"]))
    best = RunDirectory.open(run.path / "arms" / "npo-u2a")
    show_replies(console, best, "Replies before and after U2A-NPO")


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
