"""Samples as the model reads them: rendered by its chat template, in tokens, the reply marked.

Only the tokenizer and the configuration are loaded, no weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal, TypeAlias

from u2a_core.config import DataSettings, SetName, Settings
from u2a_core.data import load_negatives, load_preferences, load_prompts, load_retain
from u2a_core.data.encode import encode, prompt_ids
from u2a_core.errors import DataError
from u2a_core.models.loading import load_config
from u2a_core.models.policy import context_of, length_limit
from u2a_core.models.templates import chat_tokenizer
from u2a_core.types import Prompt, Sample

Kind: TypeAlias = Literal["prompt", "response", "cut"]

_WHOLE = 2**31
_SHOWN_TOKENS = 2_000
_LONGEST_CHARACTER = 8
"""Tokens that one character may take; what is still broken after so many is shown broken."""


@dataclass(frozen=True)
class Piece:
    """The text of a token, or of the few that make one character together."""

    text: str
    kind: Kind
    tokens: int


@dataclass(frozen=True)
class Rendered:
    """A sample as the model reads it.

    Attributes:
        set, number: of which set it is the how manieth usable, from 1.
        reply: which reply follows the prompt: response, chosen, rejected; empty: none.
        pieces: the text in order; of very long ones the beginning.
        tokens, response, cut: how many in all, in the reply, and beyond model.max_length.
    """

    set: SetName
    number: int
    reply: str
    pieces: tuple[Piece, ...]
    tokens: int
    response: int
    cut: int
    problem: str = ""


def render(settings: Settings, count: int) -> list[Rendered]:
    """The first `count` usable samples of every set of the data.

    Raises:
        ConfigError, ModelError: if there is no model, tokenizer or chat template.
    """
    tokenizer, _ = chat_tokenizer(settings.model)
    config = load_config(settings.model.path, trust=settings.model.trust_remote_code)
    limit = length_limit(settings.model, context_of(config))
    shown = []
    for name, number, reply, sample in _samples(settings.data, count):
        ids, start = _ids(sample, reply, tokenizer)
        shown.append(_rendered((name, number, reply), ids, start, limit, tokenizer))
    return shown


def _samples(data: DataSettings, count: int) -> Iterator[tuple[SetName, int, str, Sample]]:
    """Set, number, which reply, and the sample; a file that cannot be read is told elsewhere."""
    for name in ("negatives", "preferences", "retain", "objective_prompts", "prompts"):
        path = getattr(data, name)
        if not path:
            continue
        try:
            found = list(islice(_of_set(data, name, path), count))
        except DataError:
            continue
        for number, replies in enumerate(found, start=1):
            for reply, sample in replies:
                yield name, number, reply, sample


def _of_set(data: DataSettings, name: SetName, path: str) -> Iterator[list[tuple[str, Sample]]]:
    columns = data.columns_of(name)
    if name == "negatives":
        for sample in load_negatives(path, on_fault="skip", columns=columns).samples:
            yield [("response", sample)]
    elif name == "retain":
        for sample in load_retain(path, on_fault="skip", columns=columns)[0]:
            yield [("response", sample)]
    elif name == "preferences":
        for pair in load_preferences(path, on_fault="skip", columns=columns)[0]:
            yield [("chosen", _sample(pair.prompt, pair.chosen)),
                   ("rejected", _sample(pair.prompt, pair.rejected))]  # fmt: skip
    else:
        for prompt in load_prompts(path, on_fault="skip", columns=columns)[0]:
            yield [("", _sample(prompt, ""))]


def _sample(prompt: Prompt, reply: str) -> Sample:
    return Sample("", prompt, reply)


def _ids(sample: Sample, reply: str, tokenizer: Any) -> tuple[Sequence[int], int]:
    """Tokens of the whole, and where the reply begins."""
    if not reply:
        (ids,) = prompt_ids([sample.prompt], tokenizer)
        return ids, len(ids)
    rows, _ = encode([sample], tokenizer, max_length=_WHOLE)
    return rows[0].input_ids, rows[0].response_start


def _rendered(
    which: tuple[SetName, int, str], ids: Sequence[int], start: int, limit: int, tokenizer: Any
) -> Rendered:
    end = max(start, min(limit, len(ids)))
    parts: tuple[tuple[Kind, int, int], ...] = (
        ("prompt", 0, start), ("response", start, end), ("cut", end, len(ids))
    )  # fmt: skip
    pieces = [
        Piece(text, kind, tokens)
        for kind, first, last in parts
        for text, tokens in _texts(ids[:_SHOWN_TOKENS], first, min(last, _SHOWN_TOKENS), tokenizer)
    ]
    problem = ""
    if start >= limit:
        problem = (
            f"The prompt has {start} tokens and leaves no room for a reply in {limit}: jobs "
            "leave it out. Raise model.max_length to keep it."
        )
    return Rendered(*which, tuple(pieces), len(ids), end - start, len(ids) - end, problem)


def _texts(ids: Sequence[int], first: int, last: int, tokenizer: Any) -> Iterator[tuple[str, int]]:
    """The text that each token adds, and how many tokens a character took.

    A token is decoded behind the one before it, since some tokenizers drop a leading space.
    """
    begun = first
    for place in range(first, last):
        before = max(begun - 1, 0)
        known = tokenizer.decode(ids[before:begun])
        text = tokenizer.decode(ids[before : place + 1])[len(known) :]
        whole = not text.endswith("\ufffd") or place + 1 - begun >= _LONGEST_CHARACTER
        if whole or place + 1 == last:
            yield text, place + 1 - begun
            begun = place + 1
