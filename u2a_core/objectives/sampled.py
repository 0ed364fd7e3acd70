"""Eq. 1: the expected reward of sampled replies, with a leave-one-out baseline (RLOO)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from u2a_core.errors import ConfigError, ModelError
from u2a_core.losses import response_log_probs
from u2a_core.objectives.protocol import Objective, gradient_parts, mean_estimate
from u2a_core.types import Batch, Estimate, Prompt, Reward, Rollouts, Sampler

if TYPE_CHECKING:
    from u2a_core.types import Parameters


def score(reward: Reward, prompts: Sequence[Prompt], replies: Sequence[str]) -> np.ndarray:
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
class SampledReward(Objective):
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

    def value_and_parts(
        self, model: nn.Module, *, seed: int, splits: int
    ) -> tuple[Estimate, list[Parameters]]:
        """J and the policy gradient E[A·∇log π(y|x)], log π the sequence sum."""
        splits = min(splits, len(self.prompts))
        rollouts, rewards = self._draw(model, seed)
        advantages = leave_one_out_advantages(rewards).flatten() / rewards.numel()

        def surrogate(rows: Batch) -> Tensor:
            sums = response_log_probs(model, rows).sums()
            return (advantages[rows.index.cpu()].to(sums) * sums).sum()

        # a reply whose prompt's replies all scored alike has no signal, and needs no pass
        part = torch.tensor(rollouts.prompt_index) % splits
        part = torch.where(advantages != 0, part, -1)
        parts = gradient_parts(model, rollouts.batches, part, splits, surrogate)
        return mean_estimate(rewards.mean(1).numpy()), parts

    def shares(self, splits: int) -> Float[Tensor, " splits"]:
        """The share of the prompts that each part has."""
        part = torch.arange(len(self.prompts)) % splits
        return torch.bincount(part, minlength=splits).double() / len(part)

    def _draw(self, model: nn.Module, seed: int) -> tuple[Rollouts, Float[Tensor, "p s"]]:
        rollouts = self.sampler(model, self.prompts, samples=self.samples, seed=seed)
        asked = [self.prompts[i] for i in rollouts.prompt_index]
        values = score(self.reward, asked, rollouts.replies)
        return rollouts, torch.from_numpy(values).reshape(len(self.prompts), self.samples)
