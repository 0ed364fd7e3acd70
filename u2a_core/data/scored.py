"""Records whose replies have scores → entries, as in `schemas`; a tie makes no reply the worse."""

from __future__ import annotations

from collections.abc import Mapping

from u2a_core.data.columns import Kind
from u2a_core.data.entries import Cell, Entry, Reply, first_of, joined, number
from u2a_core.data.files import Record
from u2a_core.data.schemas import preferred
from u2a_core.data.turns import Unusable

_ALL: tuple[Kind, ...] = ("rejected", "chosen", "pairs")

SCORE_COLUMNS = (
    ("score_chosen", "score_rejected"),
    ("chosen_score", "rejected_score"),
    ("chosen-rating", "rejected-rating"),
    ("chosen_rating", "rejected_rating"),
    ("rating_chosen", "rating_rejected"),
)
"""Columns of the scores of chosen and rejected: UltraFeedback binarized, and Argilla's sets."""


def scored(record: Record) -> Entry:
    """A chosen and a rejected reply with a score each; a tie says of neither that it is better."""
    asked = first_of(record, "prompt", "question")
    if asked is None and "instruction" in record:
        asked = joined(record["instruction"], record.get("input"))
    entry = preferred(record, prompt=asked)
    better, worse = scores(record)
    if better is None or worse is None or better > worse:
        return entry
    reason = (
        "chosen and rejected have the same score"
        if better == worse
        else "chosen has a lower score than rejected"
    )
    return Entry(entry.prompt, without=dict.fromkeys(_ALL, reason))


def scores(record: Record) -> tuple[float | None, float | None]:
    """Of the chosen and of the rejected reply; they may stand in a column of their own."""
    inner = record.get("metadata")
    inner = inner if isinstance(inner, Mapping) else {}
    found = {**inner, **record}
    for names in SCORE_COLUMNS:
        better, worse = (number(found.get(name)) for name in names)
        if better is not None and worse is not None:
            return better, worse
    return None, None


def completions(record: Record) -> Entry:
    """Several replies with a score each: the best and the worst; of equals the first.

    A reply without a score is neither.
    """
    asked, found = record["instruction"], record["completions"]
    if not isinstance(found, list):
        raise Unusable(f"completions must be a list, got {type(found).__name__}")
    scored = [
        (score, Reply(reply, f"response of completion {i}"))
        for i, (reply, score) in enumerate(map(_completion, found), start=1)
        if score is not None
    ]
    reason = "has fewer than two replies with an overall_score"
    if len(scored) > 1:
        (low, worst), (high, best) = (pick(scored, key=lambda one: one[0]) for pick in (min, max))
        if low < high:
            return Entry(asked, (worst,), (best,), ((best, worst),), "instruction")
        reason = "all replies have the same overall_score"
    return Entry(asked, asked="instruction", without=dict.fromkeys(_ALL, reason))


def _completion(found: Cell) -> tuple[Cell, float | None]:
    """The reply and its score."""
    if not isinstance(found, Mapping):
        raise Unusable(
            f"a completion must have response and overall_score, got {type(found).__name__}"
        )
    return found.get("response"), number(found.get("overall_score"))
