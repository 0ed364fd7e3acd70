"""How much there is to compute: samples and their lengths in tokens, and the batches they make.

The model's own tokenizer measures at most `_MEASURED` samples of a file, the others are taken to be
like them. Without a file the batches are taken to be full, and the answer says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice
from typing import Any, TypeVar

import numpy as np

from u2a_core.config import DataSettings, SetName, Settings
from u2a_core.data import load_negatives, load_preferences, load_prompts, load_retain
from u2a_core.data.encode import Encoded, encode, prompt_ids
from u2a_core.estimate.trace import Shape
from u2a_core.room import answerable, with_room
from u2a_core.types import Prompt, Sample

_T = TypeVar("_T")
_MEASURED = 500
_ASSUMED = 1000
"""Samples where no file is named."""


@dataclass(frozen=True)
class Rows:
    """Samples of a set: tokens of the prompt, and of the whole, one pair a sample."""

    lengths: tuple[tuple[int, int], ...]
    assumed: bool = False

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def tokens(self) -> int:
        """Of all samples."""
        return sum(whole for _, whole in self.lengths)

    def largest(self, tokens_per_batch: int, share: float = 1.0) -> Shape:
        """The batch that takes most, of those that `data.encode.batches` makes.

        Args:
            tokens_per_batch: their size.
            share: of its rows, where a step draws some.
        """
        order = sorted(self.lengths, key=lambda pair: -pair[1])
        best, start = Shape(1, 1, 1), 0
        while start < len(order):
            width = order[start][1]
            batch = order[start : start + max(1, tokens_per_batch // width)]
            drawn = batch[: max(1, round(share * len(batch)))]
            shape = Shape(len(drawn), width, sum(whole - prompt for prompt, whole in drawn))
            best = max(best, shape, key=lambda s: (s.tokens + s.responses, s.width))
            start += len(batch)
        return best

    def several(self, tokens_per_batch: int) -> bool:
        """Whether they need more than one batch."""
        return len(self) * max(whole for _, whole in self.lengths) > tokens_per_batch


@dataclass(frozen=True)
class Workload:
    """What the settings give to compute.

    Attributes:
        negatives: the negative set.
        retain: the retain set; empty where none is used.
        pairs: replies of J's preference pairs, two a pair; empty where J samples.
        asked: prompts on which J samples replies: tokens of each; empty where J compares pairs.
        test: prompts of the comparison before and after.
        longest: tokens of a sample at most.
        assumed: what is taken for granted, because no file is named.
        left_out: sentences about samples that have no room.
    """

    negatives: Rows
    retain: Rows
    pairs: Rows
    asked: tuple[int, ...]
    test: tuple[int, ...]
    longest: int
    assumed: tuple[str, ...]
    left_out: tuple[str, ...] = ()

    def rollouts(self, settings: Settings) -> Rows:
        """Sampled replies at their longest."""
        new, samples = settings.objective.max_new_tokens, settings.objective.samples
        return Rows(tuple((p, p + new) for p in self.asked for _ in range(samples)))


def read_workload(
    settings: Settings, tokenizer: Any, longest: int, context: int | None
) -> Workload:
    """What the files that the settings name hold.

    Args:
        settings: of the data and of J.
        tokenizer: of the policy.
        longest: tokens of a sample at most.
        context: of the policy, a prompt and the reply that is sampled to it; None: any.

    Raises:
        DataError: if a file cannot be used.
    """
    data, most = settings.data, settings.objective.max_prompts
    measure = _Measure(tokenizer, longest, context, settings.objective.max_new_tokens)
    negatives, retain, pairs = (_of(data, n) for n in ("negatives", "retain", "preferences"))
    assumed = [] if negatives else [f"{_ASSUMED} negatives of {longest} tokens"]
    compared = _every(pairs, most) if settings.objective.kind != "sampled_reward" else []
    replies = [
        Sample(f"{i}{side}", pair.prompt, reply)
        for i, pair in enumerate(compared)
        for side, reply in (("+", pair.chosen), ("-", pair.rejected))
    ]
    rows = measure.rows(replies, "replies of preference pairs")
    if settings.objective.kind != "sampled_reward" and not replies:
        rows, assumed = _full(2 * most, longest), [*assumed, f"{most} pairs of {longest} tokens"]
    asked: tuple[int, ...] = ()
    if settings.objective.kind == "sampled_reward":
        given = _of(data, "objective_prompts") or [item.prompt for item in (pairs or negatives)]
        asked = tuple(_every(measure.prompts(list(dict.fromkeys(given)), "prompts of J"), most))
        if not asked:
            asked = (longest // 2,) * most
            assumed.append(f"{most} prompts of {longest // 2} tokens")
    test = measure.prompts(list(dict.fromkeys(_of(data, "prompts"))), "test prompts")
    return Workload(
        negatives=measure.rows(negatives, "negatives") if negatives else _full(_ASSUMED, longest),
        retain=measure.rows(retain, "retain samples"),
        pairs=rows,
        asked=asked,
        test=test,
        longest=longest,
        assumed=tuple(assumed),
        left_out=tuple(measure.left_out),
    )


def _of(data: DataSettings, name: SetName) -> list[Any]:
    """The usable records of a set, by the columns that the settings name; none without a file."""
    path, columns = getattr(data, name), data.columns_of(name)
    if not path:
        return []
    if name == "negatives":
        return list(load_negatives(path, columns=columns).samples)
    load: Any = {"retain": load_retain, "preferences": load_preferences}.get(name, load_prompts)
    return list(load(path, columns=columns)[0])


@dataclass(frozen=True)
class _Measure:
    """Lengths by the policy's own tokenizer; what is left out gathers on the way."""

    tokenizer: Any
    longest: int
    context: int | None
    reply: int
    left_out: list[str] = field(default_factory=list)

    def rows(self, samples: Sequence[Sample], what: str) -> Rows:
        """Of those whose prompts leave room for a reply.

        Raises:
            DataError: if none does.
        """
        some = _every(samples, _MEASURED)
        fit, told = with_room(some, self.tokenizer, self.longest, f"{what}{_of_all(samples)}")
        self.left_out.extend([told] if told else [])
        rows: list[Encoded] = encode(fit, self.tokenizer, max_length=self.longest)[0]
        lengths = [(row.response_start, len(row.input_ids)) for row in rows]
        count = round(len(samples) * len(fit) / max(1, len(some)))
        return Rows(tuple(islice(cycle(lengths), count)))

    def prompts(self, prompts: Sequence[Prompt], what: str) -> tuple[int, ...]:
        """Of those that leave room for the longest reply.

        Raises:
            DataError: if none does.
        """
        some = _every(prompts, _MEASURED)
        named = f"{what}{_of_all(prompts)}"
        fit, told = answerable(some, self.tokenizer, self.context, self.reply, named)
        self.left_out.extend([told] if told else [])
        lengths = [len(ids) for ids in prompt_ids([some[i] for i in fit], self.tokenizer)]
        count = round(len(prompts) * len(fit) / max(1, len(some)))
        return tuple(islice(cycle(lengths), count))


def _of_all(items: Sequence[object]) -> str:
    """Where only some of the items are measured: of how many."""
    return f" of the {len(items):,}" if len(items) > _MEASURED else ""


def _every(items: Sequence[_T], most: int) -> list[_T]:
    """At most so many of the items, evenly spread."""
    if len(items) <= most:
        return list(items)
    return [items[i] for i in np.linspace(0, len(items) - 1, most).astype(int).tolist()]


def _full(count: int, longest: int) -> Rows:
    return Rows(((longest // 2, longest),) * count, assumed=True)
