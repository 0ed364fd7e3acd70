"""What sets share that should be apart: exact matches of prompts, and of prompts with replies."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from u2a_core.config import SetName
from u2a_core.data.items import Item
from u2a_core.types import PreferencePair, Sample, prompt_text


class Keys:
    """What tells the records of a set apart: prompts, and prompts with each kind of reply.

    Kept as hashes of 8 bytes, which hold within this process: of a million texts two different ones
    share a hash with a probability of 3e-8.
    """

    def __init__(self) -> None:
        self._prompts = array("q")
        self._replies: dict[str, array[int]] = {}

    def add(self, item: Item) -> int:
        """An item; its own hash."""
        asked = prompt_text(item if isinstance(item, tuple) else item.prompt)
        self._prompts.append(hash(asked))
        if isinstance(item, Sample):
            return self._reply("reply", asked, item.response)
        if isinstance(item, PreferencePair):
            sides = [self._reply(s, asked, getattr(item, s)) for s in ("chosen", "rejected")]
            return hash(tuple(sides))
        return hash(asked)

    def _reply(self, side: str, asked: str, reply: str) -> int:
        key = hash((asked, reply))
        self._replies.setdefault(side, array("q")).append(key)
        return key

    def distinct(self, side: str) -> NDArray[np.int64]:
        """The prompts (of an empty side), or the replies of a side, each once."""
        found = self._replies.get(side, array("q")) if side else self._prompts
        return np.unique(np.asarray(found, dtype=np.int64))


class Overlap(NamedTuple):
    """So many distinct records of a set are in another set, too; the sentence says what follows."""

    name: SetName
    other: SetName
    shared: int
    of: int
    sentence: str


class _Check(NamedTuple):
    name: SetName
    side: str
    """The reply that is compared; empty: the prompts alone."""
    other: SetName
    theirs: str
    """The reply of the other set."""
    what: str
    follows: str


_NOT_UNSEEN = "The comparison before and after is then not on unseen prompts."
_FLATTERED = "J decides on them, so that the comparison is flattered: keep the sets apart."
_CHECKS = (
    _Check("retain", "reply", "negatives", "reply", "replies of the retain set are negatives, too",
           "They would be unlearned and kept at once: take them out of one of the two."),
    _Check("retain", "reply", "preferences", "chosen",
           "replies of the retain set are chosen replies of the pairs",
           "Keeping them is supervised alignment, which hides what unlearning does: retain another "
           "skill of the model."),
    _Check("retain", "reply", "preferences", "rejected",
           "replies of the retain set are rejected replies of the pairs",
           "They would be kept although J counts them as worse: take them out of one of the two."),
    _Check("preferences", "chosen", "negatives", "reply",
           "chosen replies of the pairs are negatives, too",
           "J rewards what unlearning takes away: take them out of one of the two."),
    _Check("preferences", "rejected", "negatives", "reply",
           "rejected replies of the pairs are negatives",
           "J then looks at the very replies that are unlearned, less at others like them."),
    _Check("prompts", "", "negatives", "", "test prompts are prompts of negatives, too",
           _NOT_UNSEEN),
    _Check("prompts", "", "retain", "", "test prompts are prompts of the retain set, too",
           _NOT_UNSEEN),
    _Check("prompts", "", "preferences", "", "test prompts are prompts of preference pairs, too",
           _FLATTERED),
    _Check("prompts", "", "objective_prompts", "", "test prompts are prompts of J, too",
           _FLATTERED),
    _Check("harmful", "", "negatives", "", "harmful prompts of the evaluation are prompts of "
           "negatives, too", _NOT_UNSEEN),
    _Check("harmful", "", "preferences", "", "harmful prompts of the evaluation are prompts of "
           "preference pairs, too", _FLATTERED),
    _Check("questions", "", "preferences", "", "questions of the evaluation are prompts of "
           "preference pairs, too", _FLATTERED),
    _Check("outsiders", "reply", "negatives", "reply", "outsiders are negatives, too",
           "Membership cannot be told from samples that are on both sides: take them out."),
)  # fmt: skip


def overlaps(sets: Mapping[SetName, Keys]) -> Iterator[Overlap]:
    """What is found in two sets that should be apart."""
    for check in _CHECKS:
        one, other = sets.get(check.name), sets.get(check.other)
        if one is None or other is None:
            continue
        mine = one.distinct(check.side)
        shared = len(np.intersect1d(mine, other.distinct(check.theirs), assume_unique=True))
        if shared:
            told = f"{shared:,} of {len(mine):,} {check.what}. {check.follows}"
            yield Overlap(check.name, check.other, shared, len(mine), told)
