"""Doubles for tests, ours and a user's: a tiny policy, batches, and a sampler that needs no model.

`TinyPolicy` is a causal language model of a few dozen parameters that behaves like a loaded one
(logits, output embedding), small enough for float64 closed forms and finite differences.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace

import torch
from jaxtyping import Int
from torch import Tensor, nn

from u2a_core.types import Batch, Prompt, Rollouts


class TinyPolicy(nn.Module):
    """Embedding, causal mean over the past, tanh, linear head; float64."""

    def __init__(self, vocabulary: int = 7, width: int = 4, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.embedding = nn.Embedding(vocabulary, width)
        self.mix = nn.Linear(width, width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator) / width**0.5
        self.double()

    def get_output_embeddings(self) -> nn.Module:
        """The head."""
        return self.head

    def get_input_embeddings(self) -> nn.Module:
        """The embedding."""
        return self.embedding

    def forward(self, input_ids: Int[Tensor, "b t"], **_: object) -> SimpleNamespace:
        """Logits, as a loaded model returns them."""
        hidden = self.embedding(input_ids)
        lengths = torch.arange(1, input_ids.shape[1] + 1, dtype=hidden.dtype)
        past = hidden.cumsum(1) / lengths[:, None]
        return SimpleNamespace(logits=self.head(torch.tanh(self.mix(past) + hidden)))


def random_batch(
    n: int, *, seed: int = 0, vocabulary: int = 7, longest: int = 7, start: int = 0
) -> Batch:
    """N ragged rows: a prompt of two tokens, then a response of two tokens or more."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(4, longest + 1, (n,), generator=generator)
    ids = torch.randint(1, vocabulary, (n, longest), generator=generator)
    position = torch.arange(longest)
    mask = (position < lengths[:, None]).long()
    labels = torch.where((mask == 1) & (position >= 2), ids, -100)
    width = int(lengths.max())
    return Batch(
        input_ids=(ids * mask)[:, :width],
        attention_mask=mask[:, :width],
        labels=labels[:, :width],
        index=torch.arange(start, start + n),
    )


@dataclass(frozen=True)
class FixedSampler:
    """A `types.Sampler` that returns the same replies whatever the model."""

    batch: Batch
    replies: tuple[str, ...]

    def __call__(
        self, model: nn.Module, prompts: Sequence[Prompt], *, samples: int, seed: int
    ) -> Rollouts:
        """The replies, in prompt order."""
        owners = tuple(i for i in range(len(prompts)) for _ in range(samples))
        return Rollouts(owners, self.replies, (self.batch,))
