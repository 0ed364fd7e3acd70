"""The noise of sampling, by counting: each number is a hash of seed, prompt, sample, step, token.

The token with the largest logit/T + G, G independent standard Gumbel, is a draw from
softmax(logits/T), exactly. As no state is carried, a reply depends on its own prompt alone: not on
the rows that are sampled beside it, their order, or the device. The hash is SplitMix64, whose
outputs pass for random in every test of TestU01 (Steele, Lea, Flood 2014).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from hashlib import blake2b

import torch
from jaxtyping import Float, Int
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15 - 2**64
_ROUNDS = ((30, 0xBF58476D1CE4E5B9 - 2**64), (27, 0x94D049BB133111EB - 2**64))
_TOGETHER = 2**20
"""Numbers hashed at a time: what they need is small beside the logits, and stays in the cache."""


def row_keys(prompts: Sequence[Sequence[int]], *, samples: int, seed: int) -> list[int]:
    """A key of each reply, `samples` a prompt, in prompt order.

    Made of the seed, the prompt's tokens and the number of the sample. A prompt that is listed
    again goes on counting, so that its replies are others.
    """
    seen: Counter[tuple[int, ...]] = Counter()
    keys = []
    for prompt in map(tuple, prompts):
        keys += [_key(prompt, seen[prompt] + number, seed) for number in range(samples)]
        seen[prompt] += samples
    return keys


def _key(prompt: tuple[int, ...], sample: int, seed: int) -> int:
    text = f"{seed}:{sample}:{','.join(map(str, prompt))}"
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little", signed=True)


def add_gumbel(scores: Float[Tensor, "b v"], keys: Int[Tensor, " b"], *, step: int) -> None:
    """Adds standard Gumbel noise to scaled logits, in place.

    Args:
        scores: logits / T.
        keys: of the rows, `row_keys`.
        step: number of the token that is drawn.
    """
    tokens = torch.arange(1, scores.shape[1] + 1, device=scores.device) * _GOLDEN
    starts = _mixed(keys + step)
    rows = max(1, _TOGETHER // scores.shape[1])
    for first in range(0, len(scores), rows):
        numbers = _mixed(starts[first : first + rows, None] + tokens)
        scores[first : first + rows].sub_(_log_exponential(numbers, scores.dtype))


def _mixed(numbers: Tensor) -> Tensor:
    """SplitMix64's finalizer, in place; torch's shift keeps the sign, so the mask drops it."""
    for shift, factor in _ROUNDS:
        numbers.bitwise_xor_((numbers >> shift).bitwise_and_(2 ** (64 - shift) - 1)).mul_(factor)
    return numbers.bitwise_xor_((numbers >> 31).bitwise_and_(2**33 - 1))


def _log_exponential(numbers: Tensor, dtype: torch.dtype) -> Tensor:
    """Log E with E = −log(1 − u) exponential; a small u keeps all its digits, and is a large G."""
    uniform = numbers.bitwise_and_(2**63 - 1).to(dtype).mul_(2.0**-63)
    return uniform.clamp_(2.0**-63, 1 - 2.0**-24).neg_().log1p_().neg_().log_()
