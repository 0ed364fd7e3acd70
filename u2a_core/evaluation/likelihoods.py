"""Token log-probabilities of whole sets of replies, and the metrics that they give."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import torch

from u2a_core import metrics
from u2a_core.alignment import encoded
from u2a_core.config import Settings
from u2a_core.evaluation.sets import Sets
from u2a_core.losses import response_log_probs
from u2a_core.metrics import Measurement, of_estimate, unmeasured
from u2a_core.models import Policy
from u2a_core.types import Prompt, Sample

Tick: TypeAlias = Callable[[int, int], None]


@torch.no_grad()
def token_log_probs(
    policy: Policy, samples: Sequence[Sample], settings: Settings, tick: Tick
) -> list[np.ndarray]:
    """Log π(y_t) of each reply's tokens, its end token included, in sample order.

    An empty reply has none: the text tells nothing of it; nor has one whose prompt leaves no room.
    """
    there = [
        i
        for i, sample in enumerate(samples)
        if sample.response.strip() and policy.has_room(sample.prompt)
    ]
    found = [np.empty(0)] * len(samples)
    if not there:
        return found
    rows, _ = encoded(policy, [samples[i] for i in there], settings)
    done = 0
    for batch in rows:
        tick(done, len(there))
        own = response_log_probs(policy.model, batch)
        pieces = own.values.double().cpu().numpy()
        for place, row in zip(
            own.index.tolist(),
            np.split(pieces, np.cumsum(own.counts.tolist())[:-1]),
            strict=True,
        ):
            found[there[place]] = row
        done += len(batch.index)
    tick(done, len(there))
    return found


def likelihoods(
    policy: Policy, sets: Sets, settings: Settings, stage: Callable[[str], Tick]
) -> tuple[list[Measurement], dict[str, np.ndarray]]:
    """Metrics of the model's likelihoods.

    Returns:
        The membership AUCs; and metric → one value a unit, for those that are means.
    """

    def scored(name: str, samples: Sequence[Sample]) -> list[np.ndarray]:
        return token_log_probs(policy, samples, settings, stage(f"likelihood of {name}"))

    values: dict[str, np.ndarray] = {}
    found: list[Measurement] = []
    if sets.retain:
        values["retain_nll"] = -metrics.mean_log_probs(scored("the retain set", sets.retain))
    if sets.questions:
        right, wrong = (
            scored(f"{side} answers", _answers(sets, side)) for side in ("right", "hallucinated")
        )
        values["halueval_accuracy"] = metrics.prefers_right(right, wrong)
    if sets.negatives and sets.outsiders:
        inside = scored("the negatives", sets.negatives)
        outside = scored("outsiders", sets.outsiders)
        for name, score in (
            ("membership_loss", metrics.mean_log_probs),
            ("membership_mink", metrics.min_k_log_probs),
        ):
            found.append(membership_measured(score(inside), score(outside), name))
    return found, values


def membership_measured(inside: np.ndarray, outside: np.ndarray, name: str) -> Measurement:
    """A membership AUC of the negatives' and the outsiders' scores."""
    estimate, valid = metrics.membership(inside, outside)
    if not np.isfinite(estimate.mean):
        reason = f"Only {valid} of {estimate.n} likelihoods are finite: one side has none."
        return unmeasured(name, reason, n=estimate.n)
    return of_estimate(name, estimate, estimate.n, valid)


def _answers(sets: Sets, side: str) -> list[Sample]:
    return [
        Sample(str(i), pair.prompt, pair.chosen if side == "right" else pair.rejected)
        for i, pair in enumerate(sets.questions)
    ]


def fluency(
    original: Policy,
    replies: Sequence[tuple[int, str]],
    prompts: Sequence[Prompt],
    settings: Settings,
    tick: Tick,
) -> Measurement:
    """Perplexity of replies under the original model; how far a model went from any language.

    Args:
        original: the model before unlearning.
        replies: prompt index and text.
        prompts: the test prompts.
        settings: of encoding.
        tick: told how far it is.
    """
    samples = [Sample(str(i), prompts[owner], text) for i, (owner, text) in enumerate(replies)]
    rows = token_log_probs(original, samples, settings, tick)
    if not any(len(row) and np.isfinite(row).all() for row in rows):
        return unmeasured("perplexity", f"All {len(rows)} replies are empty.", n=len(rows))
    estimate, valid = metrics.perplexity(rows, [owner for owner, _ in replies])
    return of_estimate("perplexity", estimate, len(rows), valid)
