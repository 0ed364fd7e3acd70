"""Samples → token rows with response-only labels, through the model's own chat template."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jinja2 import TemplateError, TemplateSyntaxError

from u2a_core.errors import DataError, ModelError
from u2a_core.types import Batch, Prompt, Sample, user_prompt

_THOUGHTS = "<think>", "</think>"
"""What thinking models write their thoughts between; ours reply without any."""
_MARK = "reply"
"""Stands where a reply stands, while the chat template tells what comes after it."""


@dataclass(frozen=True)
class Encoded:
    """A prompt and its response as token ids; the response begins at `response_start`."""

    input_ids: tuple[int, ...]
    response_start: int


@dataclass(frozen=True)
class EncodingReport:
    """What encoding did: how many responses were cut, and all lengths in tokens."""

    truncated: int
    lengths: tuple[int, ...]


def prompt_ids(prompts: Sequence[Prompt], tokenizer: Any) -> list[list[int]]:
    """Each prompt rendered by the chat template, up to where the reply begins."""
    return [_tokens(_prompt_text(prompt, tokenizer), tokenizer) for prompt in prompts]


def refusal(prompt: Prompt, tokenizer: Any) -> str:
    """Why the chat template refuses a prompt or a reply to it; empty where it takes both."""
    try:
        _prompt_text(prompt, tokenizer)
        if prompt[-1].role != "user":  # the reply is a second turn of the model, or its first
            _conversation_text(prompt, _MARK, tokenizer)
    except DataError as error:
        return str(error.__cause__)
    return ""


def conversation_ids(prompt: Prompt, response: str, tokenizer: Any) -> list[int]:
    """Prompt and response rendered by the chat template, its end-of-turn token included."""
    return _tokens(_conversation_text(prompt, response, tokenizer), tokenizer)


def encode(
    samples: Sequence[Sample], tokenizer: Any, *, max_length: int
) -> tuple[list[Encoded], EncodingReport]:
    """Token ids of all samples, responses cut to fit.

    Raises:
        DataError: if a prompt leaves no room for its response.
    """
    rows, truncated = [], 0
    frame = reply_frame(tokenizer)
    for sample in samples:
        start, ids = _prompt_and_response(sample, tokenizer, frame)
        if start >= max_length:
            raise DataError(
                f"The prompt of sample {sample.id!r} must leave room for its response in "
                f"{max_length} tokens; got {start}. Raise model.max_length, or drop the sample."
            )
        truncated += len(ids) > max_length
        rows.append(Encoded(tuple(ids[:max_length]), start))
    return rows, EncodingReport(truncated, tuple(len(row.input_ids) for row in rows))


def reply_frame(tokenizer: Any) -> tuple[str, str, str]:
    """What the chat template writes before a reply, after it up to its end token, and beyond.

    Before: what follows the prompt (a space). What lies beyond (a line break, Phi-3's end of the
    text) is never sampled, and so is no part of a response. Without an end token the latter two are
    empty, of a template that refuses all.
    """
    prompt = user_prompt(_MARK)
    try:
        asked, said = _prompt_text(prompt, tokenizer), _conversation_text(prompt, _MARK, tokenizer)
    except (DataError, ModelError):  # told with the first conversation that it refuses
        return "", "", ""
    head, _, after = said.rpartition(_MARK)
    before = head[len(asked) :] if head.startswith(asked) else ""
    added = (t.content for t in tokenizer.added_tokens_decoder.values() if t.special)
    found = [
        (after.find(t), -len(t)) for t in {*tokenizer.all_special_tokens, *added} if t in after
    ]
    if not found:
        return before, "", ""
    start, length = min(found)
    return before, after[: start - length], after[start - length :]


def batches(rows: Sequence[Encoded], *, tokens_per_batch: int, pad_id: int = 0) -> list[Batch]:
    """Length-sorted, right-padded batches of at most `tokens_per_batch` tokens, longest first.

    A row longer than that has a batch of its own.
    """
    order = sorted(range(len(rows)), key=lambda i: -len(rows[i].input_ids))
    out, start = [], 0
    while start < len(order):
        width = len(rows[order[start]].input_ids)
        count = max(1, tokens_per_batch // width)
        out.append(_padded(rows, order[start : start + count], width, pad_id))
        start += count
    return out


def _padded(rows: Sequence[Encoded], index: list[int], width: int, pad_id: int) -> Batch:
    ids = torch.full((len(index), width), pad_id)
    labels = torch.full((len(index), width), -100)
    mask = torch.zeros((len(index), width), dtype=torch.long)
    for place, i in enumerate(index):
        row, length = torch.tensor(rows[i].input_ids), len(rows[i].input_ids)
        ids[place, :length] = row
        mask[place, :length] = 1
        labels[place, rows[i].response_start : length] = row[rows[i].response_start :]
    return Batch(input_ids=ids, attention_mask=mask, labels=labels, index=torch.tensor(index))


def _prompt_and_response(
    sample: Sample, tokenizer: Any, frame: tuple[str, str, str]
) -> tuple[int, list[int]]:
    """Where the response starts, and all ids.

    The template renders the whole conversation where the prompt is a prefix of it, so that the
    end-of-turn token is learned. Where tokens would grow together over the border, the two parts
    are tokenized apart, as they are when a reply is sampled. Some templates write the prompt
    otherwise once it is replied to (an opened block of thoughts, a system text of the last turn);
    then the response comes after the prompt in its frame, stripped where the template strips it.
    """
    before, end, beyond = frame
    asked = _prompt_text(sample.prompt, tokenizer)
    said = _conversation_text(sample.prompt, sample.response, tokenizer).removesuffix(beyond)
    prompt, whole = _tokens(asked, tokenizer), _tokens(said, tokenizer)
    if whole[: len(prompt)] == prompt and len(whole) > len(prompt):
        return len(prompt), whole
    if said.startswith(asked) and len(said) > len(asked):
        return len(prompt), [*prompt, *_tokens(said[len(asked) :], tokenizer)]
    own = sample.response
    forms = (before + text for text in (own, own.lstrip(), own.rstrip(), own.strip()))
    written = next((t for t in forms if said.endswith(t + end)), before + own)
    return len(prompt), [*prompt, *_tokens(written + end, tokenizer)]


def _prompt_text(prompt: Prompt, tokenizer: Any) -> str:
    """Up to the reply; a block of thoughts that the template opens is closed, empty."""
    text = _rendered(_turns(prompt), tokenizer, reply_follows=True)
    if text.rstrip().endswith(_THOUGHTS[0]):
        return f"{text.rstrip()}\n\n{_THOUGHTS[1]}\n\n"
    return text


def _conversation_text(prompt: Prompt, response: str, tokenizer: Any) -> str:
    turns = [*_turns(prompt), {"role": "assistant", "content": response}]
    return _rendered(turns, tokenizer, reply_follows=False)


def _turns(prompt: Prompt) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in prompt]


def _rendered(turns: list[dict[str, str]], tokenizer: Any, *, reply_follows: bool) -> str:
    """A conversation by the chat template, without thoughts where it has a mode of thinking."""
    if not tokenizer.chat_template:
        raise ModelError("The tokenizer must have a chat template; got none.")
    try:
        text = tokenizer.apply_chat_template(
            turns,
            tokenize=False,
            add_generation_prompt=reply_follows,
            enable_thinking=False,
            thinking=False,
        )
    except TemplateSyntaxError as error:
        raise ModelError(
            f"The model's chat template must be valid Jinja; got: {error} (line {error.lineno}). "
            "Mend chat_template.jinja, or set model.chat_template plain."
        ) from error
    except TemplateError as error:
        roles = ", ".join(turn["role"] for turn in turns)
        raise DataError(
            f"The model's chat template must accept every conversation; got: {error} for the roles "
            f"{roles}, ending in {turns[-1]['content'][-40:]!r}. Change or drop that sample."
        ) from error
    return str(text)


def _tokens(text: str, tokenizer: Any) -> list[int]:
    # the template has its own BOS; of texts that are too long their users tell, and cut them
    ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    return [int(i) for i in ids]
