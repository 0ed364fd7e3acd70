"""J: its value, its gradient against finite differences and closed forms, checks of the reward."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from u2a_core import params
from u2a_core.errors import ConfigError, ModelError
from u2a_core.losses import sequence_log_probs
from u2a_core.objectives import (
    CandidateReward,
    PreferenceObjective,
    SampledReward,
    leave_one_out_advantages,
    mean_estimate,
    score,
)
from u2a_core.testing import FixedSampler, TinyPolicy, random_batch
from u2a_core.types import Batch, Prompt, Rollouts, user_prompt

PROMPTS = (user_prompt("a"), user_prompt("b"))
VOCABULARY = 5


@dataclass(frozen=True)
class NextToken:
    """Draws one token after [1, p] for prompt number p; its reply is the token's name."""

    def __call__(self, model, prompts, *, samples: int, seed: int) -> Rollouts:
        generator = torch.Generator().manual_seed(seed)
        owners = [i for i in range(len(prompts)) for _ in range(samples)]
        heads = torch.tensor([[1, 2 + i] for i in owners])
        with torch.no_grad():
            chances = model(heads).logits[:, -1].softmax(-1)
        drawn = torch.multinomial(chances, 1, generator=generator)
        ids = torch.cat([heads, drawn], 1)
        labels = torch.cat([torch.full_like(heads, -100), drawn], 1)
        batch = Batch(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            labels=labels,
            index=torch.arange(len(owners)),
        )
        return Rollouts(tuple(owners), tuple(str(int(t)) for t in drawn), (batch,))


def reward(prompts: list[Prompt], replies: list[str]) -> list[float]:
    """A different score for each pair of prompt and token."""
    pairs = zip(prompts, replies, strict=True)
    return [math.sin(3.0 * int(r) + (p[-1].content == "b")) for p, r in pairs]


def exact_objective(model: TinyPolicy) -> torch.Tensor:
    """E[r], summed over the whole vocabulary."""
    total = torch.zeros((), dtype=torch.float64)
    for i, prompt in enumerate(PROMPTS):
        chances = model(torch.tensor([[1, 2 + i]])).logits[0, -1].softmax(-1)
        scores = reward([prompt] * VOCABULARY, [str(t) for t in range(VOCABULARY)])
        total = total + (chances * torch.tensor(scores, dtype=torch.float64)).sum() / 2
    return total


def test_policy_gradient_is_unbiased():
    model = TinyPolicy(vocabulary=VOCABULARY)
    theta = params.trainable(model)
    expected = params.gradient(exact_objective(model), theta)
    objective = SampledReward(NextToken(), PROMPTS, reward, samples=200)
    draws = [objective.value_and_gradient(model, seed=s)[1] for s in range(60)]
    for name in theta:
        stack = torch.stack([draw[name] for draw in draws])
        error = (stack.mean(0) - expected[name]).abs()
        standard = stack.std(0) / math.sqrt(len(draws))
        assert bool((error <= 4.5 * standard + 1e-12).all()), name


def test_value_covers_the_exact_objective_at_its_stated_rate():
    model = TinyPolicy(vocabulary=VOCABULARY)
    truth = float(exact_objective(model).detach())
    objective = SampledReward(NextToken(), PROMPTS, reward, samples=400)
    means = [objective.value(model, seed=s).mean for s in range(50)]
    standard = np.std(means, ddof=1) / math.sqrt(len(means))
    assert abs(np.mean(means) - truth) < 4.5 * standard


def test_value_and_gradient_share_their_samples():
    model = TinyPolicy(vocabulary=VOCABULARY)
    objective = SampledReward(NextToken(), PROMPTS, reward, samples=8)
    assert objective.value(model, seed=3) == objective.value_and_gradient(model, seed=3)[0]
    assert objective.value(model, seed=3) != objective.value(model, seed=4)


def test_leave_one_out_by_hand():
    found = leave_one_out_advantages(torch.tensor([[1.0, 2.0, 6.0]]))
    torch.testing.assert_close(found, torch.tensor([[1 - 4.0, 2 - 3.5, 6 - 1.5]]))


def test_equal_rewards_give_no_gradient():
    model, batch = TinyPolicy(), random_batch(4)
    sampler = FixedSampler(batch, ("w", "x", "y", "z"))
    objective = SampledReward(sampler, PROMPTS, lambda p, _: [1.0] * len(p), samples=2)
    estimate, gradient = objective.value_and_gradient(model, seed=0)
    assert estimate.mean == 1.0
    assert all(not g.any() for g in gradient.values())


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([1.0], "one number per reply"),
        ([1.0, math.nan], "must be finite; got nan for the reply"),
        (["good", "bad"], "must return numbers"),
        (None, "one number per reply"),
    ],
)
def test_a_broken_reward_is_named(values: object, words: str):
    with pytest.raises(ModelError, match=words):
        score(lambda _, __: values, PROMPTS, ["c", "d"])


def test_one_sample_leaves_no_baseline():
    with pytest.raises(ConfigError, match="at least 2"):
        SampledReward(NextToken(), PROMPTS, reward, samples=1)


def test_no_prompts_are_refused():
    with pytest.raises(ConfigError, match="must have prompts"):
        SampledReward(NextToken(), (), reward)


def preference(model: TinyPolicy, *, split: bool = False) -> PreferenceObjective:
    batch = random_batch(8, seed=2)
    reference = sequence_log_probs(model, [batch]) + torch.linspace(-1, 1, 8)
    parts = [batch.select(batch.index < 4), batch.select(batch.index >= 4)]
    return PreferenceObjective(tuple(parts) if split else (batch,), reference, 0.7)


def test_preference_objective_by_hand():
    model = TinyPolicy()
    objective = preference(model)
    ratio = sequence_log_probs(model, list(objective.batches)) - objective.reference_log_probs
    margins = 0.7 * (ratio[0::2] - ratio[1::2])
    expected = mean_estimate(torch.log(torch.sigmoid(margins)).numpy())
    found = objective.value(model, seed=0)
    assert found.mean == pytest.approx(expected.mean)
    assert (found.low, found.high, found.n) == pytest.approx((expected.low, expected.high, 4))


def test_preference_gradient_is_a_finite_difference():
    model = TinyPolicy()
    objective = preference(model)
    origin = params.snapshot(params.trainable(model))
    direction = {n: torch.randn_like(p) for n, p in origin.items()}
    slope = params.dot(objective.value_and_gradient(model, seed=0)[1], direction)
    sides = []
    for sign in (1, -1):
        params.load(model, params.axpy(sign * 1e-6, direction, origin))
        sides.append(objective.value(model, seed=0).mean)
    assert slope == pytest.approx((sides[0] - sides[1]) / 2e-6, rel=1e-6)


def test_pairs_in_two_batches_equal_pairs_in_one():
    model = TinyPolicy()
    one = preference(model).value_and_gradient(model, seed=0)
    two = preference(model, split=True).value_and_gradient(model, seed=0)
    assert one[0].mean == pytest.approx(two[0].mean)
    for name, gradient in one[1].items():
        torch.testing.assert_close(gradient, two[1][name])


def test_mean_estimate_by_hand():
    found = mean_estimate([1.0, 3.0])
    half = 1.96 * math.sqrt(2) / math.sqrt(2)
    assert (found.mean, found.low, found.high, found.n) == pytest.approx((2, 2 - half, 2 + half, 2))


def test_values_of_one_group_count_once():
    """The same four values thrice say no more than once; all in one group say nothing."""
    values = np.array([0.3, -1.0, 2.0, 0.7])
    one, many = mean_estimate(values), mean_estimate(np.tile(values, 3), np.tile(np.arange(4), 3))
    assert (many.mean, many.low, many.high) == pytest.approx((one.mean, one.low, one.high))
    assert many.n == one.n == 4
    assert mean_estimate(values, np.zeros(4, dtype=int)).high == math.inf


def test_intervals_over_groups_hold_the_mean_as_often_as_they_say():
    """Groups of one to five values that share a part: in 94 %, where single values do in 69 %."""
    draw, held = np.random.default_rng(0), {"groups": 0, "values": 0}
    for _ in range(2_000):
        group_of = np.repeat(np.arange(60), draw.integers(1, 6, 60))
        values = draw.normal(size=60)[group_of] + 0.3 * draw.normal(size=len(group_of))
        for name, groups in (("groups", group_of), ("values", None)):
            found = mean_estimate(values, groups)
            held[name] += found.low <= 0 <= found.high
    assert 0.92 < held["groups"] / 2_000 < 0.96
    assert held["values"] / 2_000 < 0.8


def candidates(model: TinyPolicy, *, split: bool = False) -> CandidateReward:
    """Three prompts with two, three and four replies."""
    batch, owner = random_batch(9, seed=5), torch.tensor([0, 0, 1, 1, 1, 2, 2, 2, 2])
    rewards = torch.tensor([1.0, -1, 0.5, 0, -1, 1, 1, -1, 0.2]).double()
    parts = [batch.select(owner < 2), batch.select(owner == 2)] if split else [batch]
    return CandidateReward(tuple(parts), owner, rewards)


def test_candidate_reward_is_the_expectation_under_the_softmax():
    model = TinyPolicy()
    objective = candidates(model)
    sums = sequence_log_probs(model, list(objective.batches))
    expected = [
        float((sums[rows].softmax(0) * objective.rewards[rows]).sum())
        for rows in (slice(0, 2), slice(2, 5), slice(5, 9))
    ]
    assert objective.values(model).tolist() == pytest.approx(expected)
    found = objective.value(model, seed=0)
    assert (found.mean, found.n) == (pytest.approx(np.mean(expected)), 3)


@pytest.mark.parametrize("make", [candidates, preference])
def test_smooth_gradients_are_finite_differences_and_the_sum_of_their_parts(make):
    model = TinyPolicy()
    objective = make(model)
    origin = params.snapshot(params.trainable(model))
    torch.manual_seed(0)
    direction = {n: torch.randn_like(p) for n, p in origin.items()}
    parts = [
        params.dot(part, direction)
        for part in objective.value_and_parts(model, seed=0, splits=3)[1]
    ]
    sides = []
    for sign in (1, -1):
        params.load(model, params.axpy(sign * 1e-6, direction, origin))
        sides.append(objective.value(model, seed=0).mean)
    assert sum(parts) == pytest.approx((sides[0] - sides[1]) / 2e-6, rel=1e-6)
    assert len(set(parts)) == 3


def test_candidates_in_two_batches_equal_candidates_in_one():
    model = TinyPolicy()
    (one, (first,)), (two, (second,)) = (
        candidates(model, split=split).values_and_parts(model) for split in (False, True)
    )
    torch.testing.assert_close(one, two)
    for name, gradient in first.items():
        torch.testing.assert_close(gradient, second[name])


def test_parts_of_the_policy_gradient_add_up_to_it():
    model = TinyPolicy(vocabulary=VOCABULARY)
    objective = SampledReward(NextToken(), PROMPTS, reward, samples=8)
    _, whole = objective.value_and_gradient(model, seed=1)
    _, parts = objective.value_and_parts(model, seed=1, splits=2)
    for name, gradient in whole.items():
        torch.testing.assert_close(parts[0][name] + parts[1][name], gradient)


def test_candidates_that_all_score_alike_are_refused():
    with pytest.raises(ConfigError, match="rewards differ"):
        CandidateReward(
            (random_batch(4, seed=5),), torch.tensor([0, 0, 1, 1]), torch.tensor([1.0, 1, -1, -1])
        )
