"""`u2a data`: what a config's files hold, file by file; a bad one does not hide the others."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from u2a_core.config import DataSettings, EvaluationSettings, Part, SetName, there
from u2a_core.data.columns import KINDS
from u2a_core.data.files import Record, beginning, told
from u2a_core.data.formats import FORMATS
from u2a_core.data.overlaps import Keys, Overlap, overlaps
from u2a_core.data.records import Identity
from u2a_core.data.source import Remark, Source
from u2a_core.data.tally import Reason, Repeat, Row, Sink, Tally
from u2a_core.errors import DataError
from u2a_core.types import Fault

EVALUATED: tuple[SetName, ...] = ("harmful", "benign", "reference", "questions", "outsiders")
"""Sets that only `u2a evaluate` reads."""

_MOST_COLUMNS = 40
_NAMED = 12
_PREVIEW = 2
_INSIDE = ("lengths", "rows")
"""What a picture and a table of the page need, and a JSON does not."""


@dataclass(frozen=True)
class DataReport:
    """One file: what is usable, what is not, and a look at it. Lengths in characters.

    Attributes:
        role, path: the set and its file.
        usable: records that are read; exact repetitions are dropped of negatives only.
        faults, faulty: what cannot be used: the first ones, and the count of all.
        repeated, duplicates: exact repetitions: the first ones, and the count of all.
        left_out: records that give nothing to the set by a rule of their format.
        odd: records that are used though their texts look spoiled, or their verdicts contradict.
        reasons: why all of these, counted.
        sha256: of negatives, the identity of the set: what runs and pages know it by.
        format, title: what the file was read as; empty: by the names of its columns.
        container: what the file is: JSON lines, JSON array, CSV, …
        notes: what else is odd about the file as a whole.
        columns, recognized: all columns of the file, and part → column of those that are read.
        reads: column → what it is read as.
        unread: columns that no set would read.
        lengths: of replies; of a set of prompts, of these.
        rows: the first usable records. head: the first records as they stand in the file.
        error: why nothing can be read; empty if something can.
    """

    role: SetName
    path: str
    usable: int = 0
    faults: tuple[Fault, ...] = ()
    faulty: int = 0
    repeated: tuple[Repeat, ...] = ()
    duplicates: int = 0
    left_out: int = 0
    odd: int = 0
    reasons: tuple[Reason, ...] = ()
    sha256: str = ""
    format: str = ""
    title: str = ""
    container: str = ""
    notes: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    recognized: dict[Part, str] = dataclasses.field(default_factory=dict)
    reads: dict[str, str] = dataclasses.field(default_factory=dict)
    unread: tuple[str, ...] = ()
    median_length: float = 0.0
    longest: int = 0
    longest_prompt: int = 0
    lengths: Sequence[int] = ()
    rows: tuple[Row, ...] = ()
    head: tuple[dict[str, str], ...] = ()
    error: str = ""

    @property
    def beside(self) -> str:
        """The columns that are not read, in words; empty if all are."""
        names = [column.strip() or "one without a name" for column in self.unread]
        shown, more = names[:_NAMED], len(names) - _NAMED
        told = ", ".join(shown) + (f" and {more} more" if more > 0 else "")
        return f"not read: {told}" if told else ""

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
        return facts | {
            "faults": faults,
            "repeated": [repeat._asdict() for repeat in self.repeated],
            "reasons": [reason._asdict() for reason in self.reasons],
            "preview": list(self.preview),
        }

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> DataReport:
        """Of such a JSON, without lengths and rows."""
        own = {f.name: facts[f.name] for f in dataclasses.fields(cls) if f.name not in _INSIDE}
        return cls(**own | {
            "faults": tuple(Fault(**fault) for fault in facts["faults"]),
            "repeated": tuple(Repeat(**repeat) for repeat in facts["repeated"]),
            "reasons": tuple(Reason(**reason) for reason in facts["reasons"]),
            "notes": tuple(facts["notes"]),
            "columns": tuple(facts["columns"]),
            "unread": tuple(facts["unread"]),
            "head": tuple(facts["head"]),
        })  # fmt: skip


@dataclass(frozen=True)
class Inspection:
    """The reports of all files, and what sets share that should be apart."""

    files: tuple[DataReport, ...]
    overlaps: tuple[Overlap, ...]


def inspect_data(
    settings: DataSettings,
    evaluation: EvaluationSettings | None = None,
    mixture: str = "",
    remarks: Callable[[SetName, str, Remark], object] | None = None,
) -> Inspection:
    """A report per file that the settings name, the negatives first; each is read once.

    Args:
        settings: that name the files.
        evaluation: that name those of an evaluation.
        mixture: of a baseline.
        remarks: takes set, path and remark of all records that are not used, or look odd.
    """
    reports, apart = [], dict[SetName, Keys]()
    for name, path in _named(settings, evaluation or EvaluationSettings(), mixture):

        def sink(remark: Remark, name: SetName = name, path: str = path) -> None:
            if remarks is not None:
                remarks(name, path, remark)

        try:
            if not path:
                raise DataError("data.negatives must name a file of negative samples; got nothing.")
            source = Source(path, KINDS[name], settings.columns_of(name))
        except DataError as error:
            reports.append(DataReport(name, path, error=str(error)))
            continue
        report, apart[name] = _inspected(name, source, sink)
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


def _inspected(name: SetName, source: Source, sink: Sink) -> tuple[DataReport, Keys]:
    """The report of what is in a file, and what tells its records apart."""
    identity = Identity(source.path) if name == "negatives" else None
    tally, error, sha256 = Tally(sink, identity), "", ""
    try:
        for one in source:
            if isinstance(one, Remark):
                tally.remark(one)
            else:
                tally.add(*one)
        sha256 = identity.sha256() if identity else ""
    except DataError as why:
        error = str(why)
    report = DataReport(
        name,
        str(source.path),
        faults=tuple(tally.faults),
        faulty=tally.faulty,
        left_out=tally.left_out,
        reasons=tally.reasons,
        format=source.format or "",
        title=FORMATS[source.format].title if source.format else "",
        container=source.container,
        notes=tuple(_notes(source)),
        columns=tuple(map(beginning, source.columns))[:_MOST_COLUMNS],
        reads=source.reads,
        unread=tuple(map(beginning, source.unread))[:_MOST_COLUMNS],
        recognized=_recognized(source.reads),
        head=tuple(_cells(record) for record in source.head),
        error=error,
    )
    return (report, Keys()) if error else (_filled(report, tally, sha256), tally.keys)


def _filled(report: DataReport, tally: Tally, sha256: str) -> DataReport:
    """The report with what is usable."""
    return dataclasses.replace(
        report,
        usable=tally.usable,
        repeated=tuple(tally.repeated),
        duplicates=tally.duplicates,
        odd=tally.odd,
        sha256=sha256,
        median_length=tally.median_length,
        longest=max(tally.lengths, default=0),
        longest_prompt=tally.longest_prompt,
        lengths=tally.lengths,
        rows=tuple(tally.rows),
    )


def _recognized(reads: Mapping[str, str]) -> dict[Part, str]:
    """Part → the first column that is read as it."""
    known: tuple[Part, ...] = get_args(Part)
    first = {read: column for column, read in reversed(list(reads.items()))}
    return {part: first[part] for part in known if part in first}


def _notes(source: Source) -> Iterator[str]:
    """What is odd about a file as a whole, and does no harm."""
    usual = {"JSON lines": (".jsonl", ".ndjson"), "JSON array": (".json",), "CSV": (".csv", ".tsv"),
             "JSON object": (".json", ".jsonl"), "Parquet": (".parquet",)}  # fmt: skip
    ending = Path(source.path).suffix.lower()
    if source.container in usual and ending not in usual[source.container]:
        yield f"holds {source.container} under the name {ending or 'of no ending'}"
    if source.marked:
        yield "begins with a byte order mark, which is left out"
    spelled = {column.strip() for column in source.named.values()}
    odd = [c for c in source.reads if c != c.lower() and c.strip() not in spelled]
    if odd:
        yield f"has columns in another case: {', '.join(map(beginning, odd))}"
    if source.format == "advbench-swapped":
        yield "has its headers swapped: target holds what is asked, and goal the reply"


def _cells(record: Record) -> dict[str, str]:
    """A record as it stands, each cell cut."""
    return {beginning(str(k)): told(v) for k, v in list(record.items())[:_MOST_COLUMNS]}
