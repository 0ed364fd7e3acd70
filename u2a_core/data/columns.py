"""Which column holds what: as the settings say, else recognized by its name, whatever its case.

Read with `u2a_core.config.columns`, which says what the columns of each set may hold.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Literal, TypeAlias

from u2a_core.config import Part, SetName

Kind: TypeAlias = Literal["rejected", "chosen", "pairs", "prompts"]
"""What is made of a record: a sample (of a pair its rejected or chosen reply), a pair, a prompt."""

KINDS: Mapping[SetName, Kind] = {
    "negatives": "rejected",
    "outsiders": "rejected",
    "retain": "chosen",
    "reference": "chosen",
    "mixture": "chosen",
    "preferences": "pairs",
    "questions": "pairs",
    "objective_prompts": "prompts",
    "prompts": "prompts",
    "harmful": "prompts",
    "benign": "prompts",
}

_ASKED_AND_ANSWERED = (
    ("prompt", "response"),
    ("prompt", "completion"),
    ("instruction", "output"),
    ("question", "answer"),
)
_ASKED = ("prompt", "instruction", "question")
_ANSWERED = ("response", "completion", "output", "answer")
CONVERSATIONS = ("messages", "conversations")


def recognize(
    columns: Collection[str], kind: Kind, named: Mapping[Part, str] | None = None
) -> dict[Part, str]:
    """Part → column, of the parts that are found; the columns in lower case.

    Args:
        columns: of a record, in lower case.
        kind: what is made of the record.
        named: what the settings say, which comes before any column's own name; a column that the
            record lacks is left out.
    """
    given = {part: column.strip().lower() for part, column in (named or {}).items()}
    found = given if "messages" in given else _by_name(columns, kind, given) | given
    if kind in ("rejected", "chosen"):
        found |= {part: part for part in ("id", "kind") if part not in given}
    return {part: column for part, column in found.items() if column in columns}


def _by_name(columns: Collection[str], kind: Kind, given: Mapping[Part, str]) -> dict[Part, str]:
    """What the columns' own names say of the parts that the settings leave open."""
    asked = {} if "prompt" in given else _first("prompt", _ASKED, columns)
    if kind == "pairs":
        return {**asked, "chosen": "chosen", "rejected": "rejected"}
    if kind == "prompts":
        return asked or ({} if "prompt" in given else _first("messages", CONVERSATIONS, columns))
    if "response" in given:
        return asked
    if "chosen" in columns and "rejected" in columns:
        return {**asked, "response": kind}
    if "prompt" in given:
        return _first("response", _ANSWERED, [c for c in columns if c != given["prompt"]])
    return _conversation_or_pair(columns)


def _conversation_or_pair(columns: Collection[str]) -> dict[Part, str]:
    """Of a set of samples of which the settings name no column."""
    for asked, answered in _ASKED_AND_ANSWERED:
        if asked in columns and answered in columns and not set(CONVERSATIONS) & set(columns):
            return {"prompt": asked, "response": answered}
    return _first("messages", CONVERSATIONS, columns)


def _first(part: Part, names: Collection[str], columns: Collection[str]) -> dict[Part, str]:
    """The part with the first of the names that is a column, if one is."""
    return next(({part: name} for name in names if name in columns), {})
