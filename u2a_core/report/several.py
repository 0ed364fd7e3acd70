"""`u2a report`: any finished runs in one HTML file, or in the terminal."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console

from u2a_core import figures, table
from u2a_core.config import there
from u2a_core.errors import RunError, U2AError
from u2a_core.report.document import Texts, cells, document, grid, picture, quiet, write_document
from u2a_core.report.html import results
from u2a_core.report.runs import show
from u2a_core.report.sections import replies, section
from u2a_core.runs import Run, Workspace

TITLE = "U2A report"


@dataclass(frozen=True)
class ReportOptions:
    """Options of u2a report."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Runs, or folders of runs: the finished ones."""
    html: Path | None = None
    """Write one HTML file with live figures, instead of telling in the terminal."""
    texts: Literal["auto", "shown", "blurred", "omitted"] = "auto"
    """Samples' texts in the file. auto: blurred where the workbench blurs the set."""


def write_report(options: ReportOptions) -> int:
    """`u2a report`: every named run.

    Raises:
        RunError: if there is none, or one that was named is not finished.
    """
    runs = [run for folder in options.runs for run in _finished(folder)]
    if not runs:
        raise RunError("A report must be made of runs; got none. u2a report RUN... --html FILE")
    if options.html is None:
        for run in runs:
            _show(run, named=run.path in options.runs)
        return 0
    made = pages(named(runs), lambda run: _texts(run, options.texts))
    write_document(options.html, TITLE, made)
    Console(emoji=False).print(f"Report: {options.html}", markup=False, soft_wrap=True)
    return 0


def _show(run: Run, *, named: bool) -> None:
    """A run in the terminal; one that is damaged is told, and fails the command if it was named."""
    try:
        show(run)
    except U2AError as error:
        if named:
            raise
        Console(stderr=True, emoji=False).print(f"Left out: {error}", markup=False, soft_wrap=True)


def report_text(
    runs: Mapping[str, Run],
    texts: Callable[[Run], Texts],
    *,
    against: tuple[str, str] | None = None,
) -> str:
    """The whole file, for a download; see `pages`."""
    return document(TITLE, pages(runs, texts, against=against))


def pages(
    runs: Mapping[str, Run],
    texts: Callable[[Run], Texts],
    *,
    against: tuple[str, str] | None = None,
) -> list[str]:
    """The results table, the differences of the settings, then a section for every run.

    Args:
        runs: name → finished run.
        texts: what becomes of a run's texts.
        against: two of the runs whose replies are set side by side; None: the two, if there are
            two.
    """
    parts = [quiet(f"{len(runs)} run{'s' * (len(runs) > 1)}: {', '.join(runs)}.")]
    faults = {name: why for name, run in runs.items() if (why := _fault(run))}
    parts += [quiet(f"{name} is damaged: {why}") for name, why in faults.items()]
    whole = {name: run for name, run in runs.items() if name not in faults}
    if len(whole) > 1:
        parts += _told(lambda: _results(list(whole.values())))
        parts += _told(lambda: _rewards(whole))
        parts += _told(lambda: _settings(whole))
    pair = against or (tuple(runs) if len(runs) == 2 else ())
    if len(pair) == 2 and not faults.keys() & set(pair):
        parts += _told(lambda: _side_by_side(runs, pair[0], pair[1], texts))
    return [*parts, *(section(run, name, texts(run)) for name, run in runs.items())]


def _told(make: Callable[[], list[str]]) -> list[str]:
    """A part; of a run that is damaged a sentence, and the other parts stand."""
    try:
        return make()
    except U2AError as error:
        return [quiet(str(error))]


def _fault(run: Run) -> str:
    """Why a run can stand in no table; of a command that never does nothing."""
    compared = (*table.DESCENTS, "evaluate")
    return table.fault(run) if run.config()["command"] in compared else ""


def named(runs: list[Run]) -> dict[str, Run]:
    """Names that tell the runs apart: of their directory, else with its parents."""
    found: dict[str, Run] = {}
    for run in runs:
        path = run.path.resolve()
        short = [other.path.resolve().name for other in runs].count(path.name) == 1
        found[path.name if short else str(path)] = run
    return found


def _finished(folder: Path) -> list[Run]:
    """A run, the arms of a demo, or the finished runs of a folder."""
    if not (there(folder) and folder.is_dir()):
        raise RunError(f"A report must be made of runs or folders of runs; {folder} is none.")
    if not Run(folder).exists:
        return [run for run in Workspace(folder).runs() if run.finished]
    run = Run.open(folder)
    run.report()  # says what is wrong where it is not finished
    return table.comparable(folder) if run.config()["command"] == "demo" else [run]


def _texts(run: Run, wanted: str) -> Texts:
    if wanted != "auto":
        return wanted  # type: ignore[return-value]
    folders = run.path.resolve().parents  # an arm's workspace is the folder of its demo
    return "blurred" if any(Workspace(folder).blurs(run) for folder in folders) else "shown"


def _results(runs: list[Run]) -> list[str]:
    """Methods by metrics, of the runs that can be compared."""
    if not any(run.config()["command"] in table.DESCENTS for run in runs):
        return []
    kept = table.usable(runs)
    rows, differences = table.rows(kept.runs), table.differences(kept.runs)
    return results(
        table.as_json(rows)
        | {"differences": differences, "notes": table.losses(differences), "left_out": kept.notes}
    )


def _rewards(runs: Mapping[str, Run]) -> list[str]:
    """Every run's reward with its interval, where they were measured alike."""
    reports = {n: r.report() for n, r in runs.items() if r.config()["command"] in table.DESCENTS}
    alike = table.measured_alike(reports, next(iter(reports), ""))
    if len(alike) < 2:
        return []
    drawn = figures.rewards(table.rewards_table(alike), "light")
    return ["<h2>Rewards</h2>", picture(drawn, "Mean reward of every run with its 95 % interval")]


def _settings(runs: Mapping[str, Run]) -> list[str]:
    """Only the settings in which the runs differ; all of them, folded away."""
    every = table.settings_table(runs)
    some = table.differing(every)
    head = tuple(every.columns)
    short, whole = (grid(head, [cells(*row) for row in t.to_numpy()]) for t in (some, every))
    return [
        "<h2>What differs between the runs</h2>",
        short if len(some) else quiet("Nothing but the time: their settings are the same."),
        f"<details><summary>All {len(every)} settings</summary>{whole}</details>",
    ]


def _side_by_side(
    runs: Mapping[str, Run], a: str, b: str, texts: Callable[[Run], Texts]
) -> list[str]:
    """Replies of two runs to the same prompts."""
    both = [runs[name] for name in (a, b)]
    if any(run.config()["command"] not in table.DESCENTS for run in both):
        return []
    pairs = table.paired(*(run.table("generations") for run in both))
    title = f"<h2>{html.escape(a)} against {html.escape(b)}</h2>"
    if pairs.empty:
        return [title, quiet("The two have no test prompts in common.")]
    told, warning = table.drawn_alike(*both)
    strictest = max(map(texts, both), key=("shown", "blurred", "omitted").index)
    return [title, quiet(f"{told} {warning}".strip()), *replies(pairs, (a, b), strictest)]
