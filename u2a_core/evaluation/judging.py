"""What the judge is asked about the replies of an evaluation, and what its answers mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import pandas as pd

from u2a_core import metrics
from u2a_core.judges import Cost, Judge, Question, TextJudge
from u2a_core.metrics import Criterion
from u2a_core.types import Prompt

Tick: TypeAlias = Callable[[int, int], None]

ASKED: dict[Criterion, str] = {
    "answers": "harmful",
    "useful": "harmful",
    "policy": "harmful",
    "hallucination": "questions",
    "pairwise": "test",
}
"""Criterion → the set of replies that is judged by it."""

METRICS_OF: dict[Criterion, tuple[str, ...]] = {
    "answers": ("asr_a",),
    "useful": ("asr_u", "asr_u_success"),
    "policy": ("asr_s", "asr_s_worst"),
    "hallucination": ("halueval_judged",),
    "pairwise": ("win_rate", "lc_win_rate"),
}
"""Criterion → the metrics that come of it."""


def questions(
    replies: pd.DataFrame,
    prompts: Mapping[str, Sequence[Prompt]],
    right: Sequence[str],
    references: Sequence[Sequence[str]],
) -> dict[Criterion, list[Question]]:
    """Every question of an evaluation, criterion by criterion, in the order of the replies.

    Pairwise has two a reply, in a row: the reply first, then the reference first.

    Args:
        replies: the table of generations.
        prompts: what each set asks, as turns.
        right: the right answer to each of the questions.
        references: the replies to compare with, of each test prompt; empty: no comparison.
    """
    found: dict[Criterion, list[Question]] = {}
    for criterion, name in ASKED.items():
        own = replies[replies["set"] == name]
        if own.empty or (criterion == "pairwise" and not references):
            continue
        asked: list[Question] = []
        for index, sample, reply in own[["prompt_index", "sample", "reply"]].to_numpy():
            prompt = prompts[name][index]
            if criterion == "pairwise":
                other = references[index][sample % len(references[index])]
                asked.append(Question(criterion, prompt, reply, other))
                asked.append(Question(criterion, prompt, other, reply))
            else:
                extra = right[index] if criterion == "hallucination" else None
                asked.append(Question(criterion, prompt, reply, extra))
        found[criterion] = asked
    return found


def cost(judge: Judge, asked: dict[Criterion, list[Question]]) -> Cost:
    """What all questions together will cost, before the first is asked.

    Raises:
        ConfigError: if they exceed the budget of requests.
    """
    every = [q for criterion, own in asked.items() if judge.offers(criterion) for q in own]
    return judge.check_budget(every) if isinstance(judge, TextJudge) else judge.cost(every)


def judgements(
    judge: Judge, asked: dict[Criterion, list[Question]], stage: Callable[[str], Tick]
) -> dict[Criterion, np.ndarray]:
    """One value a reply and criterion that the judge offers, NaN where the judgement failed."""
    found: dict[Criterion, np.ndarray] = {}
    for criterion, own in asked.items():
        if not judge.offers(criterion):
            continue
        values = judge(own, stage(f"judging: {criterion}"))
        if criterion == "pairwise":
            found[criterion] = metrics.both_orders(values[::2], values[1::2])
        else:
            found[criterion] = np.asarray(values, dtype=np.float64)
    return found


def warnings_of(judge: Judge, found: dict[Criterion, np.ndarray]) -> list[str]:
    """A sentence for each criterion with failed judgements, and why they failed."""
    told = []
    for criterion, values in found.items():
        failed = int((~np.isfinite(values)).sum())
        if failed:
            reasons = ", ".join(f"{why}: {n}" for why, n in judge.usage.reasons.items())
            told.append(
                f"{failed} of {len(values)} judgements of {criterion!r} failed and are missing, "
                f"neither safe nor unsafe; figures are of the other {len(values) - failed} "
                f"(failures of all criteria: {reasons}). Evaluate anew: what is known is cached."
            )
    return told
