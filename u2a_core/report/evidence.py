"""Ablations in the terminal: what each arm came to, and what Top-K is worth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE
from rich.table import Table

if TYPE_CHECKING:
    from rich.console import Console

    from u2a_core.runs import Run


def interval(estimate: dict[str, Any]) -> str:
    """`+0.351 [+0.290, +0.412]`; the mean alone where there is no interval."""
    if estimate["mean"] is None:
        return "–"
    if estimate["low"] is None:
        return f"{estimate['mean']:+.3f}"
    return f"{estimate['mean']:+.3f} [{estimate['low']:+.3f}, {estimate['high']:+.3f}]"


def show_ablation(console: Console, _: Run, report: dict[str, Any]) -> None:
    """The table of arms, then the paired differences."""
    seeds, original = report["seeds"], report["original"].get("reward")
    console.print(
        f"{report['method']}: {report['arms']} runs over {seeds} seed{'s' * (seeds > 1)} on "
        f"{report['negatives']} negatives."
        + (f" Reward of the original model ↑: {interval(original)}." if original else "")
        + (f" K* = {report['best_k']} (largest J)." if report["best_k"] else "")
    )
    view = Table(title=f"Reward ↑ by arm, mean and 95 % interval over {seeds} seeds", box=SIMPLE)
    view.add_column("arm")
    for name in ("K", "setting", "reward ↑", "collapsed"):
        view.add_column(name, justify="right")
    for row in report["bands"]:
        setting = "" if row["value"] is None else f"{row['value']:g}"
        view.add_row(
            row["arm"], str(row["k"] or ""), setting, interval(row), str(row["collapsed"] or "")
        )
    console.print(view)
    view = Table(title="Paired difference in reward, ours − theirs, over seeds", box=SIMPLE)
    for name in ("ours", "theirs"):
        view.add_column(name)
    for name in ("K", "difference", "seeds above 0"):
        view.add_column(name, justify="right")
    for row in report["differences"]:
        above = f"{row['above']} of {row['n']}"
        view.add_row(row["ours"], row["theirs"], str(row["k"] or ""), interval(row), above)
    console.print(view)
