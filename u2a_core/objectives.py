"""The alignment objective J(θ), maximized: its value with an interval, and its gradient.

`SampledReward` is Eq. 1 with a leave-one-out baseline (RLOO); `CandidateReward` its expectation
among given replies, and `PreferenceObjective` the mean log-sigmoid margin on pairs: the two are
smooth, without sampling. All are frozen values; the model comes as an argument.

A gradient comes in parts, one for each part of the prompts: their sum is ∇J, their spread its
standard error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from u2a_core import params
from u2a_core.errors import ConfigError, ModelError
from u2a_core.losses import response_log_probs
from u2a_core.types import (
    Batch,
    Estimate,
    Prompt,
    Reward,
    Rollouts,
    Sampler,
    prompt_text,
)

if TYPE_CHECKING:
    from u2a_core.types import Parameters


@runtime_checkable
class Objective(Protocol):
    """J(θ) and ∇J(θ)."""

    def value(self, model: nn.Module, *, seed: int) -> Estimate:
        """J with its interval."""
        ...

    def value_and_parts(
        self, model: nn.Module, *, seed: int, splits: int
    ) -> tuple[Estimate, list[Parameters]]:
        """J, and for each of `splits` parts of the prompts its contribution to ∇J."""
        ...

    def value_and_gradient(self, model: nn.Module, *, seed: int) -> tuple[Estimate, Parameters]:
        """J and ∇J over the trainable parameters, from the same samples."""
        estimate, (gradient,) = self.value_and_parts(model, seed=seed, splits=1)
        return estimate, gradient


def mean_estimate(values: Sequence[float] | np.ndarray) -> Estimate:
    """The mean of independent values with its normal 95 % interval."""
    array = np.asarray(values, dtype=np.float64)
    count = len(array)
    half = float(1.96 * array.std(ddof=1) / math.sqrt(count)) if count > 1 else math.inf
    mean = float(array.mean())
    return Estimate(mean=mean, low=mean - half, high=mean + half, n=count)


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
        rollouts, rewards = self._draw(model, seed)
        advantages = leave_one_out_advantages(rewards).flatten() / rewards.numel()

        def surrogate(rows: Batch) -> Tensor:
            sums = response_log_probs(model, rows).sums()
            return (advantages[rows.index.cpu()].to(sums) * sums).sum()

        # a reply whose prompt's replies all scored alike has no signal, and needs no pass
        part = torch.tensor(rollouts.prompt_index) % splits
        part = torch.where(advantages != 0, part, -1)
        parts = _gradient_parts(model, rollouts.batches, part, splits, surrogate)
        return mean_estimate(rewards.mean(1).numpy()), parts

    def _draw(self, model: nn.Module, seed: int) -> tuple[Rollouts, Float[Tensor, "p s"]]:
        rollouts = self.sampler(model, self.prompts, samples=self.samples, seed=seed)
        texts = [prompt_text(self.prompts[i]) for i in rollouts.prompt_index]
        values = score(self.reward, texts, rollouts.replies)
        return rollouts, torch.from_numpy(values).reshape(len(self.prompts), self.samples)


def _gradient_parts(
    model: nn.Module,
    batches: Sequence[Batch],
    part: Int[Tensor, " rows"],
    splits: int,
    value: Callable[[Batch], Tensor],
) -> list[Parameters]:
    """∇Σ value(rows), apart for the rows of each part; rows of part −1 are left out."""
    theta = params.trainable(model)
    parts = []
    for number in range(splits):
        total: Parameters | None = None
        for batch in batches:
            keep = part[batch.index.cpu()] == number
            if bool(keep.any()):
                piece = params.gradient(value(batch.select(keep)), theta)
                total = params.accumulate(total, piece)
        parts.append(total or {name: torch.zeros_like(p) for name, p in theta.items()})
    return parts


class SmoothObjective(Objective, Protocol):
    """A J that is a mean over prompts of a smooth function of log π: no sampling, no seed."""

    batches: tuple[Batch, ...]

    def unit_of(self) -> Int[Tensor, " rows"]:
        """Which prompt (or pair) each row of the batches belongs to, counted from 0."""
        ...

    def terms(self, sums: Float[Tensor, " b"], index: Int[Tensor, " b"]) -> Float[Tensor, " units"]:
        """J of each prompt of a batch, which holds all of its rows, by rising number; float64.

        Args:
            sums: log π(y|x) of each row, float64.
            index: the reply of each row.
        """
        ...

    def values(self, model: nn.Module) -> Float[Tensor, " units"]:
        """J of every prompt, in order."""
        found = self._empty()
        with torch.no_grad():
            for batch in self.batches:
                log_probs = response_log_probs(model, batch)
                self._put(found, log_probs.sums().double(), log_probs.index)
        return found

    def values_and_parts(
        self, model: nn.Module, *, splits: int = 1
    ) -> tuple[Float[Tensor, " units"], list[Parameters]]:
        """J of every prompt, and the contribution of each part of the prompts to ∇J."""
        found = self._empty()

        def value(rows: Batch) -> Tensor:
            log_probs = response_log_probs(model, rows)
            sums = log_probs.sums().double()
            return self._put(found, sums, log_probs.index).sum() / len(found)

        part = self.unit_of() % splits
        return found, _gradient_parts(model, self.batches, part, splits, value)

    def value(self, model: nn.Module, *, seed: int) -> Estimate:
        """Mean over prompts; deterministic, the seed is not used."""
        return mean_estimate(self.values(model).numpy())

    def value_and_parts(
        self, model: nn.Module, *, seed: int, splits: int
    ) -> tuple[Estimate, list[Parameters]]:
        """J, and the contribution of each part of the prompts to ∇J."""
        found, parts = self.values_and_parts(model, splits=splits)
        return mean_estimate(found.numpy()), parts

    def _empty(self) -> Float[Tensor, " units"]:
        return torch.zeros(int(self.unit_of().max()) + 1, dtype=torch.float64)

    def _put(
        self, found: Float[Tensor, " units"], sums: Float[Tensor, " b"], index: Int[Tensor, " b"]
    ) -> Float[Tensor, " some"]:
        """The terms of some rows, which are also written where they belong."""
        terms = self.terms(sums, index)
        units = torch.unique(self.unit_of()[index.cpu()])
        found[units] = terms.detach().cpu()
        return terms


@dataclass(frozen=True)
class CandidateReward(SmoothObjective):
    """J(θ) = mean_x Σ_y softmax_y(log π(y|x))·r(x, y) over given replies y, log π a sequence sum.

    Attributes:
        batches: each holds all the replies of its prompts.
        prompt_of: which prompt each reply belongs to.
        rewards: r of each reply.

    Raises:
        ConfigError: if no prompt has two replies whose rewards differ: J would be constant.
    """

    batches: tuple[Batch, ...]
    prompt_of: Int[Tensor, " replies"]
    rewards: Float[Tensor, " replies"]

    def __post_init__(self) -> None:
        first = torch.full((int(self.prompt_of.max()) + 1,), math.nan, dtype=self.rewards.dtype)
        first[self.prompt_of] = self.rewards
        if bool((first[self.prompt_of] == self.rewards).all()):
            raise ConfigError(
                "J must have a prompt with two candidate replies whose rewards differ, or its "
                f"gradient is 0; got {len(self.rewards)} candidates of {len(first)} prompts "
                "without one. Check objective.reward, or give more pairs, prompts or "
                "objective.samples."
            )

    def unit_of(self) -> Int[Tensor, " replies"]:
        """The prompt of each reply."""
        return self.prompt_of

    def terms(
        self, sums: Float[Tensor, " b"], index: Int[Tensor, " b"]
    ) -> Float[Tensor, " prompts"]:
        """The expected reward of each prompt."""
        owner = self.prompt_of.to(sums.device)[index]
        prompts, owner = torch.unique(owner, return_inverse=True)
        empty = sums.new_zeros(len(prompts))
        largest = (empty - math.inf).scatter_reduce(0, owner, sums.detach(), "amax")
        shares = (sums - largest[owner]).exp()
        rewarded = empty.index_add(0, owner, shares * self.rewards.to(sums)[index])
        return rewarded / empty.index_add(0, owner, shares)


@dataclass(frozen=True)
class PreferenceObjective(SmoothObjective):
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

    def unit_of(self) -> Int[Tensor, " replies"]:
        """The pair of each reply."""
        return torch.arange(len(self.reference_log_probs)) // 2

    def terms(self, sums: Float[Tensor, " b"], index: Int[Tensor, " b"]) -> Float[Tensor, " pairs"]:
        """The log-sigmoid margin of each pair."""
        ratio = sums - self.reference_log_probs.to(sums)[index]
        ratio = ratio[torch.argsort(index)]
        return F.logsigmoid(self.dpo_beta * (ratio[0::2] - ratio[1::2]))
