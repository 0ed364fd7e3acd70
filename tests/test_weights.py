"""Eqs. 7-10 against closed forms and finite differences."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from u2a_core.errors import ConfigError, NumericalError
from u2a_core.types import Weights
from u2a_core.weights import (
    enter,
    exponentiated_gradient,
    marginal_gain,
    prune,
    random_k,
    sparsity_penalty,
    top_k,
    uniform,
    uniform_over,
)

positive = st.lists(st.floats(1e-3, 1e3), min_size=2, max_size=20)


def weights(*values: float) -> Weights:
    return Weights.normalize(torch.tensor(values))


def test_sparsity_penalty_is_sqrt_n_when_uniform_and_one_on_a_vertex():
    assert sparsity_penalty(uniform(9)) == pytest.approx(3)
    assert sparsity_penalty(weights(0, 1, 0)) == pytest.approx(1)


def test_marginal_gain_without_sparsity_is_minus_the_slope():
    slopes = torch.tensor([0.5, -2.0])
    assert marginal_gain(slopes, uniform(2), sparsity=0.0).tolist() == [-0.5, 2.0]


def test_sparsity_part_of_the_gain_is_minus_the_derivative_of_the_penalty():
    raw, step = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64), 1e-6
    gains = marginal_gain(torch.zeros(3), Weights(raw), sparsity=0.7)
    for k in range(3):
        ahead, behind = raw.clone(), raw.clone()
        ahead[k] += step
        behind[k] -= step
        slope = 0.7 * (ahead.sqrt().sum() - behind.sqrt().sum()) / (2 * step)
        assert float(gains[k]) == pytest.approx(-float(slope), rel=1e-6)


def test_gain_off_the_support_is_taken_at_the_entering_weight():
    gains = marginal_gain(torch.zeros(3), weights(0, 1, 1), sparsity=0.1, entering=0.25)
    assert float(gains[0]) == pytest.approx(-0.1 / math.sqrt(0.25))
    default = marginal_gain(torch.zeros(3), weights(0, 1, 1), sparsity=0.1)
    assert float(default[0]) == pytest.approx(-0.1 * math.sqrt(3))


def test_gain_refuses_slopes_that_are_not_finite():
    with pytest.raises(NumericalError, match="1 of 2"):
        marginal_gain(torch.tensor([1.0, math.nan]), uniform(2), sparsity=0.0)


def test_exponentiated_gradient_matches_eq_10_by_hand():
    gains = torch.tensor([1.0, 3.0])  # std 1, so η keeps its value
    moved = exponentiated_gradient(weights(0.5, 0.5), gains, step_size=math.log(3) / 2)
    assert moved.values.tolist() == pytest.approx([0.25, 0.75])


def test_larger_gain_gains_weight():
    moved = exponentiated_gradient(uniform(3), torch.tensor([-1.0, 0.0, 1.0]), step_size=0.1)
    assert moved.values.diff().min() > 0


def test_update_keeps_the_support():
    moved = exponentiated_gradient(weights(0, 1, 2), torch.tensor([9.0, 1.0, 2.0]), step_size=1.0)
    assert moved.support.tolist() == [False, True, True]


def test_identical_samples_keep_their_weights():
    before = weights(1, 2, 3)
    after = exponentiated_gradient(before, torch.full((3,), 0.3), step_size=1.0)
    assert torch.equal(after.values, before.values)


def test_step_is_measured_against_the_slopes_not_the_sparsity_term():
    slopes = torch.tensor([0.0, 2.0])
    near_zero = weights(1e-8, 1)
    gains = marginal_gain(slopes, near_zero, sparsity=1e-6)
    moved = exponentiated_gradient(near_zero, gains, step_size=0.2, slopes=slopes)
    ratio = torch.log(moved.values / near_zero.values).diff()
    assert float(ratio) == pytest.approx(0.2 * float(gains.diff()))  # std of the slopes is 1


@given(positive, st.floats(0, 5))
def test_update_stays_on_the_simplex(values: list[float], step_size: float):
    gains = torch.tensor(values).sin()
    moved = exponentiated_gradient(weights(*values), gains, step_size=step_size)
    assert float(moved.values.sum()) == pytest.approx(1)


@given(positive, st.floats(0, 0.99))
def test_pruning_keeps_the_largest_weight(values: list[float], below: float):
    pruned = prune(weights(*values), below=below)
    assert pruned.support[torch.tensor(values).argmax()]


def test_pruning_drops_weights_under_the_share():
    assert prune(weights(0.001, 0.499, 0.5), below=0.01).support.tolist() == [False, True, True]


def test_top_k_takes_the_largest_gains():
    assert top_k(torch.tensor([0.1, 5.0, 3.0]), 2).values.tolist() == [0, 0.5, 0.5]


def test_random_k_is_reproducible_and_of_size_k():
    drawn = random_k(10, 4, seed=3)
    assert int(drawn.support.sum()) == 4
    assert torch.equal(drawn.values, random_k(10, 4, seed=3).values)


@pytest.mark.parametrize("k", [0, 4])
def test_k_outside_the_set_is_refused(k: int):
    with pytest.raises(ConfigError, match="between 1 and 3"):
        top_k(torch.zeros(3), k)


def test_choosing_nothing_is_refused():
    with pytest.raises(ConfigError, match="none"):
        uniform_over(torch.zeros(3, dtype=torch.bool))


@pytest.mark.parametrize("values", [[0.5, 0.6], [-0.1, 1.1], [math.nan, 1.0]])
def test_weights_off_the_simplex_are_refused(values: list[float]):
    with pytest.raises(NumericalError, match=r"Weights\.normalize"):
        Weights(torch.tensor(values))


def test_effective_samples_is_n_when_uniform_and_one_on_a_vertex():
    assert uniform(8).effective_samples() == pytest.approx(8)
    assert weights(0, 1).effective_samples() == pytest.approx(1)


def test_an_empty_support_takes_the_best_of_the_positive_gains():
    slopes = torch.tensor([-3.0, 1.0, -1.0, -2.0])
    assert enter(None, slopes, most=2, sparsity=0.0).values.tolist() == [0.5, 0, 0, 0.5]
    assert enter(None, slopes, most=4, sparsity=0.0).support.tolist() == [True, False, True, True]


def test_samples_enter_at_the_weight_they_are_judged_at():
    """Two of support 2: w = 1/(2 + 2), and the others keep their proportions."""
    grown = enter(weights(0.75, 0.25, 0, 0), torch.tensor([0.0, 0, -1, -2]), most=2, sparsity=0.0)
    assert grown.values.tolist() == pytest.approx([0.375, 0.125, 0.25, 0.25])


def test_a_sample_worse_than_the_supports_mean_does_not_enter():
    before = weights(0.5, 0.5, 0)
    kept = enter(before, torch.tensor([-1.0, -3.0, -1.9]), most=1, sparsity=0.0)
    assert torch.equal(kept.values, before.values)


def test_sparsity_charges_an_entering_sample_its_root():
    """Gain 1 against β/√w with w = 1/3 and a support whose own gains are −β/2·√2."""
    before, slopes = weights(0.5, 0.5, 0), torch.tensor([0.0, 0.0, -1.0])
    threshold = 1 / (3**0.5 - 2**0.5 / 2)
    assert not enter(before, slopes, most=1, sparsity=1.01 * threshold).support[2]
    assert enter(before, slopes, most=1, sparsity=0.99 * threshold).support[2]


def test_a_sample_whose_summed_gain_is_negative_does_not_enter():
    before, past = weights(1, 0, 0), torch.tensor([0.0, -5.0, 0.0])
    grown = enter(before, torch.tensor([0.0, -2.0, -1.0]), most=2, sparsity=0.0, before=past)
    assert grown.support.tolist() == [True, False, True]


def test_where_no_gain_is_positive_the_greedy_start_says_so():
    with pytest.raises(NumericalError, match="Check the sign of the reward"):
        enter(None, torch.tensor([1.0, 2.0]), most=1, sparsity=0.0)


def test_the_floor_flattens_weights_to_just_so_many_effective_samples():
    gains = torch.tensor([5.0, 1.0, 0.0, -1.0, -5.0])
    free = exponentiated_gradient(uniform(5), gains, step_size=3.0)
    held = exponentiated_gradient(uniform(5), gains, step_size=3.0, effective_floor=0.5)
    assert free.effective_samples() < 2.5
    assert held.effective_samples() == pytest.approx(2.5, rel=1e-6)
    assert torch.equal(held.values.argsort(), free.values.argsort())


def test_the_floor_leaves_flatter_weights_alone():
    gains = torch.tensor([0.3, 0.1, 0.0])
    free = exponentiated_gradient(uniform(3), gains, step_size=0.2)
    held = exponentiated_gradient(uniform(3), gains, step_size=0.2, effective_floor=0.5)
    assert torch.equal(held.values, free.values)
