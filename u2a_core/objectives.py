"""The alignment objective J(θ), maximized: its value with an interval, and its gradient.

`SampledReward` is Eq. 1 with a leave-one-out baseline (RLOO); `PreferenceObjective` the mean
log-sigmoid margin on preference pairs. Both are frozen values; the model comes as an argument.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from u2a_core import params
from u2a_core.errors import ConfigError, ModelError
from u2a_core.losses import response_log_probs
from u2a_core.types import Batch, Estimate, Prompt, Reward, Rollouts, Sampler, prompt_text

if TYPE_CHECKING:
    from u2a_core.types import Parameters


@runtime_checkable
class Objective(Protocol):
    """J(θ) and ∇J(θ)."""

    def value(self, model: nn.Module, *, seed: int) -> Estimate:
        """J with its interval."""
        ...

    def value_and_gradient(self, model: nn.Module, *, seed: int) -> tuple[Estimate, Parameters]:
        """J and ∇J over the trainable parameters, from the same samples."""
        ...


def mean_estimate(values: Sequence[float] | np.ndarray) -> Estimate:
    """The mean of independent values with its normal 95 % interval."""
    array = np.asarray(values, dtype=np.float64)
    half = 1.96 * array.std(ddof=1) / math.sqrt(len(array)) if len(array) > 1 else math.inf
    mean = float(array.mean())
    return Estimate(mean=mean, low=mean - half, high=mean + half, n=len(array))


def score(reward: Reward, prompts: Sequence[str], replies: Sequence[str]) -> np.ndarray:
    """Rewards as an array, checked.

    Raises:
        ModelError: if the reward function returns what are no numbers, another count, or a value
            that is not finite.
    """
    returned = reward(prompts, replies)
    try:
        values = np.asarray(returned, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ModelError(
            f"The reward must return numbers; got: {error}. Check the reward function."
        ) from error
    if values.shape != (len(replies),):
        raise ModelError(
            f"The reward must return one number per reply ({len(replies)}); "
            f"got shape {values.shape}. Check the reward function."
        )
    if not np.isfinite(values).all():
        first = int(np.flatnonzero(~np.isfinite(values))[0])
        raise ModelError(
            f"The reward must be finite; got {values[first]} for the reply "
            f"{replies[first][:60]!r}. Check the reward function."
        )
    return values


def leave_one_out_advantages(rewards: Float[Tensor, "p s"]) -> Float[Tensor, "p s"]:
    """A = r − (mean of the prompt's other replies), the RLOO baseline; rows sum to zero."""
    samples = rewards.shape[1]
    return (rewards - rewards.mean(1, keepdim=True)) * samples / (samples - 1)


@dataclass(frozen=True)
class SampledReward:
    """J(θ) = E_{x, y~π_θ}[r(x, y)] (Eq. 1).

    Attributes:
        sampler: draws replies from the policy at temperature 1.
        prompts: x.
        reward: r.
        samples: replies per prompt, at least 2.
    """

    sampler: Sampler
    prompts: tuple[Prompt, ...]
    reward: Reward
    samples: int = 4

    def __post_init__(self) -> None:
        if self.samples < 2:
            raise ConfigError(
                f"objective.samples must be at least 2 (the baseline leaves one out); "
                f"got {self.samples}."
            )
        if not self.prompts:
            raise ConfigError(
                "SampledReward must have prompts; got none. Set data.objective_prompts."
            )

    def value(self, model: nn.Module, *, seed: int) -> Estimate:
        """Mean reward over prompts, with its 95 % interval."""
        return mean_estimate(self._draw(model, seed)[1].mean(1).numpy())

    def value_and_gradient(self, model: nn.Module, *, seed: int) -> tuple[Estimate, Parameters]:
        """J and the policy gradient E[A·∇log π(y|x)], log π the sequence sum."""
        rollouts, rewards = self._draw(model, seed)
        advantages = leave_one_out_advantages(rewards).flatten()
        theta = params.trainable(model)
        total: Parameters | None = None
        for batch in rollouts.batches:
            part = _policy_gradient(model, batch, advantages / len(advantages), theta)
            total = params.accumulate(total, part) if part is not None else total
        if total is None:  # every prompt's replies scored alike: no signal
            total = {name: torch.zeros_like(p) for name, p in theta.items()}
        return mean_estimate(rewards.mean(1).numpy()), total

    def _draw(self, model: nn.Module, seed: int) -> tuple[Rollouts, Float[Tensor, "p s"]]:
        rollouts = self.sampler(model, self.prompts, samples=self.samples, seed=seed)
        texts = [prompt_text(self.prompts[i]) for i in rollouts.prompt_index]
        values = score(self.reward, texts, rollouts.replies)
        return rollouts, torch.from_numpy(values).reshape(len(self.prompts), self.samples)


def _policy_gradient(
    model: nn.Module, batch: Batch, advantages: Tensor, theta: Parameters
) -> Parameters | None:
    """∇Σ A·log π(y|x) over the rows whose advantage is not zero."""
    keep = advantages[batch.index.cpu()] != 0
    if not bool(keep.any()):
        return None
    rows = batch.select(keep)
    sums = response_log_probs(model, rows).sums()
    return params.gradient((advantages[rows.index.cpu()].to(sums) * sums).sum(), theta)


@dataclass(frozen=True)
class PreferenceObjective:
    """J = mean log σ(β·[(log π−log π_ref)(y_w) − (log π−log π_ref)(y_l)]).

    Attributes:
        batches: each holds whole pairs: the row with index 2i is pair i's chosen reply, the row
            with 2i+1 its rejected one.
        reference_log_probs: log π_ref of the 2m replies, sequence sums.
        dpo_beta: β.
    """

    batches: tuple[Batch, ...]
    reference_log_probs: Float[Tensor, " replies"]
    dpo_beta: float = 0.3

    def value(self, model: nn.Module, *, seed: int) -> Estimate:
        """Mean over pairs; deterministic, the seed is not used."""
        with torch.no_grad():
            parts = [self._terms(model, batch) for batch in self.batches]
        return mean_estimate(torch.cat(parts).cpu().numpy())

    def value_and_gradient(self, model: nn.Module, *, seed: int) -> tuple[Estimate, Parameters]:
        """J and ∇J."""
        theta = params.trainable(model)
        pairs = len(self.reference_log_probs) // 2
        values, total = [], None
        for batch in self.batches:
            terms = self._terms(model, batch)
            total = params.accumulate(total, params.gradient(terms.sum() / pairs, theta))
            values.append(terms.detach())
        assert total is not None
        return mean_estimate(torch.cat(values).cpu().numpy()), total

    def _terms(self, model: nn.Module, batch: Batch) -> Float[Tensor, " pairs"]:
        sums = response_log_probs(model, batch).sums()
        ratio = sums - self.reference_log_probs.to(sums)[batch.index]
        ratio = ratio[torch.argsort(batch.index)]
        return F.logsigmoid(self.dpo_beta * (ratio[0::2] - ratio[1::2]))
