"""Files of any accepted format → negative sets, preference pairs, retain sets, prompts, flags.

What is dropped is counted with its line and reason.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

from u2a_core.data.columns import Kind
from u2a_core.data.files import Record
from u2a_core.data.items import Item
from u2a_core.data.reading import read_records
from u2a_core.data.source import Named, Remark, Source
from u2a_core.errors import DataError
from u2a_core.types import Fault, NegativeSet, PreferencePair, Prompt, Sample, prompt_text

OnFault: TypeAlias = Literal["raise", "skip"]


def load_negatives(
    path: str | Path, *, on_fault: OnFault = "raise", columns: Named | None = None
) -> NegativeSet:
    """A negative set: the replies that are bad by the file's format; of pairs the rejected ones.

    Args:
        path: a file, or a hub id.
        on_fault: whether a line that cannot be parsed is an error or only counted. Records with
            an empty prompt or response, and exact duplicates, are always dropped and counted.
        columns: part → column, where a column's own name does not tell what it holds; or
            format → its name, where the format is not to be recognized.

    Raises:
        DataError: if lines are broken (unless skipped), ids repeat, or nothing is usable.
    """
    found, faults = _loaded(path, "rejected", columns, on_fault)
    unique: dict[tuple[str, str], tuple[int, Sample]] = {}
    for line, sample in found:
        assert isinstance(sample, Sample)
        unique.setdefault((prompt_text(sample.prompt), sample.response), (line, sample))
    identity = Identity(path)
    for line, sample in unique.values():
        identity.add(line, sample)
    samples = tuple(sample for _, sample in unique.values())
    return NegativeSet(samples, tuple(faults), len(found) - len(samples), identity.sha256())


def load_preferences(
    path: str | Path, *, on_fault: OnFault = "raise", columns: Named | None = None
) -> tuple[list[PreferencePair], list[Fault]]:
    """Preference pairs; identical or empty replies are faults."""
    found, faults = _loaded(path, "pairs", columns, on_fault)
    return [pair for _, pair in found if isinstance(pair, PreferencePair)], faults


def load_retain(
    path: str | Path, *, on_fault: OnFault = "raise", columns: Named | None = None
) -> tuple[list[Sample], list[Fault]]:
    """A retain set: the replies that are good by the file's format; of pairs the chosen ones."""
    found, faults = _loaded(path, "chosen", columns, on_fault)
    return [sample for _, sample in found if isinstance(sample, Sample)], faults


def load_prompts(
    path: str | Path, *, on_fault: OnFault = "raise", columns: Named | None = None
) -> tuple[list[Prompt], list[Fault]]:
    """Prompts alone: a prompt, instruction, question or messages column, or lines of a .txt."""
    found, faults = _loaded(path, "prompts", columns, on_fault)
    return [prompt for _, prompt in found if isinstance(prompt, tuple)], faults


def as_record(item: Item) -> Record:
    """An item as a record of a file that gives the same item, ids and texts unchanged, again."""
    if isinstance(item, Sample):
        kind = {"kind": item.kind} if item.kind else {}
        return {"id": item.id, "prompt": _asked(item.prompt), "response": item.response, **kind}
    if isinstance(item, PreferencePair):
        asked = _asked(item.prompt)
        return {"prompt": asked, "chosen": item.chosen, "rejected": item.rejected}
    return {"prompt": _asked(item)}


def _asked(prompt: Prompt) -> Any:
    """A text, or the turns of a conversation."""
    if len(prompt) == 1 and prompt[0].role == "user":
        return prompt[0].content
    return [{"role": message.role, "content": message.content} for message in prompt]


def load_truth(path: str | Path, ids: Sequence[str]) -> list[bool]:
    """Whether each sample is known to be mislabelled, by id.

    Raises:
        DataError: if an id has no flag.
    """
    records, _ = read_records(path)
    flags = {str(record.get("id")): record.get("mislabelled") for _, record in records}
    missing = [i for i in ids if not isinstance(flags.get(i), bool)]
    if missing:
        raise DataError(
            f"{path} must say mislabelled: true or false for every negative sample; "
            f"got none for {len(missing)} of {len(ids)} (first: {missing[0]!r})."
        )
    return [bool(flags[i]) for i in ids]


def _loaded(
    path: str | Path, kind: Kind, columns: Named | None, on_fault: OnFault
) -> tuple[list[tuple[int, Item]], list[Fault]]:
    """Every usable record with its line, and the faults of the others, by line.

    Raises:
        DataError: if lines are no records (unless skipped), or nothing is usable.
    """
    found: list[tuple[int, Item]] = []
    faults: list[Fault] = []
    broken: list[Remark] = []
    for one in Source(path, kind, columns):
        if not isinstance(one, Remark):
            found.append(one)
        elif one.outcome in ("no record", "fault"):
            broken += [one] if one.outcome == "no record" else []
            faults.append(Fault(one.line, one.reason, one.text))
    if broken and on_fault == "raise":
        others = f" (and {len(broken) - 1} more lines)" if len(broken) > 1 else ""
        raise DataError(
            f"Every line of {path} must be a record; line {broken[0].line} is "
            f"{broken[0].reason}{others}. Mend or remove it."
        )
    return found, faults


class Identity:
    """What a negative set is known by, gathered sample by sample in file order."""

    def __init__(self, path: str | Path) -> None:
        self._path = path
        self._digest = hashlib.sha256()
        self._ids: set[int] = set()
        self._count = 0
        self._repeated = 0
        self._first = (0, "")

    def add(self, line: int, sample: Sample) -> None:
        """A sample that no earlier one repeats."""
        parts = (sample.id, prompt_text(sample.prompt), sample.response)
        self._digest.update("\x1f".join(parts).encode("utf-8", "surrogatepass") + b"\x1e")
        self._count += 1
        known = hash(sample.id)
        if known in self._ids:
            self._repeated += 1
            self._first = self._first if self._repeated > 1 else (line, sample.id)
        self._ids.add(known)

    def sha256(self) -> str:
        """Of ids and texts.

        Raises:
            DataError: if ids repeat.
        """
        if self._repeated:
            line, first = self._first
            raise DataError(
                f"Sample ids must be unique; got {self._repeated} repeated of {self._count} "
                f"in {self._path} (first: {first!r}, line {line}). Rename or drop them."
            )
        return self._digest.hexdigest()
