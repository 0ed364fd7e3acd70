"""y ~ π_θ(· | x): sampled replies, through the library's own generation.

Tokens are drawn by `noise`, so that the same prompt gets the same reply from the same seed,
whatever is sampled beside it (up to the rounding of the model's own passes).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from u2a_core.data.encode import Encoded, batches, prompt_ids, reply_frame
from u2a_core.errors import ConfigError, NumericalError
from u2a_core.losses import output_embedding
from u2a_core.models.noise import add_gumbel, row_keys
from u2a_core.models.policy import context_length
from u2a_core.types import Prompt, Rollouts

TOKENS_PER_BATCH = 4096
"""Size of the batches in which sampled replies are scored."""


@dataclass(frozen=True)
class Generator:
    """y ~ π_θ(· | x) through the library's own generation; a `types.Sampler`.

    Attributes:
        tokenizer: of the policy.
        max_new_tokens: longest reply.
        temperature: of sampling.
        rows: replies sampled together.
        tick: told before each batch how many replies are there, and of how many; may raise.
    """

    tokenizer: Any
    max_new_tokens: int
    temperature: float = 1.0
    rows: int = 256
    tick: Callable[[int, int], None] = lambda done, total: None

    def __call__(
        self, model: nn.Module, prompts: Sequence[Prompt], *, samples: int, seed: int
    ) -> Rollouts:
        """`samples` replies to each prompt, in prompt order."""
        ids = prompt_ids(prompts, self.tokenizer)
        owners = [i for i in range(len(prompts)) for _ in range(samples)]
        keys = row_keys(ids, samples=samples, seed=seed)
        # prompts of like length together: less padding, and no reply depends on its neighbours
        order = sorted(range(len(owners)), key=lambda row: len(ids[owners[row]]))
        found: dict[int, Encoded] = {}
        with torch.no_grad():
            for start in range(0, len(owners), self.rows):
                self.tick(start, len(owners))
                rows = order[start : start + self.rows]
                made = self._generate(
                    model, [ids[owners[row]] for row in rows], [keys[row] for row in rows]
                )
                found.update(zip(rows, made, strict=True))
        encoded = [found[row] for row in range(len(owners))]
        replies = self.tokenizer.batch_decode(
            [e.input_ids[e.response_start :] for e in encoded], skip_special_tokens=True
        )
        device = next(model.parameters()).device
        packed = batches(
            encoded, tokens_per_batch=TOKENS_PER_BATCH, pad_id=self.tokenizer.pad_token_id or 0
        )
        return Rollouts(
            prompt_index=tuple(owners),
            replies=tuple(reply.strip() for reply in replies),
            batches=tuple(batch.to(device) for batch in packed),
        )

    def _generate(self, model: Any, rows: list[list[int]], keys: list[int]) -> list[Encoded]:
        """One sampled reply per row, up to and including its end token."""
        pad = self.tokenizer.pad_token_id or 0
        width = max(len(row) for row in rows)
        context = context_length(model)
        if context is not None and width + self.max_new_tokens > context:
            raise ConfigError(
                f"A prompt and objective.max_new_tokens must fit the model's context of {context} "
                f"tokens; got {width} + {self.max_new_tokens}. Lower objective.max_new_tokens, or "
                "drop the longest prompts."
            )
        padded = torch.tensor([[pad] * (width - len(row)) + row for row in rows])
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
        device = next(model.parameters()).device
        stops = stop_ids(model, self.tokenizer)
        with plain_sampling(model), drawing(model, keys, width, self.temperature) as processors:
            out = model.generate(
                input_ids=padded.to(device),
                attention_mask=mask.to(device),
                do_sample=False,
                logits_processor=processors,
                max_new_tokens=self.max_new_tokens,
                pad_token_id=pad,
                eos_token_id=sorted(stops),
            )
        replies = out[:, width:].tolist()
        return [
            Encoded((*row, *until_stop(reply, stops)), len(row))
            for row, reply in zip(rows, replies, strict=True)
        ]


@contextmanager
def plain_sampling(model: Any) -> Iterator[None]:
    """Puts the model's own habits of generation (a repetition penalty, min-p, …) aside.

    They would be merged into every call, and replies would not come from the softmax that
    log π(y|x) scores. Of the prompts, the vocabulary projection sees the last position only, in
    models that cannot be asked for it, too.
    """
    from transformers import GenerationConfig

    plain = GenerationConfig()  # type: ignore[no-untyped-call]
    own, model.generation_config = model.generation_config, plain
    head = output_embedding(model)
    hook = None if head is None else head.register_forward_pre_hook(_last_position)
    try:
        yield
    finally:
        model.generation_config = own
        if hook is not None:
            hook.remove()


def _last_position(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return (inputs[0][:, -1:], *inputs[1:])


@contextmanager
def drawing(model: nn.Module, keys: Sequence[int], width: int, temperature: float) -> Iterator[Any]:
    """What makes the likeliest token that `generate` takes a draw from the softmax.

    Args:
        model: whose replies are drawn.
        keys: of the rows, `noise.row_keys`.
        width: tokens of the prompts, padding included.
        temperature: of sampling; 0 leaves the likeliest token.

    Raises:
        NumericalError: at the end, if logits were no numbers.
    """
    from transformers import LogitsProcessorList

    device = next(model.parameters()).device
    draws = _Draws(torch.tensor(keys, device=device), width, temperature)
    yield LogitsProcessorList([draws])
    if bool(draws.broken):  # asked once, for a device would wait for it at every token
        raise NumericalError(
            "The model's probabilities must be finite to sample from; got NaN or infinity: it has "
            "collapsed. Lower the learning rate."
        )


class _Draws:
    """A processor of logits that adds the noise."""

    def __init__(self, keys: Tensor, width: int, temperature: float) -> None:
        self.broken = torch.zeros((), dtype=torch.bool, device=keys.device)
        self._keys, self._width, self._temperature = keys, width, temperature

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        self.broken |= ~scores.amax(-1).isfinite().all()
        if self._temperature:
            scores = scores / self._temperature
            add_gumbel(scores, self._keys, step=input_ids.shape[1] - self._width)
        return scores


def stop_ids(model: Any, tokenizer: Any) -> set[int]:
    """Tokens that end a reply: the model's, the tokenizer's, and the chat template's."""
    configured = model.generation_config.eos_token_id
    found = set(configured if isinstance(configured, list) else [configured])
    return {int(i) for i in found | {tokenizer.eos_token_id, turn_end(tokenizer)} if i is not None}


def turn_end(tokenizer: Any) -> int | None:
    """The special token with which the chat template ends a reply, as <|eot_id|>; None without.

    Many models learned it and list another one in their configuration.
    """
    _, end, _ = reply_frame(tokenizer)
    return int(tokenizer(end, add_special_tokens=False)["input_ids"][-1]) if end else None


def until_stop(reply: list[int], stops: set[int]) -> list[int]:
    """A reply up to and including its first end token."""
    for position, token in enumerate(reply):
        if token in stops:
            return reply[: position + 1]
    return reply
