"""How a set's file is read, where it does not tell itself: `data.formats` and `data.columns`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

SetName: TypeAlias = Literal[
    "negatives", "preferences", "objective_prompts", "retain", "prompts",
    "harmful", "benign", "reference", "questions", "outsiders", "mixture",
]  # fmt: skip
"""A set of samples, by the name of its setting."""

Part: TypeAlias = Literal[
    "prompt", "response", "messages", "chosen", "rejected", "id", "kind", "format"
]
"""What a column may hold. messages: a whole conversation, the reply its last turn. format is no
column, but the name of the format of the whole file."""

FormatName: TypeAlias = Literal[
    "pku-saferlhf", "pku-saferlhf-helpful", "beavertails",
    "halueval-qa", "halueval-dialogue", "halueval-summarization", "halueval-general",
    "halueval-qa-samples", "halueval-dialogue-samples", "halueval-summarization-samples",
    "truthfulqa", "advbench", "advbench-swapped", "hh-rlhf", "hh-rlhf-prompt",
    "ultrafeedback", "ultrafeedback-binarized", "ultrafeedback-flat",
    "sharegpt-dpo", "sharegpt-kto", "alpaca-dpo", "alpaca-kto", "trl-unpaired",
    "alpaca-eval", "alpaca", "sharegpt", "messages", "trl-preference-chat",
    "trl-preference-implicit", "trl-preference",
    "tofu", "muse-verbmem", "question-answer", "prompt-completion", "prompt-response", "prompts",
]  # fmt: skip
"""A format of files of samples; `u2a_core.data.formats` says what each holds."""

Columns: TypeAlias = dict[SetName, dict[Part, str]]
Formats: TypeAlias = dict[SetName, FormatName]

_SAMPLES: tuple[Part, ...] = ("prompt", "response", "messages", "id", "kind")
_PAIRS: tuple[Part, ...] = ("prompt", "chosen", "rejected")
_PROMPTS: tuple[Part, ...] = ("prompt", "messages")
BESIDE: tuple[Part, ...] = ("id", "kind")
"""What may be named beside a format."""

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


def agreeing(columns: Columns, formats: Formats) -> None:
    """Whether no set has both a format and columns of its own.

    Raises:
        ValueError: if one has.
    """
    for name in formats:
        if named := sorted(set(columns.get(name, {})) - set(BESIDE)):
            raise ValueError(
                f"{name} must have a format or columns of its own; got both, "
                f"{formats[name]} and a column for the {named[0]}. Leave one of them out"
            )
