"""Direct preference optimization (arXiv 2305.18290): gradient descent on −J of preference pairs.

    loss = −mean log σ(β·[(log π − log π_ref)(y_w) − (log π − log π_ref)(y_l)])

This is −`PreferenceObjective` with DPO's β; π_ref is the original model, whose log-probabilities
are constants there. Leaves out label smoothing and the other losses of the family.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from u2a_core import params
from u2a_core.baselines.drawing import drawn
from u2a_core.config import BaselineSettings
from u2a_core.descent import Step, UnlearnState
from u2a_core.losses import response_log_probs
from u2a_core.objectives import PreferenceObjective, gradient_parts
from u2a_core.types import Batch
from u2a_core.unlearn import InnerProblem, apply_gradient


def preference_loss(
    model: nn.Module, objective: PreferenceObjective, rows: Batch
) -> Float[Tensor, " pairs"]:
    """The DPO loss of each pair of a batch, which holds whole pairs; float64, lower = preferred."""
    log_probs = response_log_probs(model, rows)
    return -objective.terms(log_probs.sums().cpu().double(), log_probs.index.cpu())


def dpo_step(
    problem: InnerProblem, objective: PreferenceObjective, settings: BaselineSettings, *, seed: int
) -> Step:
    """One step on a minibatch of `settings.batch` pairs.

    Args:
        problem: the model, θ₀ and the clipping.
        objective: the pairs, their reference log-probabilities and β.
        settings: size of a minibatch.
        seed: of the order of the pairs.
    """
    pair_of = objective.unit_of()
    count = int(pair_of.max()) + 1

    def step(state: UnlearnState) -> dict[str, float]:
        pairs = drawn(count, settings.batch, step=state.step, seed=seed)
        total = 0.0

        def loss(rows: Batch) -> Tensor:
            nonlocal total
            part = preference_loss(problem.model, objective, rows).sum() / len(pairs)
            total += float(part.detach())
            return part

        taken = torch.zeros(count, dtype=torch.bool)
        taken[pairs] = True
        part = torch.where(taken[pair_of], 0, -1)
        (gradient,) = gradient_parts(problem.model, objective.batches, part, 1, loss)
        moved = apply_gradient(
            problem.settings,
            state.optimizer,
            params.trainable(problem.model),
            gradient,
            rate="baseline.learning_rate",
        )
        return {"loss": total, **moved}

    return step
