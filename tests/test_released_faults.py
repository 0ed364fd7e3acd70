"""Faults that a published implementation of this method had, each as what holds here instead."""

from collections import deque
from pathlib import Path

import pytest
import torch

from u2a_core import params
from u2a_core.config import InnerSettings, ModelSettings, OuterSettings
from u2a_core.data.encode import encode
from u2a_core.descent import descend, start
from u2a_core.directional import slopes
from u2a_core.errors import NumericalError
from u2a_core.losses import (
    NPO,
    GradientAscent,
    NegativeLogLikelihood,
    response_log_probs,
    sequence_log_probs,
    weighted_loss,
)
from u2a_core.models import Policy, load_policy
from u2a_core.objectives import PreferenceObjective
from u2a_core.reweight import Scorer, mirror_descent
from u2a_core.testing import TinyPolicy, random_batch
from u2a_core.types import Batch, Sample, Weights, user_prompt
from u2a_core.unlearn import InnerProblem, inner_step
from u2a_core.weights import exponentiated_gradient, marginal_gain, uniform

OMEGAS = [
    Weights(torch.tensor(values, dtype=torch.float64))
    for values in ([0.7, 0.1, 0.1, 0.1], [0.1, 0.1, 0.1, 0.7])
]


def problem_of(loss=None, *, retain: bool = False, **settings: object) -> InnerProblem:
    model = TinyPolicy()
    inner = InnerSettings(**{"method": "ga", "learning_rate": 0.1, "steps": 6, **settings})
    origin = params.snapshot(params.trainable(model))
    kept = (random_batch(3, seed=2),) if retain else ()
    batches = (random_batch(4, seed=1),)
    return InnerProblem(model, batches, loss or GradientAscent(), inner, origin, kept, 10**6)


def after_a_step(problem: InnerProblem, weights: Weights, away: float = 0.0) -> torch.Tensor:
    """Where one step from θ₀ + `away` leads."""
    state = start(problem, weights)
    with torch.no_grad():
        for tensor in state.theta.values():
            tensor.add_(away)
    inner_step(problem, weights, state.optimizer, step=0, seed=0)
    return torch.cat([tensor.detach().flatten() for tensor in state.theta.values()]).clone()


def objective_of(model: TinyPolicy) -> PreferenceObjective:
    pairs = random_batch(8, seed=5)
    return PreferenceObjective((pairs,), sequence_log_probs(model, [pairs]), 0.5)


def test_weights_grow_where_unlearning_helps():
    """Positive gain = unlearning helps = the weight rises: the sign of the update."""
    gains = torch.tensor([1.0, -1.0, 0.5, -0.5], dtype=torch.float64)
    moved = exponentiated_gradient(uniform(4), gains, step_size=0.2, slopes=-gains)
    assert torch.equal(moved.values > 0.25, gains > 0)


def test_more_weight_on_a_sample_of_positive_gain_raises_j():
    problem = problem_of(learning_rate=1e-4)
    objective = objective_of(problem.model)
    gains = Scorer(problem, objective)(uniform(4), seed=0).gains
    reached = []
    for k in (int(gains.argmax()), int(gains.argmin())):
        alone = Weights(torch.nn.functional.one_hot(torch.tensor(k), 4).double())
        after_a_step(problem, alone)
        reached.append(objective.value(problem.model, seed=0).mean)
    assert reached[0] > reached[1]


def test_graddiffs_step_uses_the_weights():
    problem = problem_of(method="graddiff", lam_retain=0.5, retain=True)
    one, other = (after_a_step(problem, weights) for weights in OMEGAS)
    assert not torch.allclose(one, other)


def test_the_weights_of_one_batch_do_not_cancel_in_npo():
    """The loss is a value a row; two ω on the same batch step differently."""
    batch = random_batch(4, seed=1)
    npo = NPO(0.1, sequence_log_probs(TinyPolicy(), [batch]))
    assert npo(response_log_probs(TinyPolicy(), batch)).shape == (4,)
    one, other = (after_a_step(problem_of(npo), weights) for weights in OMEGAS)
    assert not torch.allclose(one, other)


@pytest.fixture(scope="module")
def adapted(scenario: Path) -> Policy:
    """The scenario's model with a fresh adapter (B = 0)."""
    settings = ModelSettings(
        path=str(scenario.parent / "model"), parameters="lora", device="cpu", max_length=96
    )
    return load_policy(settings)


def rows_of(policy: Policy, *replies: str, pad_id: int | None = None) -> Batch:
    from u2a_core.data.encode import batches

    samples = [Sample(str(i), user_prompt("How are you?"), r) for i, r in enumerate(replies)]
    encoded, _ = encode(samples, policy.tokenizer, max_length=policy.max_length)
    pad = policy.pad_id if pad_id is None else pad_id
    (batch,) = batches(encoded, tokens_per_batch=10**6, pad_id=pad)
    return batch


def test_a_fresh_adapter_has_a_gradient(adapted: Policy):
    theta = params.trainable(adapted.model)
    loss = NegativeLogLikelihood()(response_log_probs(adapted.model, rows_of(adapted, "Fine.")))
    gradient = params.gradient(loss.sum(), theta)
    assert all(float(g.abs().max()) > 0 for name, g in gradient.items() if "lora_B" in name)
    with params.training(adapted.model, adapted.slopes_see):
        seen = params.trainable(adapted.model)
        found = slopes(
            adapted.model,
            [rows_of(adapted, "Fine.", "Go away.")],
            GradientAscent(),
            along={name: torch.ones_like(p) for name, p in seen.items()},
        )
    assert (found != 0).all()


def test_the_proximal_term_pulls_to_the_runs_own_origin():
    """At θ₀ it is 0, whatever λ; away from θ₀ it points back to it."""
    free, held = (problem_of(lam=lam) for lam in (0.0, 2.0))
    assert torch.equal(after_a_step(free, uniform(4)), after_a_step(held, uniform(4)))
    pull = after_a_step(held, uniform(4), away=0.05) - after_a_step(free, uniform(4), away=0.05)
    torch.testing.assert_close(pull, torch.full_like(pull, -0.1 * 2 * 2.0 * 0.05))


@pytest.mark.parametrize("pad_id", [0, 1, 2, 57])
def test_padding_counts_in_no_mean_whatever_its_id(adapted: Policy, pad_id: int):
    replies = ("Fine.", "I am happy to help you with all of that today, of course.")
    together = rows_of(adapted, *replies, pad_id=pad_id)
    with torch.no_grad():
        found = response_log_probs(adapted.model, together)
        alone = [
            response_log_probs(adapted.model, together.select(together.index == i)).means()
            for i in together.index
        ]
    torch.testing.assert_close(found.means(), torch.cat(alone), rtol=1e-4, atol=1e-5)


def test_pairs_go_through_the_chat_template(scenario: Path):
    from u2a_core.config import load_settings
    from u2a_core.experiment import load_experiment

    settings = load_settings(scenario)
    kind = settings.objective.model_copy(update={"kind": "preference"})
    experiment = load_experiment(settings.model_copy(update={"objective": kind}))
    assert isinstance(experiment.objective, PreferenceObjective)
    ids = experiment.objective.batches[0].input_ids
    texts = experiment.policy.tokenizer.batch_decode(ids)
    assert all(text.startswith("<|bos|><|user|>") for text in texts)
    assert all("<|end|><|assistant|>" in text for text in texts)


def test_the_selection_is_revised_every_round():
    """Gains are those of θ*(ω), not of θ₀: they change, and the weights follow them."""
    problem = problem_of()
    objective = objective_of(problem.model)
    outer = OuterSettings(steps_per_round=2)
    choose = mirror_descent(Scorer(problem, objective, outer), outer, seed=0)
    state = start(problem, uniform(4))
    deque(descend(problem, objective, choose, outer=outer, seed=0, state=state), maxlen=0)
    assert len(state.gain_path) == 3
    for earlier, later in zip(state.gain_path, state.gain_path[1:], strict=False):
        assert not torch.allclose(earlier, later)


def test_a_gain_that_is_not_a_number_is_an_error():
    bad = torch.tensor([0.1, float("nan")])
    with pytest.raises(NumericalError):
        marginal_gain(bad, uniform(2), sparsity=0.0)


def test_sparsity_acts_where_it_is_asked_for():
    """A gain falls by β/(2√ω), more for a smaller weight, so that small weights get smaller."""
    slopes_found = torch.zeros(4, dtype=torch.float64)
    gains = marginal_gain(slopes_found, OMEGAS[0], sparsity=0.1)
    torch.testing.assert_close(gains, -0.05 / OMEGAS[0].values.sqrt())
    assert float(gains.argmax()) == 0


def test_two_weights_of_a_batch_weigh_its_losses():
    batch = random_batch(4, seed=1)
    losses = GradientAscent()(response_log_probs(TinyPolicy(), batch))
    one, other = (weighted_loss(losses, weights.values, batch.index) for weights in OMEGAS)
    assert float(one.detach()) != float(other.detach())
