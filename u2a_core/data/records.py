"""Records of any accepted schema → samples, preference pairs, prompts and flags.

Columns are matched without regard to case. What is dropped is counted with its line and reason.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar

from u2a_core.data.files import Numbered, Record, read_records
from u2a_core.errors import DataError
from u2a_core.types import (
    Fault,
    Message,
    NegativeSet,
    PreferencePair,
    Prompt,
    Sample,
    prompt_text,
    user_prompt,
)

OnFault: TypeAlias = Literal["raise", "skip"]
_T = TypeVar("_T")
_PAIRS = (
    ("prompt", "response"),
    ("prompt", "completion"),
    ("instruction", "output"),
    ("question", "answer"),
)
_ROLES = {"human": "user", "gpt": "assistant", "bot": "assistant"}


class _Unusable(Exception):  # noqa: N818 - caught here, never seen outside
    """A record that cannot be used; the message is the fault's reason."""


def load_negatives(path: str | Path, *, on_fault: OnFault = "raise") -> NegativeSet:
    """A negative set; of preference files the rejected replies.

    Args:
        path: a file, or a hub id.
        on_fault: whether a line that cannot be parsed is an error or only counted. Records with
            an empty prompt or response, and exact duplicates, are always dropped and counted.

    Raises:
        DataError: if lines are broken (unless skipped), ids repeat, or nothing is usable.
    """
    found, faults = _converted(path, lambda record: _sample(record, side="rejected"), on_fault)
    unique: dict[tuple[str, str], tuple[int, Sample]] = {}
    for line, sample in found:
        unique.setdefault((prompt_text(sample.prompt), sample.response), (line, sample))
    _check_ids(list(unique.values()), path)
    samples = tuple(sample for _, sample in unique.values())
    return NegativeSet(samples, tuple(faults), len(found) - len(samples), _sha256(samples))


def load_preferences(
    path: str | Path, *, on_fault: OnFault = "raise"
) -> tuple[list[PreferencePair], list[Fault]]:
    """Preference pairs; identical or empty replies are faults."""
    found, faults = _converted(path, _pair, on_fault)
    return [pair for _, pair in found], faults


def load_retain(
    path: str | Path, *, on_fault: OnFault = "raise"
) -> tuple[list[Sample], list[Fault]]:
    """A retain set; of preference files the chosen replies."""
    found, faults = _converted(path, lambda record: _sample(record, side="chosen"), on_fault)
    return [sample for _, sample in found], faults


def load_prompts(
    path: str | Path, *, on_fault: OnFault = "raise"
) -> tuple[list[Prompt], list[Fault]]:
    """Prompts alone: a prompt, instruction, question or messages column, or lines of a .txt."""
    found, faults = _converted(path, _prompt_only, on_fault)
    return [prompt for _, prompt in found], faults


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


def _converted(
    path: str | Path, convert: Callable[[Record], _T], on_fault: OnFault
) -> tuple[list[tuple[int, _T]], list[Fault]]:
    """Every usable record with its line, and the faults of the others."""
    records, broken = read_records(path)
    if broken and on_fault == "raise":
        raise DataError(
            f"Every line of {path} must be a record; line {broken[0].line} is "
            f"{broken[0].reason}{_others(len(broken) - 1)}. Mend or remove it."
        )
    found: list[tuple[int, _T]] = []
    faults = list(broken)
    for line, record in records:
        lowered = {str(key).strip().lower(): value for key, value in record.items()}
        try:
            found.append((line, convert(lowered)))
        except _Unusable as reason:
            faults.append(Fault(line, str(reason)))
    if not found:
        raise DataError(_nothing_usable(path, records, faults))
    return found, faults


def _others(count: int) -> str:
    return f" (and {count} more lines)" if count else ""


def _nothing_usable(path: str | Path, records: list[Numbered], faults: list[Fault]) -> str:
    columns = sorted({str(key) for _, record in records for key in record})[:12]
    first = f"line {faults[0].line}: {faults[0].reason}" if faults else "no records"
    return (
        f"{path} must hold usable records; got none of {len(records)} ({first}; columns: "
        f"{', '.join(columns) or 'none'}). Accepted columns: prompt/response, messages, "
        "instruction/output, question/answer, or prompt/chosen/rejected."
    )


def _sample(record: Record, *, side: Literal["chosen", "rejected"]) -> Sample:
    prompt, response = _prompt_and_response(record, side)
    given = record.get("id")
    content = f"{prompt_text(prompt)}\x1f{response}".encode()
    key = str(given) if given not in (None, "") else hashlib.sha256(content).hexdigest()[:12]
    kind = record.get("kind")
    return Sample(_string(key, "id"), prompt, response, _string(str(kind), "kind") if kind else "")


def _prompt_and_response(record: Record, side: str) -> tuple[Prompt, str]:
    if "chosen" in record and "rejected" in record:
        return _prompt_of_pair(record), _last_reply(record[side], side)
    if "messages" in record:
        return _split_messages(record["messages"])
    for asked, answered in _PAIRS:
        if asked in record and answered in record:
            return _prompt(record, asked), _last_reply(record[answered], answered)
    raise _Unusable("has no columns of an accepted schema")


def _pair(record: Record) -> PreferencePair:
    if "chosen" not in record or "rejected" not in record:
        raise _Unusable("has no columns chosen and rejected")
    chosen, rejected = (_last_reply(record[side], side) for side in ("chosen", "rejected"))
    if chosen == rejected:
        raise _Unusable("chosen and rejected are identical")
    return PreferencePair(_prompt_of_pair(record), chosen, rejected)


def _prompt_of_pair(record: Record) -> Prompt:
    if record.get("prompt"):
        return _prompt(record, "prompt")
    if isinstance(record["chosen"], list):  # the turns before the last are the prompt
        return _split_messages(record["chosen"])[0]
    raise _Unusable("has no prompt")


def _prompt_only(record: Record) -> Prompt:
    for column in ("prompt", "instruction", "question"):
        if column in record:
            return _prompt(record, column)
    if "messages" in record:
        turns = _messages(record["messages"])
        return turns if turns[-1].role == "user" else turns[:-1]
    raise _Unusable("has no column prompt, instruction, question or messages")


def _prompt(record: Record, column: str) -> Prompt:
    value = record[column]
    if isinstance(value, list):
        return _messages(value)
    text = _string(value, column)
    extra = record.get("input") if column == "instruction" else None
    return user_prompt(f"{text}\n{extra}" if isinstance(extra, str) and extra.strip() else text)


def _last_reply(value: Any, column: str) -> str:
    """A reply given as text, or as a conversation whose last turn it is."""
    if isinstance(value, list):
        return _split_messages(value)[1] if len(value) > 1 else _messages(value)[-1].content
    return _string(value, column)


def _split_messages(value: Any) -> tuple[Prompt, str]:
    turns = _messages(value)
    if turns[-1].role != "assistant" or len(turns) < 2:
        raise _Unusable("messages must end with an assistant turn that follows a user turn")
    return turns[:-1], turns[-1].content


def _messages(value: Any) -> tuple[Message, ...]:
    if not isinstance(value, list) or not value:
        raise _Unusable("messages must be a list of turns")
    return tuple(_message(turn) for turn in value)


def _message(turn: Any) -> Message:
    if not isinstance(turn, Mapping):
        raise _Unusable("a turn must have role and content")
    role = str(turn.get("role", turn.get("from", ""))).lower()
    role = _ROLES.get(role, role)
    content = _string(turn.get("content", turn.get("value")), "content")
    if role == "user":
        return Message("user", content)
    if role == "assistant":
        return Message("assistant", content)
    if role == "system":
        return Message("system", content)
    raise _Unusable(f"a turn's role must be system, user or assistant, got {role!r}")


def _string(value: Any, column: str) -> str:
    if not isinstance(value, str):
        raise _Unusable(f"{column} must be text, got {type(value).__name__}")
    if not value.strip():
        raise _Unusable(f"{column} is empty")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _Unusable(f"{column} holds half a character (an unpaired surrogate)") from None
    return value


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
