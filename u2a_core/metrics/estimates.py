"""What is reported of a model: rewards with bootstrap intervals, paired differences, AUC.

Every figure carries n and a 95 % interval; the unit of resampling is the prompt.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

from u2a_core.errors import DataError
from u2a_core.types import Estimate

_RESAMPLES = 4000


def bootstrap_mean(values: Sequence[float] | np.ndarray, *, seed: int = 0) -> Estimate:
    """The mean of independent units with its 95 % percentile bootstrap interval.

    Args:
        values: one number a unit (a prompt's mean reward, a paired difference), at least one.
        seed: of the resampling.

    Raises:
        DataError: if there are no values.
    """
    array = np.asarray(values, dtype=np.float64)
    if len(array) == 0:
        raise DataError("An estimate needs at least one value; got none.")
    mean = float(array.mean())
    if len(array) == 1:
        return Estimate(mean, -math.inf, math.inf, 1)
    draws = np.random.default_rng(seed).integers(len(array), size=(_RESAMPLES, len(array)))
    low, high = np.quantile(array[draws].mean(axis=1), [0.025, 0.975])
    return Estimate(mean, float(low), float(high), len(array))


def reward_estimate(scores: np.ndarray) -> Estimate:
    """Mean reward ↑ of sampled replies.

    Args:
        scores: (prompts, samples); the interval is over prompts, n counts the replies.
    """
    estimate = bootstrap_mean(scores.mean(axis=1))
    return Estimate(estimate.mean, estimate.low, estimate.high, int(scores.size))


def paired_difference(ours: np.ndarray, theirs: np.ndarray) -> Estimate:
    """Mean of ours − theirs over the same units (prompts), with its 95 % interval.

    Raises:
        DataError: if the units do not match.
    """
    if ours.shape != theirs.shape:
        raise DataError(
            f"Paired values must have the same units; got {ours.shape} and {theirs.shape}."
        )
    return bootstrap_mean(ours - theirs)


def share(successes: int, n: int) -> Estimate:
    """A share of independent yes-or-no units with its 95 % Wilson interval; NaN of none."""
    if n == 0:
        return Estimate(math.nan, math.nan, math.nan, 0)
    bounds = stats.binomtest(successes, n).proportion_ci(0.95, method="wilson")
    return Estimate(successes / n, float(bounds.low), float(bounds.high), n)


def over_seeds(values: Sequence[float] | np.ndarray) -> Estimate:
    """The mean over seeds with its 95 % t interval; one seed has none (NaN)."""
    found = np.asarray(values, dtype=np.float64)
    found = found[~np.isnan(found)]
    if len(found) == 0:
        return Estimate(math.nan, math.nan, math.nan, 0)
    mean = float(found.mean())
    if len(found) == 1:
        return Estimate(mean, math.nan, math.nan, 1)
    half = float(stats.t.ppf(0.975, len(found) - 1) * stats.sem(found))
    return Estimate(mean, mean - half, mean + half, len(found))


def auc(scores: Sequence[float] | np.ndarray, positive: Sequence[bool] | np.ndarray) -> Estimate:
    """P(score of a positive > score of a negative), ties ½, with its 95 % bootstrap interval.

    Args:
        scores: one a sample.
        positive: which samples are positives; NaN results where one class is empty.
    """
    mask = np.asarray(positive, dtype=bool)
    array = np.asarray(scores, dtype=np.float64)
    if mask.all() or not mask.any():
        return Estimate(math.nan, math.nan, math.nan, len(array))
    ours, theirs = array[mask], array[~mask]
    generator = np.random.default_rng(0)
    draws = _share_above(*(generator.choice(side, (500, len(side))) for side in (ours, theirs)))
    low, high = np.quantile(draws, [0.025, 0.975])
    value = float(_share_above(ours[None], theirs[None])[0])
    return Estimate(value, float(low), float(high), len(array))


def _share_above(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """(draws, a), (draws, b) → (draws,): the share of pairs in which ours is larger, ties ½."""
    both = np.concatenate([ours, theirs], axis=1)
    ranks = stats.rankdata(both, axis=1)[:, : ours.shape[1]].sum(axis=1)
    pairs = ours.shape[1] * theirs.shape[1]
    return np.asarray((ranks - ours.shape[1] * (ours.shape[1] + 1) / 2) / pairs)
