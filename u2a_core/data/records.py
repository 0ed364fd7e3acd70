"""Records of any accepted schema → samples, preference pairs, prompts and flags.

Columns are matched without regard to case. What is dropped is counted with its line and reason.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from u2a_core.config import Part
from u2a_core.data.columns import Kind, recognize
from u2a_core.data.files import Numbered, Record, beginning, read_records
from u2a_core.data.turns import Unusable, conversation, last_reply, split, text
from u2a_core.errors import DataError
from u2a_core.types import (
    Fault,
    NegativeSet,
    PreferencePair,
    Prompt,
    Sample,
    prompt_text,
    user_prompt,
)

OnFault: TypeAlias = Literal["raise", "skip"]
Item: TypeAlias = Sample | PreferencePair | Prompt
Named: TypeAlias = Mapping[Part, str]


@dataclass(frozen=True)
class Contents:
    """A file as it was read: its records with their lines, and the lines that are none."""

    path: str | Path
    records: Sequence[Numbered]
    broken: Sequence[Fault] = ()

    @classmethod
    def read(cls, path: str | Path) -> Contents:
        """All of a file, or of a hub set.

        Raises:
            DataError: if it cannot be read, or holds nothing.
        """
        return cls(path, *read_records(path))


def load_negatives(
    path: str | Path, *, on_fault: OnFault = "raise", columns: Named | None = None
) -> NegativeSet:
    """A negative set; of preference files the rejected replies.

    Args:
        path: a file, or a hub id.
        on_fault: whether a line that cannot be parsed is an error or only counted. Records with
            an empty prompt or response, and exact duplicates, are always dropped and counted.
        columns: part → column, where a column's own name does not tell what it holds.

    Raises:
        DataError: if lines are broken (unless skipped), ids repeat, or nothing is usable.
    """
    return negative_set(path, *converted(Contents.read(path), "rejected", columns, on_fault))


def negative_set(
    path: str | Path, found: Sequence[tuple[int, Item]], faults: Sequence[Fault]
) -> NegativeSet:
    """Samples with their lines as a set: each once, its ids unique."""
    unique: dict[tuple[str, str], tuple[int, Sample]] = {}
    for line, sample in found:
        assert isinstance(sample, Sample)
        unique.setdefault((prompt_text(sample.prompt), sample.response), (line, sample))
    _check_ids(list(unique.values()), path)
    samples = tuple(sample for _, sample in unique.values())
    return NegativeSet(samples, tuple(faults), len(found) - len(samples), _sha256(samples))


def load_preferences(
    path: str | Path, *, on_fault: OnFault = "raise", columns: Named | None = None
) -> tuple[list[PreferencePair], list[Fault]]:
    """Preference pairs; identical or empty replies are faults."""
    found, faults = converted(Contents.read(path), "pairs", columns, on_fault)
    return [pair for _, pair in found if isinstance(pair, PreferencePair)], faults


def load_retain(
    path: str | Path, *, on_fault: OnFault = "raise", columns: Named | None = None
) -> tuple[list[Sample], list[Fault]]:
    """A retain set; of preference files the chosen replies."""
    found, faults = converted(Contents.read(path), "chosen", columns, on_fault)
    return [sample for _, sample in found if isinstance(sample, Sample)], faults


def load_prompts(
    path: str | Path, *, on_fault: OnFault = "raise", columns: Named | None = None
) -> tuple[list[Prompt], list[Fault]]:
    """Prompts alone: a prompt, instruction, question or messages column, or lines of a .txt."""
    found, faults = converted(Contents.read(path), "prompts", columns, on_fault)
    return [prompt for _, prompt in found if isinstance(prompt, tuple)], faults


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


def converted(
    contents: Contents, kind: Kind, columns: Named | None, on_fault: OnFault
) -> tuple[list[tuple[int, Item]], list[Fault]]:
    """Every usable record with its line, and the faults of the others, by line.

    Raises:
        DataError: if lines are no records (unless skipped), or nothing is usable.
    """
    broken = contents.broken
    if broken and on_fault == "raise":
        raise DataError(
            f"Every line of {contents.path} must be a record; line {broken[0].line} is "
            f"{broken[0].reason}{_others(len(broken) - 1)}. Mend or remove it."
        )
    found: list[tuple[int, Item]] = []
    faults = list(broken)
    for line, record in contents.records:
        lowered = {str(key).strip().lower(): value for key, value in record.items()}
        try:
            found.append((line, _item(lowered, kind, columns or {})))
        except Unusable as reason:
            faults.append(Fault(line, str(reason), beginning(_told(record))))
    if not found:
        raise DataError(_nothing_usable(contents, faults))
    return found, sorted(faults, key=lambda fault: fault.line)


def _told(record: Record) -> str:
    return json.dumps(record, ensure_ascii=False, default=str)


def _others(count: int) -> str:
    return f" (and {count} more lines)" if count else ""


def _nothing_usable(contents: Contents, faults: list[Fault]) -> str:
    columns = sorted({str(key) for _, record in contents.records for key in record})[:12]
    told = "no records"
    if faults:  # the reason of most lines is that of the file
        (reason, _), *_ = Counter(fault.reason for fault in faults).most_common(1)
        line = next(fault.line for fault in faults if fault.reason == reason)
        told = f"line {line}: {reason}"
    return (
        f"{contents.path} must hold usable records; got none of {len(contents.records)} ({told}; "
        f"columns: {', '.join(columns) or 'none'}). Accepted columns: prompt/response, messages, "
        "instruction/output, question/answer, or prompt/chosen/rejected; others are named with "
        "data.columns."
    )


def _item(record: Record, kind: Kind, named: Named) -> Item:
    """What the record holds, by its columns in lower case."""
    parts = recognize(record.keys(), kind, named)
    for part, column in named.items():
        if part not in parts and part not in ("id", "kind"):
            raise Unusable(f"has no column {column}, which is named for the {part}")
    if kind == "pairs":
        return _pair(record, parts)
    if kind == "prompts":
        return _prompt_only(record, parts)
    return _sample(record, parts)


def _sample(record: Record, parts: Named) -> Sample:
    prompt, response = _prompt_and_response(record, parts)
    given = record.get(parts.get("id", ""))
    content = f"{prompt_text(prompt)}\x1f{response}".encode()
    key = str(given) if given not in (None, "") else hashlib.sha256(content).hexdigest()[:12]
    kind = record.get(parts.get("kind", ""))
    return Sample(text(key, "id"), prompt, response, text(str(kind), "kind") if kind else "")


def _prompt_and_response(record: Record, parts: Named) -> tuple[Prompt, str]:
    if "messages" in parts:
        return split(record[parts["messages"]])
    if "response" not in parts:
        raise Unusable("has no columns of an accepted schema")
    reply = last_reply(record[parts["response"]], parts["response"])
    return _asked(record, parts, record[parts["response"]]), reply


def _pair(record: Record, parts: Named) -> PreferencePair:
    if "chosen" not in parts or "rejected" not in parts:
        raise Unusable("has no columns chosen and rejected")
    chosen, rejected = (last_reply(record[parts[s]], parts[s]) for s in ("chosen", "rejected"))
    if chosen == rejected:
        raise Unusable("chosen and rejected are identical")
    return PreferencePair(_asked(record, parts, record[parts["chosen"]]), chosen, rejected)


def _asked(record: Record, parts: Named, reply: Any) -> Prompt:
    """The prompt's column; without one, of a conversation the turns before the reply."""
    column = parts.get("prompt")
    if column and (record[column] or not isinstance(reply, list)):
        return _prompt(record, column)
    if isinstance(reply, list):
        return split(reply)[0]
    raise Unusable("has no prompt")


def _prompt_only(record: Record, parts: Named) -> Prompt:
    if "prompt" in parts:
        return _prompt(record, parts["prompt"])
    if "messages" in parts:
        turns = conversation(record[parts["messages"]])
        if turns[-1].role == "user":
            return turns
        if len(turns) > 1:
            return turns[:-1]
        raise Unusable("messages must hold a user's turn")
    raise Unusable("has no column prompt, instruction, question or messages")


def _prompt(record: Record, column: str) -> Prompt:
    value = record[column]
    if isinstance(value, list):
        return conversation(value)
    asked = text(value, column)
    extra = record.get("input") if column == "instruction" else None
    return user_prompt(f"{asked}\n{extra}" if isinstance(extra, str) and extra.strip() else asked)


def _check_ids(found: list[tuple[int, Sample]], path: str | Path) -> None:
    seen: set[str] = set()
    repeated = [(line, s.id) for line, s in found if s.id in seen or seen.add(s.id)]  # type: ignore[func-returns-value]
    if repeated:
        line, first = repeated[0]
        raise DataError(
            f"Sample ids must be unique; got {len(repeated)} repeated of {len(found)} in {path} "
            f"(first: {first!r}, line {line}). Rename or drop them."
        )


def _sha256(samples: Sequence[Sample]) -> str:
    digest = hashlib.sha256()
    for sample in samples:
        parts = (sample.id, prompt_text(sample.prompt), sample.response)
        digest.update("\x1f".join(parts).encode("utf-8", "surrogatepass") + b"\x1e")
    return digest.hexdigest()
