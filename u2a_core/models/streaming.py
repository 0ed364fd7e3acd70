"""One reply, word by word: what a person who tries a prompt waits for."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import torch
from transformers import StoppingCriteria, StoppingCriteriaList
from transformers.generation.streamers import BaseStreamer

from u2a_core.data.encode import prompt_ids
from u2a_core.errors import ConfigError
from u2a_core.models.generation import drawing, plain_sampling, stop_ids
from u2a_core.models.noise import row_keys
from u2a_core.models.policy import Policy, context_length
from u2a_core.types import user_prompt

Ending: TypeAlias = Literal["stop", "length", "stopped"]
"""stop: the model ended its reply; length: it reached the most tokens; stopped: it was told to."""

_EVERY_S = 0.1
"""A text that grows faster is told no oftener."""


def stream_reply(
    policy: Policy,
    prompt: str,
    *,
    max_new_tokens: int,
    temperature: float,
    seed: int,
    told: Callable[[str], None],
    stopping: Callable[[], bool],
) -> tuple[str, Ending]:
    """The reply that `Generator` samples first of this prompt and seed, and how it ended.

    Args:
        policy: the model and its tokenizer.
        prompt: the user's turn.
        max_new_tokens: longest reply.
        temperature: of sampling; 0 takes the likeliest token.
        seed: of sampling.
        told: called with the reply so far.
        stopping: asked at every token.

    Raises:
        ConfigError: if prompt and reply do not fit the model's context.
        NumericalError: if the model's probabilities are not finite.
    """
    model: Any = policy.model
    ids = _checked(policy, prompt, max_new_tokens)
    words = _Words(policy.tokenizer, told)
    stops = stop_ids(model, policy.tokenizer)
    keys = row_keys([ids], samples=1, seed=seed)
    inputs = torch.tensor([ids], device=policy.device)
    with (
        torch.no_grad(),
        plain_sampling(model),
        drawing(model, keys, len(ids), temperature) as processors,
    ):
        model.generate(
            input_ids=inputs, attention_mask=torch.ones_like(inputs), streamer=words,
            do_sample=False, max_new_tokens=max_new_tokens, logits_processor=processors,
            stopping_criteria=StoppingCriteriaList([_Asked(stopping)]),
            pad_token_id=policy.pad_id, eos_token_id=sorted(stops),
        )  # fmt: skip
    if words.ids and words.ids[-1] in stops:
        return words.text, "stop"
    return words.text, "length" if len(words.ids) >= max_new_tokens else "stopped"


def _checked(policy: Policy, prompt: str, max_new_tokens: int) -> list[int]:
    """The rendered prompt's tokens, which leave room for the reply."""
    (ids,) = prompt_ids([user_prompt(prompt)], policy.tokenizer)
    context = context_length(policy.model)
    if context is not None and len(ids) + max_new_tokens > context:
        raise ConfigError(
            f"The prompt and the longest reply must fit the model's context of {context} tokens; "
            f"got {len(ids)} + {max_new_tokens}. Shorten the prompt or the reply."
        )
    return ids


class _Words(BaseStreamer):
    """Collects a reply's tokens and tells the text that they make."""

    def __init__(self, tokenizer: Any, told: Callable[[str], None]) -> None:
        self.ids: list[int] = []
        self._tokenizer, self._told = tokenizer, told
        self._prompt_seen, self._last = False, 0.0

    @property
    def text(self) -> str:
        """The reply so far; a character of which not all bytes are there yet is left out."""
        decoded = str(self._tokenizer.decode(self.ids, skip_special_tokens=True))
        return decoded.rstrip("\ufffd").strip()

    def put(self, value: torch.Tensor) -> None:
        if not self._prompt_seen:
            self._prompt_seen = True
            return
        self.ids += value.flatten().tolist()
        if time.monotonic() - self._last >= _EVERY_S:
            self._told(self.text)
            self._last = time.monotonic()

    def end(self) -> None:
        self._told(self.text)


class _Asked(StoppingCriteria):
    """Ends a generation when it is told to."""

    def __init__(self, stopping: Callable[[], bool]) -> None:
        self._stopping = stopping

    def __call__(self, input_ids: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        return torch.full(input_ids.shape[:1], self._stopping(), device=input_ids.device)
