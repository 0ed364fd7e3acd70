"""Cells of a record → texts and turns of a conversation; what cannot be used says why."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from u2a_core.types import Message, Prompt

_ROLES = {"human": "user", "gpt": "assistant", "bot": "assistant", "chatgpt": "assistant"}
_SPEAKERS = re.compile(
    r"(?:^|\n\n)(Human|Assistant):[ \t]?|(?:^|(?<=\s))\[(Human|Assistant)\]:[ \t]?"
)
"""Who speaks in a dialogue that is one text: as in HH-RLHF, and as in HaluEval."""
_UNANSWERED = re.compile(r"Human:.*\n\nAssistant:", re.DOTALL)


class Unusable(Exception):  # noqa: N818 - caught while loading, never seen outside
    """A record that cannot be used; the message is the fault's reason."""


class LeftOut(Unusable):
    """A record that is whole, and by a rule of its format gives nothing to the set."""


def last_reply(value: Any, column: str) -> str:
    """A reply given as text, or as a conversation whose last turn it is."""
    if isinstance(value, Mapping):
        value = [value]
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
    turns = tuple(_message(turn) for turn in value if not _says_nothing(turn))
    if not turns:
        raise Unusable("messages must be a list of turns")
    return turns


def is_unanswered(value: Any) -> bool:
    """Whether a text is a dialogue as in HH-RLHF up to the Assistant's turn."""
    return isinstance(value, str) and bool(_UNANSWERED.fullmatch(value.strip()))


def unanswered(value: Any) -> list[dict[str, str]]:
    """The turns of such a dialogue up to the Human's last one."""
    turns = dialogue(value.strip() if isinstance(value, str) else value)
    if not turns[-1]["content"]:
        del turns[-1]
    return turns


def dialogue(value: Any) -> list[dict[str, str]]:
    """The turns of a dialogue that is one text; turns of one speaker in a row are one turn."""
    found = text(value, "a dialogue")
    pieces = _SPEAKERS.split(found)
    if pieces[0].strip() or len(pieces) == 1:
        raise Unusable("a dialogue must begin with Human: or Assistant:")
    turns: list[dict[str, str]] = []
    for one, other, said in zip(pieces[1::3], pieces[2::3], pieces[3::3], strict=True):
        role = "user" if (one or other) == "Human" else "assistant"
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += f"\n\n{said.strip()}"
        else:
            turns.append({"role": role, "content": said.strip()})
    return turns


def _says_nothing(turn: Any) -> bool:
    """Whether it is an empty system message, which tools write where there is none."""
    if not isinstance(turn, Mapping) or turn.get("role", turn.get("from")) != "system":
        return False
    return blank(turn.get("content", turn.get("value")))


def parted(chosen: Any, rejected: Any) -> tuple[str, str, str]:
    """Two texts as the prompt that both begin with, and the rest of each.

    What both begin with ends before the last white space in it, so that no word is cut in two.
    """
    better, worse = text(chosen, "chosen"), text(rejected, "rejected")
    if better.strip() == worse.strip():
        raise Unusable("chosen and rejected are identical")
    pairs = enumerate(zip(better, worse, strict=False))
    apart = next((i for i, (one, other) in pairs if one != other), min(len(better), len(worse)))
    shared = better[:apart]
    prompt = shared[: len(shared) - len(re.split(r"\s", shared)[-1])].strip()
    if not prompt:
        raise Unusable("has no prompt, and chosen and rejected share no beginning that could be it")
    start = better.index(prompt) + len(prompt)
    return prompt, better[start:].strip(), worse[start:].strip()


def _message(turn: Any) -> Message:
    if not isinstance(turn, Mapping):
        raise Unusable("a turn must have role and content")
    role = turn.get("role", turn.get("from", ""))
    role = _ROLES.get(role.lower(), role.lower()) if isinstance(role, str) else type(role).__name__
    content = text(turn.get("content", turn.get("value")), "content")
    if role == "user":
        return Message("user", content)
    if role == "assistant":
        return Message("assistant", content)
    if role == "system":
        return Message("system", content)
    raise Unusable(f"a turn's role must be system, user or assistant, got {role!r}")


def blank(value: Any) -> bool:
    """Whether a cell holds nothing, as a table without a value there gives it."""
    if isinstance(value, str):
        return not value.strip()
    return value is None or (isinstance(value, float) and math.isnan(value))


def text(value: Any, column: str) -> str:
    """A cell that must hold text."""
    if blank(value):
        raise Unusable(f"{column} is empty")
    if not isinstance(value, str):
        raise Unusable(f"{column} must be text, got {type(value).__name__}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Unusable(f"{column} holds half a character (an unpaired surrogate)") from None
    return value
