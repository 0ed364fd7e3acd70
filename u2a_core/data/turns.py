"""Cells of a record → texts and turns of a conversation; what cannot be used says why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from u2a_core.types import Message, Prompt

_ROLES = {"human": "user", "gpt": "assistant", "bot": "assistant"}


class Unusable(Exception):  # noqa: N818 - caught while loading, never seen outside
    """A record that cannot be used; the message is the fault's reason."""


def last_reply(value: Any, column: str) -> str:
    """A reply given as text, or as a conversation whose last turn it is."""
    if isinstance(value, list):
        return split(value)[1] if len(value) > 1 else conversation(value)[-1].content
    return text(value, column)


def split(value: Any) -> tuple[Prompt, str]:
    """A conversation as its prompt and its last turn, the reply."""
    turns = conversation(value)
    if turns[-1].role != "assistant" or len(turns) < 2:
        raise Unusable("messages must end with an assistant turn that follows a user turn")
    return turns[:-1], turns[-1].content


def conversation(value: Any) -> tuple[Message, ...]:
    """The turns of a conversation."""
    if not isinstance(value, list) or not value:
        raise Unusable("messages must be a list of turns")
    return tuple(_message(turn) for turn in value)


def _message(turn: Any) -> Message:
    if not isinstance(turn, Mapping):
        raise Unusable("a turn must have role and content")
    role = str(turn.get("role", turn.get("from", ""))).lower()
    role = _ROLES.get(role, role)
    content = text(turn.get("content", turn.get("value")), "content")
    if role == "user":
        return Message("user", content)
    if role == "assistant":
        return Message("assistant", content)
    if role == "system":
        return Message("system", content)
    raise Unusable(f"a turn's role must be system, user or assistant, got {role!r}")


def text(value: Any, column: str) -> str:
    """A cell that must hold text."""
    if not isinstance(value, str):
        raise Unusable(f"{column} must be text, got {type(value).__name__}")
    if not value.strip():
        raise Unusable(f"{column} is empty")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Unusable(f"{column} holds half a character (an unpaired surrogate)") from None
    return value
