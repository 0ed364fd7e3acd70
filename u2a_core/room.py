"""Which prompts can be used: the chat template takes them, and they leave room for a reply.

Real sets hold dialogues that begin with the model's turn, which many templates refuse, and prompts
of any length. What cannot be used is left out and told.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from u2a_core.data.encode import prompt_ids, refusal
from u2a_core.errors import DataError
from u2a_core.types import PreferencePair, Prompt, Sample

_Asked = TypeVar("_Asked", Sample, PreferencePair)


def with_room(
    items: Sequence[_Asked], tokenizer: Any, limit: int, what: str
) -> tuple[list[_Asked], str]:
    """The items that the chat template takes and that leave room for a reply, and on the others.

    Args:
        items: samples or pairs.
        tokenizer: of the model that is trained on them.
        limit: tokens of a prompt and its reply at most (model.max_length).
        what: the items are, in the plural.

    Returns:
        The items in their order; and what to tell of the others, empty where there are none.

    Raises:
        DataError: if none is left.
    """
    prompts = [item.prompt for item in items]
    taken, refused = _accepted(prompts, tokenizer, what)
    lengths = _lengths(prompts, taken, tokenizer)
    kept = [i for i, length in lengths.items() if length < limit]
    if taken and not kept:
        raise DataError(
            f"The prompts of the {what} must leave room for a reply in {limit:,} tokens; got "
            f"{len(taken):,}, none of which does. Raise model.max_length."
        )
    told = (
        f"{len(taken) - len(kept):,} of {len(items):,} {what} are left out: their prompts leave no "
        f"room for a reply in {limit:,} tokens (model.max_length)."
    )
    return [items[i] for i in kept], _both(refused, told if len(kept) < len(taken) else "")


def answerable(
    prompts: Sequence[Prompt], tokenizer: Any, context: int | None, longest: int, what: str
) -> tuple[list[int], str]:
    """Which prompts the chat template takes and leave room for the longest reply.

    Args:
        prompts: to be answered.
        tokenizer: of the model that answers.
        context: the most tokens that its positions allow; None: any number.
        longest: tokens of the longest reply (objective.max_new_tokens).
        what: the prompts are, in the plural.

    Returns:
        Positions among the prompts, ascending; and what to tell of the others, empty where there
        are none.

    Raises:
        DataError: if none is left.
    """
    taken, refused = _accepted(prompts, tokenizer, what)
    if context is None:
        return taken, refused
    lengths = _lengths(prompts, taken, tokenizer)
    kept = [i for i, length in lengths.items() if length + longest <= context]
    if taken and not kept:
        raise DataError(
            f"The {what} must leave room for a reply of {longest:,} tokens "
            f"(objective.max_new_tokens) in the model's context of {context:,}; got {len(taken):,} "
            f"of at least {min(lengths.values()):,} tokens. Lower objective.max_new_tokens."
        )
    told = (
        f"{len(taken) - len(kept):,} of {len(prompts):,} {what} are left out: they leave no room "
        f"for a reply of {longest:,} tokens (objective.max_new_tokens) in the model's context of "
        f"{context:,}."
    )
    return kept, _both(refused, told if len(kept) < len(taken) else "")


def _accepted(prompts: Sequence[Prompt], tokenizer: Any, what: str) -> tuple[list[int], str]:
    """Positions of the prompts that the chat template takes, and a sentence on the others.

    Raises:
        DataError: if it takes none.
    """
    why = [refusal(prompt, tokenizer) for prompt in prompts]
    taken = [i for i, reason in enumerate(why) if not reason]
    lost, first = len(why) - len(taken), next(filter(None, why), "")
    if lost and not taken:
        raise DataError(
            f"The model's chat template must accept the {what}; got {lost:,} and refused each "
            f"(the first: {first}). Set model.chat_template plain, or change their turns."
        )
    told = (
        f"{lost:,} of {len(why):,} {what} are left out: the model's chat template refuses their "
        f"turns (the first: {first}). model.chat_template plain takes all."
    )
    return taken, told if lost else ""


def _lengths(prompts: Sequence[Prompt], rows: Sequence[int], tokenizer: Any) -> dict[int, int]:
    """Position → tokens, of some of the prompts."""
    ids = prompt_ids([prompts[i] for i in rows], tokenizer)
    return {i: len(own) for i, own in zip(rows, ids, strict=True)}


def _both(*told: str) -> str:
    return " ".join(filter(None, told))
