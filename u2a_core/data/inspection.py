"""`u2a data`: what a config's files hold, file by file; a bad one does not hide the others."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from u2a_core.config import DataSettings
from u2a_core.data.records import load_negatives, load_preferences, load_prompts, load_retain
from u2a_core.errors import DataError
from u2a_core.types import Fault, prompt_text

_PREVIEW = 2


@dataclass(frozen=True)
class DataReport:
    """One file: what is usable, what is not, and a look at it. Lengths in characters."""

    role: str
    path: str
    usable: int = 0
    duplicates: int = 0
    faults: tuple[Fault, ...] = ()
    median_length: float = 0.0
    longest: int = 0
    preview: tuple[str, ...] = ()
    error: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return dataclasses.asdict(self)


def inspect_data(settings: DataSettings) -> list[DataReport]:
    """A report per file that the settings name."""
    roles: dict[str, Callable[[str], DataReport]] = {
        "negatives": _negatives,
        "preferences": _preferences,
        "retain": _retain,
        "objective_prompts": partial(_prompts, "objective_prompts"),
        "prompts": partial(_prompts, "prompts"),
    }
    reports = []
    for role, look in roles.items():
        path = getattr(settings, role)
        if path or role == "negatives":
            try:
                reports.append(look(path))
            except DataError as error:
                reports.append(DataReport(role, path, error=str(error)))
    return reports


def _negatives(path: str) -> DataReport:
    if not path:
        raise DataError("data.negatives must name a file of negative samples; got nothing.")
    found = load_negatives(path, on_fault="skip")
    pairs = [(prompt_text(s.prompt), s.response) for s in found.samples]
    return _report("negatives", path, pairs, found.faults, found.duplicates)


def _preferences(path: str) -> DataReport:
    pairs, faults = load_preferences(path, on_fault="skip")
    texts = [(prompt_text(p.prompt), f"{p.chosen} ≻ {p.rejected}") for p in pairs]
    return _report("preferences", path, texts, tuple(faults))


def _retain(path: str) -> DataReport:
    samples, faults = load_retain(path, on_fault="skip")
    texts = [(prompt_text(s.prompt), s.response) for s in samples]
    return _report("retain", path, texts, tuple(faults))


def _prompts(role: str, path: str) -> DataReport:
    prompts, faults = load_prompts(path, on_fault="skip")
    return _report(role, path, [(prompt_text(prompt), "") for prompt in prompts], tuple(faults))


def _report(
    role: str,
    path: str,
    pairs: list[tuple[str, str]],
    faults: tuple[Fault, ...] = (),
    duplicates: int = 0,
) -> DataReport:
    lengths = [len(response or prompt) for prompt, response in pairs]
    return DataReport(
        role,
        path,
        usable=len(pairs),
        duplicates=duplicates,
        faults=faults,
        median_length=float(statistics.median(lengths)),
        longest=max(lengths),
        preview=tuple(f"{p[:80]} → {r[:80]}" if r else p[:80] for p, r in pairs[:_PREVIEW]),
    )
