"""Proximal policy optimization (arXiv 1707.06347) of replies, as for RLHF (arXiv 2203.02155).

A step samples replies at temperature 1, rewards each at its last token, charges every token the KL
to the original model, estimates advantages with a value head (GAE, arXiv 1506.02438), and then
goes over the replies `epochs` times:

    r_t = [t last]·r(x, y) − kl·(log π_old − log π_ref)(y_t)
    δ_t = r_t + V_{t+1} − V_t,   A_t = δ_t + λ·A_{t+1},   R_t = A_t + V_t
    max  mean min(ρ_t Â_t, clip(ρ_t, 1±ε) Â_t) − c·mean (V_t − R_t)²,   ρ_t = π/π_old, Â whitened

The value head reads the policy's last hidden states, so policy and value share their trunk; the
reference is the policy itself with θ₀ put back for one pass, which holds for all parameters, the
last layers and an adapter alike. Leaves out: discounting, clipping of values, an entropy bonus,
minibatches within a pass, and adapting the KL coefficient.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from u2a_core import params
from u2a_core.baselines.drawing import drawn
from u2a_core.config import BaselineSettings
from u2a_core.descent import Step, UnlearnState
from u2a_core.errors import ModelError
from u2a_core.losses import output_embedding, response_log_probs
from u2a_core.objectives import SampledReward, score
from u2a_core.types import Batch, TokenLogProbs
from u2a_core.unlearn import InnerProblem, apply_gradient, step_seed

if TYPE_CHECKING:
    from u2a_core.types import Parameters

_HEAD = "value_head"
_SAMPLING_SEED = 32_452_843
"""Offset of the seed of PPO's replies, so that they share no draw with those that measure J."""


def shaped_rewards(
    rewards: Float[Tensor, " b"],
    old: TokenLogProbs,
    reference: Float[Tensor, " tokens"],
    *,
    kl: float,
) -> Float[Tensor, " tokens"]:
    """r_t: minus the KL charge of every token, and the reply's reward at its last token.

    Args:
        rewards: r(x, y) of each row of the batch.
        old: log π of the policy that sampled the rows.
        reference: log π_ref of the same tokens.
        kl: coefficient; log π_old − log π_ref is an unbiased estimate of the KL, in nats.
    """
    shaped = -kl * (old.values - reference)
    last = old.counts.cumsum(0) - 1  # tokens stand row after row
    return shaped.index_add(0, last, rewards.to(shaped))


def generalized_advantages(
    rewards: Float[Tensor, " tokens"],
    values: Float[Tensor, " tokens"],
    rows: Int[Tensor, " tokens"],
    *,
    gae_lambda: float,
) -> Float[Tensor, " tokens"]:
    """A_t = δ_t + λ·A_{t+1} with δ_t = r_t + V_{t+1} − V_t, within each row; 0 after its end.

    Not discounted. λ = 1: the rest of the rewards minus V_t; λ = 0: δ_t.
    """
    owner, reward, value = rows.tolist(), rewards.tolist(), values.tolist()
    found = [0.0] * len(owner)
    for t in reversed(range(len(owner))):
        follows = t + 1 < len(owner) and owner[t + 1] == owner[t]
        ahead, later = (value[t + 1], found[t + 1]) if follows else (0.0, 0.0)
        found[t] = reward[t] + ahead - value[t] + gae_lambda * later
    return torch.tensor(found, dtype=values.dtype, device=values.device)


def clipped_surrogate(
    log_probs: Float[Tensor, " tokens"],
    old: Float[Tensor, " tokens"],
    advantages: Float[Tensor, " tokens"],
    *,
    clip: float,
) -> Float[Tensor, " tokens"]:
    """min(ρA, clip(ρ, 1 ± ε)·A) of each token, to be maximized; ρ = π/π_old."""
    ratio = (log_probs - old).exp()
    return torch.minimum(ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages)


@contextmanager
def value_head(model: nn.Module) -> Iterator[None]:
    """While open, the model has a value head: a trainable sub-module, so it is a part of θ.

    Optimizer, checkpoints and the step that is kept include it. It begins at V = 0.

    Raises:
        ModelError: if the model names no output embedding, whose input the head reads.
    """
    embedding = output_embedding(model)
    if embedding is None:
        raise ModelError(
            "PPO's model must name its output embedding (get_output_embeddings); got none. Use "
            "dpo, or another model."
        )
    weight: Any = embedding.weight
    head = nn.Linear(weight.shape[1], 1, device=weight.device)
    head.to(torch.promote_types(weight.dtype, torch.float32))
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    model.add_module(_HEAD, head)
    try:
        yield
    finally:
        delattr(model, _HEAD)


@dataclass(frozen=True)
class _Experience:
    """A batch of sampled rows, and what stays fixed while they are gone over; a value a token."""

    batch: Batch
    old: Float[Tensor, " tokens"]
    values: Float[Tensor, " tokens"]
    advantages: Float[Tensor, " tokens"]
    kl: Float[Tensor, " tokens"]


def ppo_step(
    problem: InnerProblem, objective: SampledReward, settings: BaselineSettings, *, seed: int
) -> Step:
    """One step: samples replies to `settings.batch` prompts, and `settings.epochs` passes on them.

    Args:
        problem: the model with its value head, θ₀ and the clipping of gradients.
        objective: prompts, replies per prompt, sampler and reward.
        settings: of PPO.
        seed: of sampling and of the order of the prompts.
    """

    def step(state: UnlearnState) -> dict[str, float]:
        found, mean = _experience(problem, objective, settings, step=state.step, seed=seed)
        advantages = torch.cat([e.advantages for e in found])
        spread = advantages.std(correction=0) + 1e-8
        theta = params.trainable(problem.model)
        facts: dict[str, float] = {}
        for _ in range(settings.epochs):
            facts, gradient = _pass(
                problem.model, found, settings, float(advantages.mean()), float(spread)
            )
            facts |= apply_gradient(
                problem.settings, state.optimizer, theta, gradient, rate="baseline.learning_rate"
            )
        kl = float(torch.cat([e.kl for e in found]).mean())
        return {**facts, "sampled_reward": mean, "kl": kl}

    return step


def _experience(
    problem: InnerProblem,
    objective: SampledReward,
    settings: BaselineSettings,
    *,
    step: int,
    seed: int,
) -> tuple[list[_Experience], float]:
    """Replies of the policy as it stands, with their advantages; and their mean reward."""
    model = problem.model
    asked = drawn(len(objective.prompts), settings.batch, step=step, seed=seed)
    prompts = [objective.prompts[i] for i in asked]
    rollouts = objective.sampler(
        model, prompts, samples=objective.samples, seed=step_seed(seed + _SAMPLING_SEED, step)
    )
    answered = [prompts[i] for i in rollouts.prompt_index]
    rewards = torch.from_numpy(score(objective.reward, answered, rollouts.replies))
    with torch.no_grad():
        with params.standing_at(model, problem.origin):
            reference = [response_log_probs(model, batch).values for batch in rollouts.batches]
        found = []
        for batch, anchor in zip(rollouts.batches, reference, strict=True):
            old, values = _log_probs_and_values(model, batch)
            shaped = shaped_rewards(
                rewards[batch.index.cpu()].to(anchor), old, anchor, kl=settings.kl
            )
            advantages = generalized_advantages(
                shaped, values, old.rows, gae_lambda=settings.gae_lambda
            )
            found.append(_Experience(batch, old.values, values, advantages, old.values - anchor))
    return found, float(rewards.mean())


def _pass(
    model: nn.Module,
    found: list[_Experience],
    settings: BaselineSettings,
    centre: float,
    spread: float,
) -> tuple[dict[str, float], Parameters]:
    """Loss and gradient over all replies, advantages whitened over all their tokens."""
    theta = params.trainable(model)
    tokens = sum(len(e.old) for e in found)
    facts = {"loss": 0.0, "value_loss": 0.0}
    gradient: Parameters | None = None
    for e in found:
        log_probs, values = _log_probs_and_values(model, e.batch)
        surrogate = clipped_surrogate(
            log_probs.values, e.old, (e.advantages - centre) / spread, clip=settings.clip
        )
        error = (values - (e.advantages + e.values)).square()
        loss = (settings.value_weight * error - surrogate).sum() / tokens
        gradient = params.accumulate(gradient, params.gradient(loss, theta))
        facts["loss"] += float(loss.detach())
        facts["value_loss"] += float(error.detach().sum()) / tokens
    assert gradient is not None
    return facts, gradient


def _log_probs_and_values(
    model: nn.Module, batch: Batch
) -> tuple[TokenLogProbs, Float[Tensor, " tokens"]]:
    """Log π(y_t) and V before y_t, of every response token, from one forward pass."""
    seen: list[Tensor] = []
    embedding, head = output_embedding(model), getattr(model, _HEAD)
    assert embedding is not None

    def read(_: nn.Module, inputs: tuple[Tensor, ...], __: Any) -> None:
        seen.append(inputs[0])  # (1, some tokens, h): those that predict a reply, in their order

    hook = embedding.register_forward_hook(read)
    try:
        log_probs = response_log_probs(model, batch)
    finally:
        hook.remove()
    return log_probs, head(torch.cat(seen, dim=1).to(head.weight.dtype)).reshape(-1)
