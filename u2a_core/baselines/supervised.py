"""Supervised fine-tuning on a mixture of replies; Retrain leaves the negatives out of it.

    loss = −Σ log π(y_t) / (response tokens of the minibatch)

A mean over tokens, not over replies, as language models are usually trained: a mean over replies
would give the tokens of a short reply more weight, and long replies would be rarer than they are
in the data. The learning rate falls to 0 along a half cosine over the budget of steps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from u2a_core import params
from u2a_core.baselines.drawing import drawn
from u2a_core.config import BaselineSettings
from u2a_core.data.encode import Encoded, batches
from u2a_core.descent import Step, UnlearnState
from u2a_core.losses import response_log_probs
from u2a_core.types import Sample
from u2a_core.unlearn import InnerProblem, apply_gradient


def without(mixture: Sequence[Sample], negatives: Sequence[Sample]) -> list[Sample]:
    """The mixture but for every sample whose prompt and reply are those of a negative."""
    unwanted = {(sample.prompt, sample.response) for sample in negatives}
    return [sample for sample in mixture if (sample.prompt, sample.response) not in unwanted]


def fine_tuning_step(
    problem: InnerProblem,
    rows: Sequence[Encoded],
    settings: BaselineSettings,
    *,
    tokens_per_batch: int,
    seed: int,
) -> Step:
    """One step on the NLL of a minibatch of `settings.batch` replies.

    Args:
        problem: the model, θ₀ and the clipping.
        rows: the replies with their prompts.
        settings: learning rate, budget, size of a minibatch.
        tokens_per_batch: what goes through the model at once; changes memory, not the result.
        seed: of the order of the replies.
    """

    def step(state: UnlearnState) -> dict[str, float]:
        theta = params.trainable(problem.model)
        device = next(iter(theta.values())).device
        taken = drawn(len(rows), settings.batch, step=state.step, seed=seed)
        chosen = [rows[i] for i in taken]
        tokens = sum(len(row.input_ids) - row.response_start for row in chosen)
        total, gradient = 0.0, None
        for batch in batches(chosen, tokens_per_batch=tokens_per_batch):
            values = response_log_probs(problem.model, batch.to(device)).values
            loss = -values.sum() / tokens
            gradient = params.accumulate(gradient, params.gradient(loss, theta))
            total += float(loss.detach())
        assert gradient is not None
        for group in state.optimizer.param_groups:
            group["lr"] = _rate(settings, state.step)
        moved = apply_gradient(
            problem.settings, state.optimizer, theta, gradient, rate="baseline.learning_rate"
        )
        return {"loss": total, **moved}

    return step


def _rate(settings: BaselineSettings, step: int) -> float:
    """The learning rate of a step: all of it first, nearly 0 last."""
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * step / settings.steps))
