"""Which column of a file holds what, where its name does not tell: `data.columns`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

SetName: TypeAlias = Literal[
    "negatives", "preferences", "objective_prompts", "retain", "prompts",
    "harmful", "benign", "reference", "questions", "outsiders", "mixture",
]  # fmt: skip
"""A set of samples, by the name of its setting."""

Part: TypeAlias = Literal["prompt", "response", "messages", "chosen", "rejected", "id", "kind"]
"""What a column may hold. messages: a whole conversation, the reply its last turn."""

Columns: TypeAlias = dict[SetName, dict[Part, str]]

_SAMPLES: tuple[Part, ...] = ("prompt", "response", "messages", "id", "kind")
_PAIRS: tuple[Part, ...] = ("prompt", "chosen", "rejected")
_PROMPTS: tuple[Part, ...] = ("prompt", "messages")

PARTS: Mapping[str, tuple[Part, ...]] = {
    **dict.fromkeys(("negatives", "retain", "reference", "outsiders", "mixture"), _SAMPLES),
    **dict.fromkeys(("preferences", "questions"), _PAIRS),
    **dict.fromkeys(("objective_prompts", "prompts", "harmful", "benign"), _PROMPTS),
}
"""Set → what its columns may hold."""


def checked(columns: Columns) -> Columns:
    """The columns, without empty names.

    Raises:
        ValueError: if a set has no such part, or a conversation is named beside its parts.
    """
    for name, parts in columns.items():
        if wrong := sorted(set(parts) - set(PARTS[name])):
            raise ValueError(
                f"{name} must name columns for some of {', '.join(PARTS[name])}; got {wrong[0]}"
            )
        if parts.get("messages") and (parts.get("prompt") or parts.get("response")):
            raise ValueError(
                f"{name} must name a column of messages, or of prompt and response; got both. "
                "A conversation holds its prompt and its reply"
            )
    named = {
        name: {p: c.strip() for p, c in parts.items() if c.strip()}
        for name, parts in columns.items()
    }
    return {name: parts for name, parts in named.items() if parts}
