"""DPO, PPO and fine-tuning against closed forms, in float64."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from u2a_core import params
from u2a_core.baselines import (
    clipped_surrogate,
    dpo_step,
    drawn,
    fine_tuning_step,
    generalized_advantages,
    ppo_step,
    preference_loss,
    shaped_rewards,
    value_head,
    without,
)
from u2a_core.config import BaselineSettings, InnerSettings
from u2a_core.data.encode import Encoded, batches
from u2a_core.descent import start
from u2a_core.errors import ModelError
from u2a_core.losses import GradientAscent, response_log_probs, sequence_log_probs
from u2a_core.objectives import PreferenceObjective, SampledReward
from u2a_core.testing import FixedSampler, TinyPolicy, random_batch
from u2a_core.types import Sample, TokenLogProbs, user_prompt
from u2a_core.unlearn import InnerProblem
from u2a_core.weights import uniform

RATE = 0.1
REWARDS = {"a": 1.0, "b": -1.0, "c": 0.5, "d": 0.0}


def doubles(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def problem_of(model: nn.Module) -> InnerProblem:
    inner = InnerSettings(learning_rate=RATE, steps=10, max_grad_norm=1e9)
    origin = params.snapshot(params.trainable(model))
    return InnerProblem(model, (random_batch(4),), GradientAscent(), inner, origin)


def stepped(problem: InnerProblem, step, state=None) -> dict[str, torch.Tensor]:
    """The gradient that one SGD step went down by."""
    state = state or start(problem, uniform(4))
    before = params.snapshot(state.theta)
    step(state)
    return {name: (before[name] - p.detach()) / RATE for name, p in state.theta.items()}


def test_an_epoch_takes_everything_once():
    taken = [drawn(10, 4, step=step, seed=3) for step in range(6)]
    for epoch in (taken[:3], taken[3:]):
        assert sorted(i for part in epoch for i in part) == list(range(10))
    assert taken[:3] != taken[3:]
    assert drawn(10, 0, step=7, seed=0) == drawn(10, 99, step=7, seed=0) == list(range(10))


def test_the_dpo_loss_by_hand():
    model, batch = TinyPolicy(), random_batch(4, seed=5)
    reference = sequence_log_probs(model, [batch]) + doubles(0.3, -0.2, 0.1, 0.4)
    found = preference_loss(model, PreferenceObjective((batch,), reference, 0.5), batch)
    for pair, margin in enumerate((-0.3 - 0.2, -0.1 + 0.4)):
        assert float(found[pair].detach()) == pytest.approx(math.log1p(math.exp(-0.5 * margin)))


def test_a_dpo_step_is_the_gradient_of_minus_the_objective():
    model, batch = TinyPolicy(), random_batch(8, seed=5)
    objective = PreferenceObjective((batch,), sequence_log_probs(model, [batch]) + 0.3, 0.5)
    problem = problem_of(model)
    _, ascent = objective.value_and_gradient(model, seed=0)
    found = stepped(problem, dpo_step(problem, objective, BaselineSettings(), seed=0))
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, -ascent[name])


def test_a_dpo_minibatch_takes_its_pairs_alone():
    model, batch = TinyPolicy(), random_batch(8, seed=5)
    reference = sequence_log_probs(model, [batch])
    problem = problem_of(model)
    (pair,) = drawn(4, 1, step=0, seed=2)
    rows = batch.select(batch.index // 2 == pair)
    objective = PreferenceObjective((batch,), reference, 0.5)
    loss = preference_loss(model, objective, rows).mean()
    alone = params.gradient(loss, params.trainable(model))
    step = dpo_step(problem, objective, BaselineSettings(batch=1), seed=2)
    torch.testing.assert_close(stepped(problem, step), alone)


def test_generalized_advantages_by_hand():
    """Two replies of three and one tokens, λ = 1/2; the second begins anew."""
    rewards, values = doubles(0.1, 0.2, 1.0, -1.0), doubles(0.5, 0.4, 0.3, 0.2)
    rows = torch.tensor([0, 0, 0, 1])
    third = 1.0 - 0.3
    second = 0.2 + 0.3 - 0.4 + 0.5 * third
    first = 0.1 + 0.4 - 0.5 + 0.5 * second
    found = generalized_advantages(rewards, values, rows, gae_lambda=0.5)
    torch.testing.assert_close(found, doubles(first, second, third, -1.2))


def test_with_lambda_one_advantages_are_what_is_left_minus_the_value():
    rewards, values = doubles(0.1, 0.2, 1.0), doubles(0.5, 0.4, 0.3)
    found = generalized_advantages(rewards, values, torch.zeros(3).long(), gae_lambda=1.0)
    torch.testing.assert_close(found, doubles(1.3, 1.2, 1.0) - values)


def test_the_clipped_surrogate_by_hand():
    """Clipped only where that makes it smaller: a high ratio of a good, a low one of a bad."""
    ratio, advantage = doubles(1.5, 1.5, 0.5, 0.5, 1.1), doubles(2, -2, 2, -2, 1)
    found = clipped_surrogate(ratio.log(), torch.zeros_like(ratio), advantage, clip=0.2)
    torch.testing.assert_close(found, doubles(2.4, -3.0, 1.0, -1.6, 1.1))


def test_the_reward_is_paid_at_the_last_token_and_the_kl_at_every_one():
    old = TokenLogProbs(
        values=doubles(-1, -2, -3), rows=torch.tensor([0, 0, 1]),
        counts=torch.tensor([2, 1]), index=torch.tensor([0, 1]),
    )  # fmt: skip
    found = shaped_rewards(doubles(1.0, -1.0), old, doubles(-1.5, -2, -2), kl=0.1)
    torch.testing.assert_close(found, doubles(-0.05, 1.0, -1.0 + 0.1))


def rewarded(batch, **options) -> SampledReward:
    return SampledReward(
        FixedSampler(batch, tuple("abcd")),
        (user_prompt("x"), user_prompt("y")),
        lambda _, replies: [REWARDS[reply] for reply in replies],
        samples=2,
    )


def test_the_first_ppo_pass_is_the_policy_gradient_with_whitened_rewards():
    """At ratio 1, V = 0, λ = 1 and without KL: every token's advantage is its reply's reward."""
    model, batch = TinyPolicy(), random_batch(4, seed=5)
    log_probs = response_log_probs(model, batch)
    rewards = doubles(*REWARDS.values())[batch.index][log_probs.rows]
    white = (rewards - rewards.mean()) / rewards.std(correction=0)
    expected = params.gradient((white * log_probs.values).mean(), params.trainable(model))
    settings = BaselineSettings(method="ppo", epochs=1, kl=0, gae_lambda=1.0)
    with value_head(model):
        problem = problem_of(model)
        found = stepped(problem, ppo_step(problem, rewarded(batch), settings, seed=0))
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], -tensor, rtol=1e-6, atol=1e-9)
    returns = -2 * settings.value_weight * rewards.mean()  # of the squared error at V = 0
    assert float(found["value_head.bias"]) == pytest.approx(float(returns))


def test_the_kl_is_taken_to_the_original_model():
    """Which is put in for one pass, and out again: the first pass is at ratio 1."""
    model, batch = TinyPolicy(), random_batch(4, seed=5)
    with value_head(model):
        problem = problem_of(model)
        state = start(problem, uniform(4))
        origin = response_log_probs(model, batch).values.detach()
        with torch.no_grad():
            model.head.weight.add_(torch.linspace(-1, 1, 28, dtype=torch.float64).reshape(7, 4))
        moved = response_log_probs(model, batch).values.detach()
        settings = BaselineSettings(method="ppo", epochs=1)
        facts = ppo_step(problem, rewarded(batch), settings, seed=0)(state)
    assert facts["kl"] == pytest.approx(float((moved - origin).mean()))
    surrogate = facts["loss"] - settings.value_weight * facts["value_loss"]
    assert surrogate == pytest.approx(0, abs=1e-9)  # the mean of whitened advantages


def test_the_value_head_is_a_part_of_theta_while_ppo_trains():
    model = TinyPolicy()
    names = set(params.trainable(model))
    with value_head(model):
        assert set(params.trainable(model)) - names == {"value_head.weight", "value_head.bias"}
    assert set(params.trainable(model)) == names


def test_ppo_refuses_a_model_without_an_output_embedding():
    with (
        pytest.raises(ModelError, match="must name its output embedding"),
        value_head(nn.Linear(2, 2)),
    ):
        pass


def test_fine_tuning_is_a_mean_over_tokens_whatever_the_batches():
    model = TinyPolicy()
    rows = [Encoded((1, 2, 3, 4, 5, 6), 2), Encoded((2, 3, 4), 2), Encoded((1, 5, 6, 2), 1)]
    (whole,) = batches(rows, tokens_per_batch=100)
    loss = -response_log_probs(model, whole).values.mean()
    expected = params.gradient(loss, params.trainable(model))
    problem, settings = problem_of(model), BaselineSettings(method="sft", learning_rate=RATE)
    for size in (100, 6):
        params.load(model, problem.origin)
        step = fine_tuning_step(problem, rows, settings, tokens_per_batch=size, seed=0)
        torch.testing.assert_close(stepped(problem, step), expected)


def test_the_rate_of_fine_tuning_falls_along_a_cosine():
    model = TinyPolicy()
    settings = BaselineSettings(method="sft", learning_rate=RATE, steps=10)
    problem = problem_of(model)
    step = fine_tuning_step(problem, [Encoded((1, 2, 3), 1)], settings, tokens_per_batch=9, seed=0)
    state, rates = start(problem, uniform(4)), []
    for _ in range(10):
        step(state)
        state.step += 1
        rates.append(state.optimizer.param_groups[0]["lr"])
    np.testing.assert_allclose(rates, RATE * (1 + np.cos(np.pi * np.arange(10) / 10)) / 2)


def test_retrain_leaves_out_what_equals_a_negative_in_prompt_and_reply():
    def sample(prompt: str, response: str) -> Sample:
        return Sample("", user_prompt(prompt), response)

    mixture = [sample("a", "x"), sample("a", "y"), sample("b", "x"), sample("a", "x")]
    assert without(mixture, [sample("a", "x"), sample("c", "z")]) == mixture[1:3]
