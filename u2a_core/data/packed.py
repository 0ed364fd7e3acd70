"""A set's token rows in little memory: four bytes a token, padded when a batch is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, overload

import numpy as np
import torch

from u2a_core.data.encode import EncodingReport, encode
from u2a_core.types import Batch, Sample

_TOGETHER = 1000
"""Samples encoded at a time: their lists of numbers take ten times what is kept of them."""


@dataclass(frozen=True, eq=False)
class PackedBatches(Sequence[Batch]):
    """Length-sorted, right-padded batches as `encode.batches` makes them, each made anew on demand.

    Attributes:
        tokens: of all rows, row after row.
        starts: where each row begins, and the end of the last.
        responses: where each row's response begins, counted from its own beginning.
        parts: rows of each batch.
        pad_id: fills the padded positions.
        device: of the batches.
    """

    tokens: np.ndarray
    starts: np.ndarray
    responses: np.ndarray
    parts: tuple[np.ndarray, ...]
    pad_id: int
    device: Any

    def __len__(self) -> int:
        """The number of batches."""
        return len(self.parts)

    @overload
    def __getitem__(self, number: int) -> Batch: ...
    @overload
    def __getitem__(self, number: slice) -> tuple[Batch, ...]: ...
    def __getitem__(self, number: int | slice) -> Batch | tuple[Batch, ...]:
        """A batch, or several."""
        if isinstance(number, slice):
            return tuple(self._made(rows) for rows in self.parts[number])
        return self._made(self.parts[number])

    def _made(self, rows: np.ndarray) -> Batch:
        lengths = self.starts[rows + 1] - self.starts[rows]
        place = np.arange(lengths.max())
        there = place < lengths[:, None]
        ids = np.full(there.shape, self.pad_id)
        ids[there] = np.concatenate(
            [self.tokens[self.starts[i] : self.starts[i + 1]] for i in rows]
        )
        labels = np.where(there & (place >= self.responses[rows, None]), ids, -100)
        batch = Batch(
            input_ids=torch.from_numpy(ids),
            attention_mask=torch.from_numpy(there.astype(np.int64)),
            labels=torch.from_numpy(labels),
            index=torch.from_numpy(rows),
        )
        return batch.to(self.device)


def packed(
    samples: Sequence[Sample],
    tokenizer: Any,
    *,
    max_length: int,
    tokens_per_batch: int,
    pad_id: int = 0,
    device: Any = "cpu",
) -> tuple[PackedBatches, EncodingReport]:
    """Samples as batches of at most `tokens_per_batch` tokens, longest first.

    Raises:
        DataError: if a prompt leaves no room for its response.
    """
    pieces: list[np.ndarray] = []
    lengths: list[int] = []
    responses: list[int] = []
    truncated = 0
    for first in range(0, len(samples), _TOGETHER):
        some = samples[first : first + _TOGETHER]
        rows, report = encode(some, tokenizer, max_length=max_length)
        pieces.append(np.concatenate([np.asarray(row.input_ids, dtype=np.int32) for row in rows]))
        lengths += report.lengths
        responses += [row.response_start for row in rows]
        truncated += report.truncated
    found = PackedBatches(
        tokens=np.concatenate(pieces),
        starts=np.concatenate([[0], np.cumsum(lengths)]),
        responses=np.asarray(responses),
        parts=_parts(np.asarray(lengths), tokens_per_batch),
        pad_id=pad_id,
        device=device,
    )
    return found, EncodingReport(truncated, tuple(lengths))


def _parts(lengths: np.ndarray, tokens_per_batch: int) -> tuple[np.ndarray, ...]:
    """Rows of each batch, the longest first; a row longer than a batch has one of its own."""
    order = np.argsort(-lengths, kind="stable")
    ends = [0]
    while ends[-1] < len(order):
        ends.append(ends[-1] + max(1, tokens_per_batch // int(lengths[order[ends[-1]]])))
    return tuple(order[start:end] for start, end in pairwise(ends))
