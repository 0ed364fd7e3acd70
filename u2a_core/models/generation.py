"""y ~ π_θ(· | x): sampled replies, through the library's own generation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from u2a_core.data.encode import Encoded, batches, prompt_ids
from u2a_core.errors import ConfigError, NumericalError
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
        devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
        encoded: list[Encoded] = []
        with torch.random.fork_rng(devices=devices), torch.no_grad():
            torch.manual_seed(seed)
            for start in range(0, len(owners), self.rows):
                self.tick(start, len(owners))
                rows = [ids[i] for i in owners[start : start + self.rows]]
                encoded.extend(self._generate(model, rows))
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

    def _generate(self, model: Any, rows: list[list[int]]) -> list[Encoded]:
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
        with plain_sampling(model), finite_probabilities():
            out = model.generate(
                input_ids=padded.to(device),
                attention_mask=mask.to(device),
                do_sample=True,
                temperature=self.temperature,
                top_k=0,
                top_p=1.0,
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
    log π(y|x) scores.
    """
    from transformers import GenerationConfig

    plain = GenerationConfig()  # type: ignore[no-untyped-call]
    own, model.generation_config = model.generation_config, plain
    try:
        yield
    finally:
        model.generation_config = own


@contextmanager
def finite_probabilities() -> Iterator[None]:
    """Tells a model whose logits are no numbers any more from any other failure."""
    try:
        yield
    except RuntimeError as error:
        if "probability tensor" not in str(error):
            raise
        raise NumericalError(
            "The model's probabilities must be finite to sample from; got NaN or infinity: it has "
            "collapsed. Lower the learning rate."
        ) from error


def stop_ids(model: Any, tokenizer: Any) -> set[int]:
    """Tokens that end a reply: the model's and the tokenizer's."""
    configured = model.generation_config.eos_token_id
    found = set(configured if isinstance(configured, list) else [configured])
    return {int(i) for i in found | {tokenizer.eos_token_id} if i is not None}


def until_stop(reply: list[int], stops: set[int]) -> list[int]:
    """A reply up to and including its first end token."""
    for position, token in enumerate(reply):
        if token in stops:
            return reply[: position + 1]
    return reply
