"""Estimates: intervals that cover, pairing by prompt, AUC."""

import math

import numpy as np
import pytest
from scipy import stats

from u2a_core import metrics
from u2a_core.errors import DataError


def test_bootstrap_interval_covers_the_mean_at_its_stated_rate():
    generator = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        found = metrics.bootstrap_mean(generator.exponential(size=60))
        covered += found.low <= 1.0 <= found.high
    assert 0.88 <= covered / 200 <= 0.99  # 95 % nominal; 200 trials have a standard error of 1.5 %


def test_bootstrap_is_reproducible():
    values = [float(i) for i in range(20)]
    assert metrics.bootstrap_mean(values) == metrics.bootstrap_mean(values)


def test_one_value_has_no_interval():
    assert metrics.bootstrap_mean([2.0]).high == math.inf


def test_no_values_are_refused():
    with pytest.raises(DataError, match="at least one value"):
        metrics.bootstrap_mean([])


def test_reward_counts_replies_and_resamples_prompts():
    """Replies of one prompt that agree carry no more than one: the interval must not shrink."""
    once = np.random.default_rng(1).normal(size=(50, 1))
    twice = np.repeat(once, 2, axis=1)
    one, two = metrics.reward_estimate(once), metrics.reward_estimate(twice)
    assert (one.n, two.n) == (50, 100)
    assert (one.low, one.high) == (two.low, two.high)


def test_pairing_removes_what_both_share():
    generator = np.random.default_rng(2)
    shared = generator.normal(scale=10, size=80)
    found = metrics.paired_difference(shared + 0.5 + generator.normal(size=80) * 0.1, shared)
    assert found.low > 0.4
    assert found.high < 0.6
    assert found.n == 80


def test_pairs_must_match():
    with pytest.raises(DataError, match="same units"):
        metrics.paired_difference(np.zeros(3), np.zeros(4))


@pytest.mark.parametrize(
    ("scores", "positive", "expected"),
    [
        ([3.0, 2.0, 1.0, 0.0], [1, 1, 0, 0], 1.0),
        ([0.0, 1.0, 2.0, 3.0], [1, 1, 0, 0], 0.0),
        ([1.0, 1.0, 1.0, 1.0], [1, 1, 0, 0], 0.5),
        ([3.0, 1.0, 2.0, 0.0], [1, 1, 0, 0], 0.75),
    ],
)
def test_auc_by_hand(scores: list[float], positive: list[int], expected: float):
    found = metrics.auc(scores, [bool(p) for p in positive])
    assert (found.mean, found.n) == (expected, 4)
    assert found.low <= expected <= found.high


def test_auc_interval_covers_the_true_value_at_its_stated_rate():
    """N(1, 1) against N(0, 1): AUC = Φ(1/√2)."""
    generator, covered = np.random.default_rng(3), 0
    truth = stats.norm.cdf(1 / math.sqrt(2))
    mask = np.arange(80) < 30
    for _ in range(150):
        found = metrics.auc(generator.normal(size=80) + mask, mask)
        covered += found.low <= truth <= found.high
    assert 0.88 <= covered / 150 <= 0.99  # 95 % nominal; standard error 1.8 %


def test_auc_of_one_class_is_missing():
    assert math.isnan(metrics.auc([1.0, 2.0], [True, True]).mean)
