"""Preference pairs → everything an experiment needs, split as in the paper's released code.

Of the prompts some measure J, some test, and the rest fine-tune the original model: on the chosen
reply, but on the rejected one for a share `negative` of them. The negative set is a share `forget`
of those rejected replies; Retrain may see all others.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from u2a_core.data import as_record, write_records
from u2a_core.errors import DataError
from u2a_core.types import PreferencePair, prompt_text


@dataclass(frozen=True)
class Split:
    """Shares of a data set.

    Attributes:
        negative: of the fine-tuning pairs, those whose rejected reply is learned.
        forget: of these rejected replies, those that are to be unlearned.
        preference: of the prompts, those that measure J.
        test: of the prompts, those that test.
    """

    negative: float
    forget: float
    preference: float = 0.2
    test: float = 0.2


SPLITS = {
    "safe-rlhf": Split(0.65, 0.65),
    "ultrafeedback": Split(0.7, 0.8),
    "halueval": Split(0.65, 0.65),
}
"""Task → its shares; those of halueval are not known, and taken from safe-rlhf."""
_LEAST = 8
"""Pairs that each part must have."""


def split_pairs(
    pairs: Sequence[PreferencePair],
    split: Split,
    *,
    seed: int,
    most: int = 0,
    mistaken: float = 0.0,
    skill: Sequence[dict[str, Any]] = (),
) -> dict[str, list[dict[str, Any]]]:
    """The files of an experiment by name: mixture, negatives, preferences, test_prompts, truth, ….

    All pairs of a prompt are in one part, so that nothing learned is tested.

    Args:
        pairs: the data set, of any format that gives pairs.
        split: its shares.
        seed: of every draw.
        most: largest size of the negative set; 0: no limit.
        mistaken: share of the negative set that are good replies, flagged by mistake; for the
            embedded scenario, whose rejected replies are all bad. Real sets have their own.
        skill: records of the retain set for the mixture, where the base model lacks that skill.

    Raises:
        DataError: if a part would be too small.
    """
    draw = random.Random(f"split {seed}")
    asked, tested, learned = _parts(pairs, split, draw)
    cut = round(len(learned) * split.negative)
    bad, good = learned[:cut], learned[cut:]
    flagged = _never_preferred(bad[: round(cut * split.forget)], learned)
    negatives, truth = _negatives(flagged, good, most=most, mistaken=mistaken, draw=draw)
    learned_as = [(pair, pair.chosen) for pair in good] + [(pair, pair.rejected) for pair in bad]
    mixture = [*(_sample(pair, reply) for pair, reply in learned_as), *skill]
    draw.shuffle(mixture)
    return {
        "mixture": mixture,
        "negatives": negatives,
        "truth": truth if mistaken else [],
        "preferences": [as_record(pair) for pair in asked],
        "test_prompts": [as_record(pair.prompt) for pair in tested],
        "reference": [_sample(pair, pair.chosen) for pair in tested],
        "questions": [as_record(pair) for pair in tested],
        "outsiders": [_sample(pair, pair.rejected) for pair in tested],
    }


def _parts(
    pairs: Sequence[PreferencePair], split: Split, draw: random.Random
) -> tuple[list[PreferencePair], list[PreferencePair], list[PreferencePair]]:
    """Pairs for J, one pair of every test prompt, and the pairs to fine-tune on, in random order.

    Raises:
        DataError: if a part would be too small.
    """
    by_prompt: dict[str, list[PreferencePair]] = {}
    for pair in pairs:
        by_prompt.setdefault(prompt_text(pair.prompt), []).append(pair)
    prompts = sorted(by_prompt)
    draw.shuffle(prompts)
    first, second = (round(len(prompts) * share) for share in (split.preference, split.test))
    asked = [pair for prompt in prompts[:first] for pair in by_prompt[prompt]]
    tested = [by_prompt[prompt][0] for prompt in prompts[first : first + second]]
    learned = [pair for prompt in prompts[first + second :] for pair in by_prompt[prompt]]
    if min(len(asked), len(tested), len(learned)) < _LEAST:
        raise DataError(
            f"The preference pairs must give at least {_LEAST} to each part; got {len(asked)} for "
            f"J, {len(tested)} to test and {len(learned)} to fine-tune on. Give more pairs."
        )
    draw.shuffle(learned)
    return asked, tested, learned


def _never_preferred(
    flagged: Sequence[PreferencePair], pairs: Sequence[PreferencePair]
) -> list[PreferencePair]:
    """Those whose rejected reply is the chosen one of no pair.

    Of several replies to a prompt one may be worse than another, and be preferred to a third.

    Raises:
        DataError: if there are none.
    """
    preferred = {(pair.prompt, pair.chosen) for pair in pairs}
    found = [pair for pair in flagged if (pair.prompt, pair.rejected) not in preferred]
    if not found:
        raise DataError(
            "The preference pairs must have rejected replies that no other pair prefers; got none. "
            "Give other pairs."
        )
    return found


def write_split(folder: Path, files: dict[str, list[dict[str, Any]]]) -> dict[str, Path]:
    """Writes the parts that are not empty, as JSON lines; where each one is."""
    written = {}
    for name, records in files.items():
        if records:
            written[name] = folder / f"{name}.jsonl"
            write_records(written[name], records)
    return written


def _negatives(
    flagged: Sequence[PreferencePair],
    good: Sequence[PreferencePair],
    *,
    most: int,
    mistaken: float,
    draw: random.Random,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The negative set in random order, and which of its samples are good replies."""
    bad, kept = _distinct(flagged, "rejected"), _distinct(good, "chosen")
    size = min(most or len(bad), len(bad))
    wrong = min(round(size * mistaken), len(kept))
    found = [(record, False) for record in bad[: size - wrong]]
    found += [(record, True) for record in kept[:wrong]]
    draw.shuffle(found)
    samples = [{"id": f"n{i:05d}", **record} for i, (record, _) in enumerate(found)]
    truth = [{"id": f"n{i:05d}", "mislabelled": flag} for i, (_, flag) in enumerate(found)]
    return samples, truth


def _distinct(pairs: Sequence[PreferencePair], side: str) -> list[dict[str, Any]]:
    """One side of the pairs as samples, each once, in their order."""
    found = {(prompt_text(p.prompt), getattr(p, side)): p for p in pairs}
    return [_sample(pair, reply) for (_, reply), pair in found.items()]


def _sample(pair: PreferencePair, reply: str) -> dict[str, Any]:
    return {**as_record(pair.prompt), "response": reply}
