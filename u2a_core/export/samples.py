"""The negative samples of a finished run as rows: id, turns, reply, weight, gain, a person's mark.

What is written loads again through `u2a_core.data` with the same ids and texts. Gains of a
reweighting are given twice: at the original model, where their errors are known, and summed over
its rounds. No torch: pages make these files, too.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from u2a_core.data import load_negatives
from u2a_core.errors import DataError, RunError
from u2a_core.runs import Run
from u2a_core.types import Prompt, user_prompt

TABLES = {"gains": "gains", "reweight": "weights", "unlearn": "weights", "baseline": ""}
"""Command whose runs can be exported → its table of samples; empty: it weights none."""

_RENAMED = {
    "gain_first_round": "gain",
    "gain_first_round_se": "gain_se",
    "gain_first_round_low": "gain_low",
    "gain_first_round_high": "gain_high",
}
"""A reweighting's names → those of a gains run."""
COLUMNS = (
    *("id", "prompt", "response", "kind", "weight", "gain", "gain_se", "gain_low", "gain_high"),
    *("rank", "gain_accumulated", "rank_accumulated", "mark"),
)
"""Of what is written, those that the run knows."""

_BREAKS = {code: f"\\u{code:04x}" for code in (0x85, 0x2028, 0x2029)}
"""Characters at which some readers end a line."""


@dataclass(frozen=True)
class Samples:
    """The negative set of a run.

    Attributes:
        frame: one row a sample, in the set's order; of id, prompt (its turns), response, kind,
            weight, gain, gain_se, gain_low, gain_high, rank, gain_accumulated, rank_accumulated
            and mark, those that the run knows.
        sha256: of the set: its identity.
        notes: what a reader must know.
    """

    frame: pd.DataFrame
    sha256: str
    notes: tuple[str, ...] = field(default=())

    def __len__(self) -> int:
        """How many there are."""
        return len(self.frame)

    @property
    def ranked_by(self) -> str:
        """The column of the gain that chooses: summed over the rounds where there are any."""
        found = [name for name in ("gain_accumulated", "gain") if name in self.frame]
        return found[0] if found else ""

    def records(self) -> Iterator[dict[str, Any]]:
        """One plain dict a sample; what is not known is None."""
        for row in self.frame.to_dict("records"):
            yield {str(name): _plain(value) for name, value in row.items()}


def samples_of(run: Run, marks: Mapping[str, str]) -> Samples:
    """The negative samples of a finished run.

    Args:
        run: of gains, reweight or unlearn.
        marks: id → what a person said of the sample.

    Raises:
        RunError: if the run is not finished, or has no table of samples.
    """
    report = run.report()
    name = TABLES.get(str(report["command"]))
    if not name:
        raise RunError(
            f"Samples must come from a run of gains, reweight or unlearn; {run.path} is of "
            f"{report['command']}, which weights no sample. Name another run."
        )
    sha256 = str(report["data"]["negatives_sha256"])
    table, notes = _with_turns(run, run.table(name).rename(columns=_RENAMED), sha256)
    frame = table.copy()
    for gain, rank in (("gain", "rank"), ("gain_accumulated", "rank_accumulated")):
        if gain in frame:
            frame[rank] = frame[gain].rank(ascending=False, method="first").astype(int)
    if marks:
        frame["mark"] = [marks.get(str(sample)) for sample in frame["id"]]
    kept = [column for column in COLUMNS if column in frame]
    return Samples(frame[kept].reset_index(drop=True), sha256, notes)


def write_jsonl(samples: Samples, path: Path) -> None:
    """A JSON object a line, UTF-8, texts as they are."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for record in samples.records():
            file.write(line(record))


def write_parquet(samples: Samples, path: Path) -> None:
    """The same as one table, the prompt a list of {role, content}."""
    samples.frame.to_parquet(path, index=False)


def line(record: Mapping[str, Any]) -> str:
    """A record as a line of JSON, which no reader takes for two."""
    return json.dumps(record, ensure_ascii=False, allow_nan=False).translate(_BREAKS) + "\n"


def _with_turns(run: Run, table: pd.DataFrame, sha256: str) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The table in the set's order, its prompts as turns: those of the set's own file."""
    data = run.settings().data
    try:
        found = load_negatives(data.negatives, columns=data.columns_of("negatives"))
        name = Path(data.negatives).name
        why = "" if found.sha256 == sha256 else f"{name} has changed since the run"
    except DataError as error:
        why = str(error)
    if not why:
        known = set(table["id"])  # without those that had no room in the model
        samples = [sample for sample in found.samples if sample.id in known]
        ordered = table.set_index("id").loc[[sample.id for sample in samples]].reset_index()
        return ordered.assign(prompt=_column([sample.prompt for sample in samples])), ()
    note = (
        "Prompts are those of the run's own tables, each as one turn of the user: the turns of "
        f"longer conversations stand in data.negatives alone, which cannot be used now ({why})."
    )
    texts = [user_prompt(text) for text in table["prompt"]]
    return table.assign(prompt=_column(texts)), (note,)


def _column(prompts: Sequence[Prompt]) -> np.ndarray:
    """(n,) lists of turns."""
    found = np.empty(len(prompts), dtype=object)
    for place, prompt in enumerate(prompts):
        found[place] = [{"role": turn.role, "content": turn.content} for turn in prompt]
    return found


def _plain(value: Any) -> Any:
    """A value as JSON has it: None for what is missing."""
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
