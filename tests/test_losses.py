"""Per-sample losses by hand, their gradients, and what the vocabulary projection sees."""

import math

import pytest
import torch

from u2a_core import params
from u2a_core.errors import NumericalError
from u2a_core.losses import (
    NPO,
    GradientAscent,
    NegativeLogLikelihood,
    SimNPO,
    per_sample_losses,
    response_log_probs,
    sequence_log_probs,
    weighted_loss,
)
from u2a_core.testing import TinyPolicy, random_batch
from u2a_core.types import Batch, TokenLogProbs

BY_HAND = TokenLogProbs(
    values=torch.tensor([-1.0, -3.0, -0.5, -0.25, -0.75]),
    rows=torch.tensor([0, 0, 1, 1, 1]),
    counts=torch.tensor([2, 3]),
    index=torch.tensor([1, 0]),
)


def test_gradient_ascent_is_the_mean_log_probability():
    torch.testing.assert_close(GradientAscent()(BY_HAND), torch.tensor([-2.0, -0.5]))


def test_retain_loss_is_the_mean_negative_log_likelihood():
    torch.testing.assert_close(NegativeLogLikelihood()(BY_HAND), torch.tensor([2.0, 0.5]))


def test_npo_by_hand_on_sequence_sums_and_its_own_reference():
    reference = torch.tensor([-2.0, -3.0])  # of samples 0 and 1; the rows hold samples 1 and 0
    sums = torch.tensor([-4.0, -1.5])
    ratios = sums - torch.tensor([-3.0, -2.0])
    expected = 2 / 0.5 * torch.log1p(torch.exp(0.5 * ratios)) / torch.tensor([2.0, 3.0])
    torch.testing.assert_close(NPO(0.5, reference)(BY_HAND), expected)


def test_npo_at_the_reference_has_the_gradient_of_gradient_ascent():
    model, batch = TinyPolicy(), random_batch(6)
    theta = params.trainable(model)
    npo = NPO(0.3, sequence_log_probs(model, [batch]))
    ours, theirs = (
        params.gradient(loss(response_log_probs(model, batch)).sum(), theta)
        for loss in (npo, GradientAscent())
    )
    for name in theta:
        torch.testing.assert_close(ours[name], theirs[name])


def test_npo_tends_to_gradient_ascent_as_beta_vanishes():
    model, batch = TinyPolicy(), random_batch(6)
    theta = params.trainable(model)
    reference = sequence_log_probs(model, [batch]) + torch.linspace(-2, 2, 6)
    ours, theirs = (
        params.gradient(loss(response_log_probs(model, batch)).sum(), theta)
        for loss in (NPO(1e-6, reference), GradientAscent())
    )
    for name in theta:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-4, atol=1e-6)


def test_npo_stays_finite_far_from_the_reference():
    far = NPO(0.1, torch.tensor([-5000.0, 5000.0]))(BY_HAND)
    assert torch.isfinite(far).all()
    assert (far >= 0).all()


def test_log_probabilities_agree_with_the_full_softmax():
    model, batch = TinyPolicy(), random_batch(5)
    logits = model(batch.input_ids).logits.log_softmax(-1)
    found = response_log_probs(model, batch)
    for row in range(5):
        places = [t for t in range(1, batch.labels.shape[1]) if batch.labels[row, t] != -100]
        expected = torch.stack([logits[row, t - 1, batch.labels[row, t]] for t in places])
        torch.testing.assert_close(found.values[found.rows == row], expected)
        assert int(found.counts[row]) == len(places)


def test_the_projection_sees_response_positions_only():
    model, batch = TinyPolicy(), random_batch(5)
    seen = []
    hook = model.head.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].shape))
    log_probs = response_log_probs(model, batch)
    hook.remove()
    assert seen == [(1, len(log_probs.values), 4)]


def test_padding_does_not_change_a_row():
    model, batch = TinyPolicy(), random_batch(5)
    together = per_sample_losses(model, [batch], GradientAscent())
    alone = [batch.select(batch.index == i) for i in range(5)]
    torch.testing.assert_close(per_sample_losses(model, alone, GradientAscent()), together)


def test_batches_are_put_back_into_sample_order():
    model, batch = TinyPolicy(), random_batch(6)
    whole = per_sample_losses(model, [batch], GradientAscent())
    parts = [batch.select(batch.index % 2 == 1), batch.select(batch.index % 2 == 0)]
    torch.testing.assert_close(per_sample_losses(model, parts, GradientAscent()), whole)


def test_a_row_without_response_is_refused():
    batch = random_batch(3)
    empty = Batch(
        input_ids=batch.input_ids,
        attention_mask=batch.attention_mask,
        labels=torch.full_like(batch.labels, -100),
        index=batch.index,
    )
    with pytest.raises(NumericalError, match="must have a response token"):
        response_log_probs(TinyPolicy(), empty)


def test_weighted_loss_takes_the_weights_of_its_rows():
    weights = torch.tensor([0.5, 0.3, 0.2])
    total = weighted_loss(torch.tensor([10.0, 100.0]), weights, torch.tensor([2, 0]))
    assert float(total) == pytest.approx(0.2 * 10 + 0.5 * 100)


def test_uniform_guessing_has_the_log_of_the_vocabulary_as_loss():
    model, batch = TinyPolicy(vocabulary=7), random_batch(3)
    model.head.weight.data.zero_()
    values = per_sample_losses(model, [batch], NegativeLogLikelihood())
    torch.testing.assert_close(values, torch.full((3,), math.log(7), dtype=torch.float64))


def test_simnpo_by_hand_without_a_reference():
    nll = torch.tensor([2.0, 0.5])
    expected = 2 / 4.5 * torch.log1p(torch.exp(-4.5 * nll))
    torch.testing.assert_close(SimNPO(4.5)(BY_HAND), expected)


def test_simnpo_is_gradient_ascent_scaled_by_what_is_left_to_forget():
    """Its gradient is 2σ(−β·NLL/T)·∇ℓ_GA of each row."""
    model, batch = TinyPolicy(), random_batch(1)
    theta = params.trainable(model)
    ours, theirs = (
        params.gradient(loss(response_log_probs(model, batch)).sum(), theta)
        for loss in (SimNPO(1.5), GradientAscent())
    )
    nll = per_sample_losses(model, [batch], NegativeLogLikelihood())
    for name in theta:
        torch.testing.assert_close(ours[name], 2 * torch.sigmoid(-1.5 * nll) * theirs[name])
