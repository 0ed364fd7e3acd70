"""How far a command is, on stderr, so that stdout stays clean for --json."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    from u2a_core.types import Progress


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
            console=Console(stderr=True, emoji=False),
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
