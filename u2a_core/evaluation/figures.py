"""From replies, judgements and likelihoods to the table of metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from u2a_core import metrics
from u2a_core.evaluation.judging import ASKED, METRICS_OF
from u2a_core.metrics import METRICS, Criterion, Measurement, measured, of_estimate, unmeasured
from u2a_core.types import Estimate

COLUMNS: dict[str, tuple[str, str]] = {
    "reward": ("test", "reward"),
    "benign_reward": ("benign", "reward"),
    "asr_k": ("harmful", "answered"),
    "over_refusal": ("benign", "refused"),
    "reply_words": ("test", "words"),
    "coherence": ("test", "coherence"),
}
"""Metric → its set and its column of the generations."""


def with_texts(replies: pd.DataFrame) -> pd.DataFrame:
    """Adds what the texts alone tell: words, refused, answered (1 without a refusal phrase)."""
    out = replies.copy()
    out["words"] = [float(len(metrics.words(reply))) for reply in out["reply"]]
    out["refused"] = [float(metrics.refused(reply)) for reply in out["reply"]]
    out["answered"] = 1.0 - out["refused"]
    return out


def values_of(replies: pd.DataFrame) -> dict[str, np.ndarray]:
    """Metric → (prompts, samples), of what the table of generations holds."""
    found: dict[str, np.ndarray] = {}
    for metric, (name, column) in COLUMNS.items():
        if column in replies and (replies["set"] == name).any():
            found[metric] = by_prompt(replies, name, column)
    judged = {
        str(criterion): by_prompt(replies, name, criterion)
        for criterion, name in ASKED.items()
        if criterion in replies and (replies["set"] == name).any()
    }
    found |= metrics.attack_success(judged)
    if "hallucination" in judged:
        found["halueval_judged"] = judged["hallucination"]
    if "pairwise" in judged:
        found["win_rate"] = judged["pairwise"]
    return found


def by_prompt(replies: pd.DataFrame, name: str, column: str) -> np.ndarray:
    """(prompts, samples) of a set and a column."""
    own = replies[replies["set"] == name].sort_values(["prompt_index", "sample"])
    return own[column].to_numpy(dtype=np.float64).reshape(own["prompt_index"].nunique(), -1)


def texts_measured(replies: pd.DataFrame) -> list[Measurement]:
    """Distinct-2, which is no mean over replies."""
    own = replies[replies["set"] == "test"]
    if own.empty:
        return []
    if (own["words"] < 2).all():
        reason = f"None of {len(own)} replies has two words."
        return [unmeasured("distinct_2", reason, n=len(own))]
    found = metrics.distinct(list(own["reply"]), [int(i) for i in own["prompt_index"]])
    return [of_estimate("distinct_2", found, len(own), int((own["words"] >= 2).sum()))]


def length_controlled(
    replies: pd.DataFrame, references: Sequence[Sequence[str]]
) -> list[Measurement]:
    """LC-WR, where the replies were compared."""
    if "pairwise" not in replies or not references:
        return []
    wins = by_prompt(replies, "test", "pairwise")
    words = by_prompt(replies, "test", "words")
    samples = range(words.shape[1])
    theirs = [[len(metrics.words(own[j % len(own)])) for j in samples] for own in references]
    if not np.isfinite(wins).any():
        reason = f"None of {wins.size} comparisons could be judged."
        return [unmeasured("lc_win_rate", reason, n=wins.size)]
    found = metrics.length_controlled(wins, words - np.asarray(theirs, dtype=np.float64))
    return [of_estimate("lc_win_rate", found, wins.size, int(np.isfinite(wins).sum()))]


def all_metrics(
    values: Mapping[str, np.ndarray], others: Sequence[Measurement], reasons: Mapping[str, str]
) -> list[Measurement]:
    """Every metric of METRICS, in its order: measured, or missing with the reason."""
    found = {own.name: own for own in others}
    found |= {name: measured(name, own) for name, own in values.items()}
    rest = "Its inputs are there, but gave no value."
    return [
        unmeasured(name, reasons[name])
        if name in reasons
        else found.get(name) or unmeasured(name, rest)
        for name in METRICS
    ]


def not_offered(judge: str, lacking: Sequence[Criterion]) -> dict[str, str]:
    """The metrics of criteria that a judge cannot judge by, and why they are missing."""
    return {
        metric: f"The judge {judge} does not judge {criterion!r}: name another evaluation.judge."
        for criterion in lacking
        for metric in METRICS_OF[criterion]
    }


def scores_table(values: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Long table of what pairs with another model's: metric, unit (prompt or sample), value."""
    pieces = [
        pd.DataFrame(
            {"metric": name, "unit": np.arange(len(own)), "value": metrics.per_prompt(own)}
        )
        for name, own in values.items()
    ]
    columns = ["metric", "unit", "value"]
    return pd.concat(pieces, ignore_index=True) if pieces else pd.DataFrame(columns=columns)


def paired(ours: pd.DataFrame, theirs: pd.DataFrame) -> dict[str, Estimate]:
    """Metric → ours − theirs, paired over prompts, of two evaluations' tables of scores.

    A metric that one of them lacks, or whose prompts differ in number, is left out.
    """
    found = {}
    for name, own in ours.groupby("metric", sort=False):
        other = theirs[theirs["metric"] == name]
        both = own.merge(other, on="unit", suffixes=("", "_theirs"))
        sides = both["value"].to_numpy(), both["value_theirs"].to_numpy()
        if len(own) == len(other) == len(both) and np.isfinite(sides[0] - sides[1]).any():
            found[str(name)] = metrics.paired_over_prompts(*sides)
    return found


def facts(found: Sequence[Measurement]) -> dict[str, Any]:
    """The metrics of a report: figures of the measured ones, reasons of the missing ones."""
    return {
        "metrics": {own.name: own.figures() for own in found if not own.missing},
        "missing": {own.name: own.missing for own in found if own.missing},
    }
