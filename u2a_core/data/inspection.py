"""`u2a data`: what a config's files hold, file by file; a bad one does not hide the others."""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from u2a_core.config import DataSettings, EvaluationSettings, Part, SetName, there
from u2a_core.data.columns import KINDS, recognize
from u2a_core.data.files import Record, beginning
from u2a_core.data.overlaps import Keys, Overlap, keys, overlaps
from u2a_core.data.records import Contents, Item, converted, negative_set
from u2a_core.errors import DataError
from u2a_core.types import Fault, PreferencePair, Sample, prompt_text

EVALUATED: tuple[SetName, ...] = ("harmful", "benign", "reference", "questions", "outsiders")
"""Sets that only `u2a evaluate` reads."""

SHOWN_ROWS = 1_000
_HEAD = 5
_MOST_COLUMNS = 40
_PREVIEW = 2
_INSIDE = ("lengths", "rows")
"""What a picture and a table of the page need, and a JSON does not."""


class Row(NamedTuple):
    """A usable record as a table shows it; texts are cut."""

    line: int
    id: str
    kind: str
    prompt: str
    reply: str = ""
    """Of a pair the chosen one."""
    rejected: str = ""


class Repeat(NamedTuple):
    """A record that says the same as an earlier one."""

    line: int
    first: int
    text: str


@dataclass(frozen=True)
class DataReport:
    """One file: what is usable, what is not, and a look at it. Lengths in characters.

    Attributes:
        role, path: the set and its file.
        usable: records that are read; exact repetitions are dropped of negatives only.
        repeated: exact repetitions with their lines.
        sha256: of negatives, the identity of the set: what runs and pages know it by.
        columns, recognized: all columns of the file, and part → column of those that are read.
        lengths: of replies; of a set of prompts, of these.
        rows: the first usable records. head: the first records as they stand in the file.
        error: why nothing can be read; empty if something can.
    """

    role: SetName
    path: str
    usable: int = 0
    faults: tuple[Fault, ...] = ()
    repeated: tuple[Repeat, ...] = ()
    sha256: str = ""
    columns: tuple[str, ...] = ()
    recognized: dict[Part, str] = dataclasses.field(default_factory=dict)
    median_length: float = 0.0
    longest: int = 0
    lengths: tuple[int, ...] = ()
    rows: tuple[Row, ...] = ()
    head: tuple[dict[str, str], ...] = ()
    error: str = ""

    @property
    def duplicates(self) -> int:
        """How many exact repetitions there are."""
        return len(self.repeated)

    @property
    def preview(self) -> tuple[str, ...]:
        """A line for each of the first records."""
        shown = self.rows[:_PREVIEW]
        texts = ([r.prompt[:80], r.reply[:80], r.rejected[:80]] for r in shown)
        return tuple(" → ".join(filter(None, found)) for found in texts)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        facts = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        for name in _INSIDE:
            del facts[name]
        faults = [dataclasses.asdict(fault) for fault in self.faults]
        repeated = [repeat._asdict() for repeat in self.repeated]
        return facts | {"faults": faults, "repeated": repeated, "preview": list(self.preview)}

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> DataReport:
        """Of such a JSON, without lengths and rows."""
        own = {f.name: facts[f.name] for f in dataclasses.fields(cls) if f.name not in _INSIDE}
        return cls(**own | {
            "faults": tuple(Fault(**fault) for fault in facts["faults"]),
            "repeated": tuple(Repeat(**repeat) for repeat in facts["repeated"]),
            "columns": tuple(facts["columns"]),
            "head": tuple(facts["head"]),
        })  # fmt: skip


@dataclass(frozen=True)
class Inspection:
    """The reports of all files, and what sets share that should be apart."""

    files: tuple[DataReport, ...]
    overlaps: tuple[Overlap, ...]


def inspect_data(
    settings: DataSettings, evaluation: EvaluationSettings | None = None, mixture: str = ""
) -> Inspection:
    """A report per file that the settings name, the negatives first; mixture: of a baseline."""
    reports, apart = [], dict[SetName, Keys]()
    for name, path in _named(settings, evaluation or EvaluationSettings(), mixture):
        try:
            if not path:
                raise DataError("data.negatives must name a file of negative samples; got nothing.")
            contents = Contents.read(path)
        except DataError as error:
            reports.append(DataReport(name, path, error=str(error)))
            continue
        report, apart[name] = _inspected(name, contents, settings.columns_of(name))
        reports.append(report)
    return Inspection(tuple(reports), tuple(overlaps(apart)))


def _named(
    settings: DataSettings, evaluation: EvaluationSettings, mixture: str
) -> Iterator[tuple[SetName, str]]:
    data: tuple[SetName, ...] = (
        "negatives", "preferences", "retain", "objective_prompts", "prompts"
    )  # fmt: skip
    for name in data:
        if getattr(settings, name) or name == "negatives":
            yield name, getattr(settings, name)
    if mixture:
        yield "mixture", mixture
    for name in EVALUATED:
        path = getattr(evaluation, name)
        if path and not there(Path(path) / "config.json"):  # a reference may be a run
            yield name, path


def _inspected(
    name: SetName, contents: Contents, named: dict[Part, str]
) -> tuple[DataReport, Keys]:
    """The report of what was read of a file, and what tells its records apart."""
    columns = tuple(dict.fromkeys(str(key) for _, record in contents.records for key in record))
    report = DataReport(
        name,
        str(contents.path),
        faults=tuple(contents.broken),
        columns=columns[:_MOST_COLUMNS],
        recognized=_recognized(columns, name, named),
        head=tuple(_cells(record) for _, record in contents.records[:_HEAD]),
    )
    try:
        found, faults = converted(contents, KINDS[name], named, "skip")
        sha256 = negative_set(contents.path, found, faults).sha256 if name == "negatives" else ""
    except DataError as error:
        return dataclasses.replace(report, error=str(error)), Keys()
    repeated = _repeats(found)
    again = {repeat.line for repeat in repeated} if name == "negatives" else set()
    used = [(line, item) for line, item in found if line not in again]
    lengths = tuple(len(_texts(item)[1] or _texts(item)[0]) for _, item in used)
    report = dataclasses.replace(
        report,
        usable=len(used),
        faults=tuple(faults),
        repeated=tuple(repeated),
        sha256=sha256,
        median_length=float(statistics.median(lengths)),
        longest=max(lengths),
        lengths=lengths,
        rows=tuple(_row(line, item) for line, item in used[:SHOWN_ROWS]),
    )
    return report, keys([item for _, item in used])


def _recognized(columns: Sequence[str], name: SetName, named: dict[Part, str]) -> dict[Part, str]:
    """Part → column as the file spells it, of a record that has all columns."""
    spelled = {column.strip().lower(): column for column in columns}
    found = recognize(spelled.keys(), KINDS[name], named)
    return {part: spelled[column] for part, column in found.items()}


def _cells(record: Record) -> dict[str, str]:
    """A record as it stands, each cell cut."""
    cells = list(record.items())[:_MOST_COLUMNS]
    return {
        str(k): beginning(
            v if isinstance(v, str) else json.dumps(v, default=str, ensure_ascii=False)
        )
        for k, v in cells
    }


def _repeats(found: Sequence[tuple[int, Item]]) -> list[Repeat]:
    """Records that say what an earlier one says."""
    first: dict[tuple[str, str], int] = {}
    out = []
    for line, item in found:
        texts = _texts(item)
        if texts in first:
            out.append(Repeat(line, first[texts], beginning(" → ".join(filter(None, texts)))))
        else:
            first[texts] = line
    return out


def _texts(item: Item) -> tuple[str, str]:
    """Prompt and reply; of a pair both replies, of a prompt none."""
    if isinstance(item, Sample):
        return prompt_text(item.prompt), item.response
    if isinstance(item, PreferencePair):
        return prompt_text(item.prompt), f"{item.chosen} ≻ {item.rejected}"
    return prompt_text(item), ""


def _row(line: int, item: Item) -> Row:
    prompt, reply = map(beginning, _texts(item))
    if isinstance(item, PreferencePair):
        return Row(line, "", "", prompt, beginning(item.chosen), beginning(item.rejected))
    if isinstance(item, Sample):
        return Row(line, item.id, item.kind, prompt, reply)
    return Row(line, "", "", prompt)
