"""`u2a estimate`: memory and time of a settings file, in the terminal or as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from u2a_core.config import Settings
from u2a_core.errors import U2AError
from u2a_core.estimate import Beside, Estimate, Part, memory_of, size, time_range, verdict

_COLOURS = {"fits": "green", "tight": "yellow", "too large": "red", "not compared": "cyan"}


def show_estimate(settings: Settings, *, as_json: bool) -> int:
    """The estimate, or as JSON why there is none: {error, kind}; 0 whether it fits or not.

    Raises:
        U2AError: if there is none.
    """
    from u2a_core.estimate.estimating import estimate

    try:
        found = estimate(settings)
    except U2AError as error:
        if as_json:
            _write({"error": str(error), "kind": type(error).__name__})
        raise
    if as_json:
        _write(found.as_dict())
    else:
        _show(Console(emoji=False), found)
    return 0


def _write(facts: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(facts, indent=2) + "\n")


def _show(console: Console, found: Estimate) -> None:
    model, machine = found.model, found.machine
    console.print(
        f"[bold]{escape(str(model['path']))}[/bold]: {model['parameters'] / 1e6:,.1f} million "
        f"parameters, {model['trained'] / 1e6:,.1f} million trained ({model['how']}), "
        f"{model['dtype']} on {machine.device}",
        soft_wrap=True,
    )
    console.print(escape(memory_of(machine)), soft_wrap=True)
    table = Table(box=box.SIMPLE)
    for title in ("command", f"memory ±{found.margin:.0%}", "", "time", "most while"):
        table.add_column(title)
    for need in found.needs:
        said = verdict(need.peak, machine.free, found.margin)
        coloured = f"[{_COLOURS[said]}]{said}[/{_COLOURS[said]}]"
        table.add_row(need.command, size(need.peak), coloured, time_range(need.seconds), need.phase)
    console.print(table)
    _parts(console, f"{found.largest.command}, while {found.largest.phase}", found.largest.parts)
    if found.beside is not None:
        _beside(console, found.beside, found.margin)
    for change in found.suggestions:
        words = " ".join(f"--{name} {value}" for name, value in change.changes.items())
        console.print(
            f"saves {size(change.saves)} (then {size(change.peak)}): {change.title}; "
            f"{change.price}. {words}",
            soft_wrap=True,
        )
    for text in found.assumed:
        console.print(f"assumed: {escape(text)}", soft_wrap=True)
    for text in found.warnings:
        console.print(f"[yellow]{escape(text)}[/yellow]", soft_wrap=True)


def _beside(console: Console, found: Beside, margin: float) -> None:
    machine, said = found.machine, verdict(found.peak, found.machine.free, margin)
    _parts(console, f"the reward model on {machine.device}", found.parts)
    console.print(
        f"Its {size(found.peak)} are beside the above: {escape(memory_of(machine))}"
        + ("" if machine.free is None else f", [{_COLOURS[said]}]{said}[/]"),
        soft_wrap=True,
    )


def _parts(console: Console, title: str, parts: Sequence[Part]) -> None:
    console.print(f"Parts of {title}:")
    for part in parts:
        console.print(f"  {size(part.bytes):>10}  {part.name}: {part.about}", soft_wrap=True)
