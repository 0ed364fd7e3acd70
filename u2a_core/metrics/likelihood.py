"""Metrics of token log-probabilities: perplexity, retain NLL, membership, HaluEval accuracy.

A sample is the array of log π(y_t) of its reply's tokens, in nat. One with a log-probability that
is not finite, or without tokens, is missing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from u2a_core.errors import DataError
from u2a_core.metrics.estimates import auc
from u2a_core.types import Estimate

MIN_K = 0.2
"""Share of a reply's tokens that Min-K% looks at."""
_RESAMPLES = 4000


def mean_log_probs(samples: Sequence[np.ndarray]) -> np.ndarray:
    """(n,) the mean token log-probability of each sample, ≤ 0; NaN where it is missing."""
    return np.asarray([float(row.mean()) if _usable(row) else math.nan for row in samples])


def min_k_log_probs(samples: Sequence[np.ndarray], k: float = MIN_K) -> np.ndarray:
    """(n,) Min-K%: the mean of the share k of lowest token log-probabilities (Shi et al. 2023).

    At least one token counts; higher means more like what the model was trained on.
    """
    return np.asarray([_lowest(row, k) if _usable(row) else math.nan for row in samples])


def _lowest(row: np.ndarray, k: float) -> float:
    return float(np.sort(row)[: max(1, int(len(row) * k))].mean())


def _usable(row: np.ndarray) -> bool:
    return len(row) > 0 and bool(np.isfinite(row).all())


def perplexity(
    samples: Sequence[np.ndarray], units: Sequence[int], *, seed: int = 0
) -> tuple[Estimate, int]:
    """Perplexity ↓: exp of the mean NLL over all tokens of all samples, exp(ΣNLL/Σtokens).

    So long replies count for more than short ones. The 95 % interval resamples units, each with
    all its tokens.

    Args:
        samples: token log-probabilities.
        units: the prompt of each sample.
        seed: of the resampling.

    Returns:
        The estimate, whose n counts all samples, and how many of them were valid.

    Raises:
        DataError: if no sample is valid.
    """
    valid = [(row, unit) for row, unit in zip(samples, units, strict=True) if _usable(row)]
    if not valid:
        raise DataError("Perplexity needs a sample with finite log-probabilities; got none.")
    _, place = np.unique([unit for _, unit in valid], return_inverse=True)
    nll = np.bincount(place, weights=[-float(row.sum()) for row, _ in valid])
    tokens = np.bincount(place, weights=[len(row) for row, _ in valid])
    value = float(np.exp(nll.sum() / tokens.sum()))
    if len(nll) == 1:
        return Estimate(value, -math.inf, math.inf, len(samples)), len(valid)
    draws = np.random.default_rng(seed).integers(len(nll), size=(_RESAMPLES, len(nll)))
    low, high = np.quantile(np.exp(nll[draws].sum(1) / tokens[draws].sum(1)), [0.025, 0.975])
    return Estimate(value, float(low), float(high), len(samples)), len(valid)


def membership(members: np.ndarray, outsiders: np.ndarray) -> tuple[Estimate, int]:
    """AUC ↓ by which a score tells members (the negatives) from outsiders, ties ½.

    Args:
        members: (n,) higher = more like training data: minus the NLL, or Min-K%.
        outsiders: (m,) of samples that the model was never trained on.

    Returns:
        The AUC, ½ where nothing is told, whose n counts both; and how many were valid.
    """
    scores = np.concatenate([members, outsiders])
    positive = np.arange(len(scores)) < len(members)
    valid = np.isfinite(scores)
    found = auc(scores[valid], positive[valid])
    return Estimate(found.mean, found.low, found.high, len(scores)), int(valid.sum())


def prefers_right(right: Sequence[np.ndarray], wrong: Sequence[np.ndarray]) -> np.ndarray:
    """HaluEval accuracy ↑, one value a question: 1 if the right answer is likelier per token.

    Compared are mean token log-probabilities, so that length does not decide; a tie is ½, and a
    question with a missing side is missing.
    """
    ours, theirs = mean_log_probs(right), mean_log_probs(wrong)
    found = np.where(ours > theirs, 1.0, np.where(ours == theirs, 0.5, 0.0))
    return np.where(np.isfinite(ours) & np.isfinite(theirs), found, np.nan)
