"""What sets share that should be apart: exact matches of prompts, and of prompts with replies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from u2a_core.config import SetName
from u2a_core.data.records import Item
from u2a_core.types import PreferencePair, Sample, prompt_text


@dataclass
class Keys:
    """What tells the records of a set apart: prompts, and prompts with each kind of reply."""

    prompts: set[str] = field(default_factory=set)
    replies: dict[str, set[tuple[str, str]]] = field(default_factory=dict)


class Overlap(NamedTuple):
    """So many distinct records of a set are in another set, too; the sentence says what follows."""

    name: SetName
    other: SetName
    shared: int
    of: int
    sentence: str


class _Check(NamedTuple):
    name: SetName
    kind: str
    """The reply that is compared; empty: the prompts alone."""
    other: SetName
    what: str
    follows: str


_CHECKS = (
    _Check("retain", "reply", "negatives", "replies of the retain set are negatives, too",
           "They would be unlearned and kept at once: take them out of one of the two."),
    _Check("preferences", "chosen", "negatives", "chosen replies of the pairs are negatives, too",
           "J rewards what unlearning takes away: take them out of one of the two."),
    _Check("preferences", "rejected", "negatives", "rejected replies of the pairs are negatives",
           "J then looks at the very replies that are unlearned, less at others like them."),
    _Check("prompts", "", "negatives", "test prompts are prompts of negatives, too",
           "The comparison before and after is then not on unseen prompts."),
    _Check("prompts", "", "preferences", "test prompts are prompts of preference pairs, too",
           "J decides on them, so that the comparison is flattered: keep the sets apart."),
    _Check("prompts", "", "objective_prompts", "test prompts are prompts of J, too",
           "J decides on them, so that the comparison is flattered: keep the sets apart."),
    _Check("outsiders", "reply", "negatives", "outsiders are negatives, too",
           "Membership cannot be told from samples that are on both sides: take them out."),
)  # fmt: skip


def keys(items: Sequence[Item]) -> Keys:
    """Of the usable records of a set."""
    found = Keys()
    for item in items:
        if isinstance(item, Sample):
            found.replies.setdefault("reply", set()).add((prompt_text(item.prompt), item.response))
            found.prompts.add(prompt_text(item.prompt))
        elif isinstance(item, PreferencePair):
            asked = prompt_text(item.prompt)
            found.prompts.add(asked)
            for side in ("chosen", "rejected"):
                found.replies.setdefault(side, set()).add((asked, getattr(item, side)))
        else:
            found.prompts.add(prompt_text(item))
    return found


def overlaps(sets: Mapping[SetName, Keys]) -> Iterator[Overlap]:
    """What is found in two sets that should be apart."""
    for check in _CHECKS:
        one, other = sets.get(check.name), sets.get(check.other)
        if one is None or other is None:
            continue
        if check.kind:
            mine = one.replies.get(check.kind, set())
            shared, of = len(mine & other.replies.get("reply", set())), len(mine)
        else:
            shared, of = len(one.prompts & other.prompts), len(one.prompts)
        if shared:
            told = f"{shared:,} of {of:,} {check.what}. {check.follows}"
            yield Overlap(check.name, check.other, shared, of, told)
