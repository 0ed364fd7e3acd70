"""How long a job takes, told from finished runs of the same kind on this machine."""

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import streamlit as st

from app import parts
from app.stages import words
from u2a_core.config import Settings
from u2a_core.errors import U2AError
from u2a_core.metrics import over_seeds
from u2a_core.runs import Run, Workspace

_COMPARED = ("model.path", "model.parameters", "data.negatives", "inner.method", "inner.steps")
"""Settings that a comparable run shares."""


def single(command: str, settings: Settings) -> str:
    """How long one job takes; empty where no comparable run has finished."""
    known = _seconds(str(parts.workspace().folder), _kind(settings), arms=False).get(command, [])
    if not known:
        return ""
    found = over_seeds(known)
    if found.n == 1:
        return f"About {words(found.mean)}: as long as the one comparable run took."
    low, high = words(max(0.0, found.low)), words(found.high)
    return (
        f"About {words(found.mean)} (95 % of the mean: {low} to {high}, n = {found.n} finished "
        "comparable runs)."
    )


def many(counts: Mapping[str, int], settings: Settings, workers: int) -> str:
    """How long an ablation takes, from arms that finished; without any, from runs like them.

    Args:
        counts: runs by command.
        settings: of the ablation.
        workers: runs at the same time.
    """
    folder, kind = str(parts.workspace().folder), _kind(settings)
    found = _seconds(folder, kind, arms=True) or _seconds(folder, kind, arms=False)
    if not found:
        return "How long it takes is told once a run of this model and data has finished."
    longest = max(found, key=lambda command: float(np.mean(found[command])))
    total = variance = 0.0
    for command, count in counts.items():
        known = np.asarray(found.get(command, found[longest]))
        total += count * float(known.mean())
        variance += (count * float(known.std(ddof=1))) ** 2 / len(known) if len(known) > 1 else 0.0
    n = sum(map(len, found.values()))
    error = 1.96 * math.sqrt(variance)
    low, high = (max(0.0, total + side * error) / workers for side in (-1, 1))
    return (
        f"About {words(total / workers)} (95 %: {words(low)} to {words(high)}), told from the mean "
        f"of n = {n} finished comparable runs, {workers} at the same time."
    )


def _kind(settings: Settings) -> tuple[str, ...]:
    """What a comparable run shares."""
    found = []
    for name in _COMPARED:
        section, _, field = name.partition(".")
        found.append(str(getattr(getattr(settings, section), field)))
    return tuple(found)


@st.cache_data(ttl=30, max_entries=32, show_spinner=False)
def _seconds(folder: str, kind: tuple[str, ...], *, arms: bool) -> dict[str, list[float]]:
    """Command → seconds of the finished comparable runs; those inside ablations, or the others."""
    space, found = Workspace(Path(folder)), dict[str, list[float]]()
    tops = space.runs()
    inside = [arm for run in tops if run.config()["command"] == "ablate" for arm in space.arms(run)]
    for run in inside if arms else tops:
        known = _finished(run, kind)
        if known is not None:
            found.setdefault(run.config()["command"], []).append(known)
    return found


def _finished(run: Run, kind: tuple[str, ...]) -> float | None:
    """How long a run took, if it is finished and comparable."""
    try:
        if not run.finished or _kind(run.settings()) != kind:
            return None
        return float(run.report()["seconds"])
    except (U2AError, KeyError, TypeError, ValueError):  # damaged, or of another version
        return None
