"""Which prompts leave room for a reply: in model.max_length, or in the context of the model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from u2a_core.data.encode import prompt_ids
from u2a_core.errors import DataError
from u2a_core.types import PreferencePair, Prompt, Sample

_Asked = TypeVar("_Asked", Sample, PreferencePair)


def with_room(
    items: Sequence[_Asked], tokenizer: Any, limit: int, what: str
) -> tuple[list[_Asked], str]:
    """The items whose prompts leave room for a reply, and a sentence on the others.

    Args:
        items: samples or pairs.
        tokenizer: of the model that is trained on them.
        limit: tokens of a prompt and its reply at most (model.max_length).
        what: the items are, in the plural.

    Raises:
        DataError: if none does.
    """
    lengths = [len(ids) for ids in prompt_ids([item.prompt for item in items], tokenizer)]
    kept = [item for item, length in zip(items, lengths, strict=True) if length < limit]
    lost = len(items) - len(kept)
    if lost and not kept:
        raise DataError(
            f"The prompts of the {what} must leave room for a reply in {limit:,} tokens; got "
            f"{lost:,}, none of which does. Raise model.max_length."
        )
    told = (
        f"{lost:,} of {len(items):,} {what} are left out: their prompts leave no room for a reply "
        f"in {limit:,} tokens (model.max_length)."
    )
    return kept, told if lost else ""


def answerable(
    prompts: Sequence[Prompt], tokenizer: Any, context: int | None, longest: int, what: str
) -> tuple[list[int], str]:
    """Which prompts the longest reply can be sampled to, and a sentence on the others.

    Args:
        prompts: to be answered.
        tokenizer: of the model that answers.
        context: the most tokens that its positions allow; None: any number.
        longest: tokens of the longest reply (objective.max_new_tokens).
        what: the prompts are, in the plural.

    Returns:
        Positions among the prompts, ascending; and the sentence, empty where all are answerable.

    Raises:
        DataError: if none is.
    """
    if context is None:
        return list(range(len(prompts))), ""
    lengths = [len(ids) for ids in prompt_ids(prompts, tokenizer)]
    kept = [i for i, length in enumerate(lengths) if length + longest <= context]
    lost = len(prompts) - len(kept)
    if lost and not kept:
        raise DataError(
            f"The {what} must leave room for a reply of {longest:,} tokens "
            f"(objective.max_new_tokens) in the model's context of {context:,}; got {lost:,} of "
            f"at least {min(lengths):,} tokens. Lower objective.max_new_tokens."
        )
    told = (
        f"{lost:,} of {len(prompts):,} {what} are left out: they leave no room for a reply of "
        f"{longest:,} tokens (objective.max_new_tokens) in the model's context of {context:,}."
    )
    return kept, told if lost else ""
