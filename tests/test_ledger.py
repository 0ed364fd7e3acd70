"""The compute ledger: every pass and token of a descent, and nothing else."""

from collections import deque

import torch

from u2a_core import params
from u2a_core.config import InnerSettings, OuterSettings
from u2a_core.descent import Ending, descend, pack, start, unpack
from u2a_core.ledger import Ledger
from u2a_core.losses import NPO, response_log_probs, sequence_log_probs
from u2a_core.objectives import PreferenceObjective
from u2a_core.reweight import Scorer, mirror_descent
from u2a_core.testing import TinyPolicy, random_batch
from u2a_core.unlearn import InnerProblem
from u2a_core.weights import uniform

BATCH = random_batch(6, seed=2)


def machine(**outer: object):
    """A reweight run with a retain term: passes of every kind, Hessian products among them."""
    model, retain = TinyPolicy(), random_batch(3, seed=9)
    inner = InnerSettings(steps=4, learning_rate=0.2, lam=2.0, lam_retain=0.5)
    origin = params.snapshot(params.trainable(model))
    loss = NPO(0.1, sequence_log_probs(model, [BATCH]))
    problem = InnerProblem(model, (BATCH,), loss, inner, origin, (retain,), 10**6)
    pairs = random_batch(8, seed=5)
    objective = PreferenceObjective((pairs,), sequence_log_probs(model, [pairs]), 0.5)
    settings = OuterSettings(steps_per_round=2)
    choose = mirror_descent(Scorer(problem, objective, settings), settings, seed=0)
    return problem, objective, choose, settings


def run(problem, objective, choose, settings, state=None, **options):
    state = state or start(problem, uniform(6))
    going = descend(problem, objective, choose, outer=settings, seed=0, state=state, **options)
    return going, state


def test_a_forward_and_a_backward_pass_are_counted_with_their_tokens():
    model, ledger = TinyPolicy(), Ledger()
    with ledger.counting(model):
        value = response_log_probs(model, BATCH).values.sum()
        params.gradient(value, params.trainable(model))
        sequence_log_probs(model, [BATCH])
    sequence_log_probs(model, [BATCH])  # outside: not counted
    tokens = BATCH.input_ids.numel()
    assert ledger.counts() == {
        "forward_passes": 2, "backward_passes": 1, "tokens": 2 * tokens, "backward_tokens": tokens,
    }  # fmt: skip
    assert ledger.seconds > 0
    assert (ledger.memory_of, ledger.peak_memory_mb > 1) == ("process", True)


def test_every_pass_with_gradients_is_followed_by_one_backward_pass(monkeypatch):
    """The claim by which backward passes are counted, checked on a run that has all kinds."""
    called = []
    for name in ("grad", "backward"):
        real = getattr(torch.autograd, name)
        monkeypatch.setattr(
            torch.autograd, name, lambda *a, real=real, **k: (called.append(1), real(*a, **k))[1]
        )
    going, state = run(*machine())
    deque(going, maxlen=0)
    assert state.ledger.backward_passes == len(called) > 15
    assert state.ledger.forward_passes > state.ledger.backward_passes


def test_a_resumed_descent_ends_with_the_counts_of_an_uninterrupted_one():
    going, whole = run(*machine())
    deque(going, maxlen=0)
    going, state = run(*machine())
    for _ in range(3):
        next(going)
    tensors, facts = pack(state)
    saved = {name: tensor.clone() for name, tensor in tensors.items()}
    again = machine()
    going, state = run(*again, state=unpack(again[0], saved, facts))
    deque(going, maxlen=0)
    assert state.ledger.counts() == whole.ledger.counts()


def test_a_budget_of_tokens_ends_the_descent_with_a_last_measurement():
    going, whole = run(*machine())
    deque(going, maxlen=0)
    going, state = run(*machine(), ending=Ending(whole.ledger.tokens // 2))
    deque(going, maxlen=0)
    assert state.ended == "token budget used"
    assert state.step < whole.step
    assert state.history[-1]["step"] == state.step
