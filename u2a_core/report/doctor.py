"""`u2a doctor` in the terminal, or as JSON."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    from u2a_core.doctor import Findings


@dataclass(frozen=True)
class DoctorOptions:
    """Options of `u2a doctor`."""

    json: bool = False
    """Print everything as JSON on stdout."""
    runs: Path = Path(os.environ.get("U2A_RUNS", "runs"))
    """The folder of runs, whose disk is measured."""
    timeout: float = 3.0
    """Seconds that the hub has for an answer."""


def show_doctor(options: DoctorOptions) -> int:
    """`u2a doctor`: always 0; what is missing is told."""
    from u2a_core.doctor import examine

    found = examine(options.runs, timeout=options.timeout)
    if options.json:
        sys.stdout.write(json.dumps(found.as_dict(), indent=2) + "\n")
    else:
        _show(Console(emoji=False), found)
    return 0


def _show(console: Console, found: Findings) -> None:
    from u2a_core.estimate import size

    hub = found.hub
    lines = {
        "Python": found.python,
        "System": found.system,
        "Packages": ", ".join(f"{n} {v or 'missing'}" for n, v in found.packages.items()),
        "Optional": ", ".join(f"{n} {v or 'not installed'}" for n, v in found.optional.items()),
        **{
            f"Device {d.name}": f"{d.about}: {size(d.free)} of {size(d.total)} free"
            + (", bfloat16" if d.bfloat16 else ", no bfloat16")
            for d in found.devices
        },
        "Chosen by auto": " in ".join(found.chosen),
        "Attention": ", ".join(found.attention),
        "Quantized bases": "8bit, 4bit" if found.quantization else "not here",
        **{
            f"Disk of {name}": f"{disk['path']}, "
            + ("unknown" if disk["free"] is None else f"{size(disk['free'])} free")
            for name, disk in found.disks.items()
        },
        "Hub": f"{hub['address']}, "
        + ("offline mode" if hub["offline"] else _reached(hub["milliseconds"]))
        + (", a token is set" if hub["token"] else ", no token"),
    }
    for name, text in lines.items():
        console.print(f"[bold]{name}[/bold]  {escape(text)}", soft_wrap=True)
    for text in found.warnings:
        console.print(f"[yellow]Warning:[/yellow] {escape(text)}", soft_wrap=True)


def _reached(milliseconds: int | None) -> str:
    return "not reachable" if milliseconds is None else f"answers in {milliseconds} ms"
