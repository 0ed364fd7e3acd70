"""`u2a evaluate` in the terminal: one row a metric, and why the others are missing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from u2a_core.metrics import METRICS

if TYPE_CHECKING:
    from u2a_core.runs import Run

ARROWS = {"up": " ↑", "down": " ↓", "": ""}


def show_evaluation(console: Console, run: Run, report: dict[str, Any]) -> None:
    """The metrics of a finished evaluation."""
    view = Table(
        title=f"Metrics of {escape(report['target'])}, 95 % intervals over prompts",
        box=SIMPLE,  # 80 columns hold it
    )
    view.add_column("metric")
    view.add_column("mean [95 %]", justify="right", no_wrap=True)
    view.add_column("valid of n", justify="right")
    for name, figures in report["metrics"].items():
        kind = METRICS[name]
        view.add_row(
            f"{kind.title}{ARROWS[kind.direction]}",
            _bounded(figures),
            f"{figures['n_valid']} of {figures['n']}",
        )
    console.print(view)
    for name, reason in report["missing"].items():
        console.print(f"[dim]{METRICS[name].title} is missing. {escape(reason)}[/dim]")
    if endpoint := report.get("endpoint"):
        tokens = endpoint["tokens"]
        console.print(
            f"Replies of {escape(endpoint['source'])}: {endpoint['requests']} requests; "
            f"{tokens['in']} tokens read, {tokens['out']} written."
        )
    judge = report["judge"]
    if judge and not (judge["requests"] or judge["cached"] or judge["failed"]):
        console.print(
            f"Judge {escape(judge['source'])}: on this machine, without requests; 0 failed."
        )
    elif judge:
        tokens = judge["tokens"]
        console.print(
            f"Judge {escape(judge['source'])}: {judge['requests']} requests, {judge['cached']} "
            f"answers from the cache, {judge['failed']} failed; {tokens['in']} tokens read, "
            f"{tokens['out']} written."
        )


def _bounded(figures: dict[str, Any]) -> str:
    if figures["low"] is None or figures["high"] is None:
        return f"{figures['mean']:.3f} [–]"
    return f"{figures['mean']:.3f} [{figures['low']:.3f}, {figures['high']:.3f}]"
