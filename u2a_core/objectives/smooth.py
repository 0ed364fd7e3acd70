"""Objectives without sampling: smooth functions of log π of given replies."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from u2a_core.errors import ConfigError
from u2a_core.losses import response_log_probs
from u2a_core.objectives.protocol import Objective, gradient_parts, mean_estimate
from u2a_core.types import Batch, Estimate, TokenLogProbs

if TYPE_CHECKING:
    from u2a_core.types import Parameters


class SmoothObjective(Objective, Protocol):
    """A J that is a mean over prompts of a smooth function of log π: no sampling, no seed."""

    batches: tuple[Batch, ...]

    def unit_of(self) -> Int[Tensor, " rows"]:
        """Which prompt (or pair) each row of the batches belongs to, counted from 0."""
        ...

    def group_of(self) -> Int[Tensor, " units"]:
        """Which independent group each prompt (or pair) belongs to, counted from 0."""
        return torch.arange(len(self._empty()))

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
                self._put(found, log_probs)
        return found

    def values_and_parts(
        self, model: nn.Module, *, splits: int = 1
    ) -> tuple[Float[Tensor, " units"], list[Parameters]]:
        """J of every prompt, and the contribution of each part of the groups to ∇J."""
        found = self._empty()

        def value(rows: Batch) -> Tensor:
            log_probs = response_log_probs(model, rows)
            return self._put(found, log_probs).sum() / len(found)

        splits = min(splits, int(self.group_of().max()) + 1)
        part = self.group_of()[self.unit_of()] % splits
        return found, gradient_parts(model, self.batches, part, splits, value)

    def value(self, model: nn.Module, *, seed: int) -> Estimate:
        """Mean over prompts; deterministic, the seed is not used."""
        return self.estimate(self.values(model).numpy())

    def estimate(self, values: np.ndarray) -> Estimate:
        """The mean of a value of every prompt, such as a change of J, over independent groups."""
        return mean_estimate(values, self.group_of().numpy())

    def shares(self, splits: int) -> Float[Tensor, " splits"]:
        """The share of the prompts that each part of the groups has."""
        part = self.group_of() % splits
        return torch.bincount(part, minlength=splits).double() / len(part)

    def value_and_parts(
        self, model: nn.Module, *, seed: int, splits: int
    ) -> tuple[Estimate, list[Parameters]]:
        """J, and the contribution of each part of the groups to ∇J."""
        found, parts = self.values_and_parts(model, splits=splits)
        return self.estimate(found.numpy()), parts

    def _empty(self) -> Float[Tensor, " units"]:
        return torch.zeros(int(self.unit_of().max()) + 1, dtype=torch.float64)

    def _put(
        self, found: Float[Tensor, " units"], log_probs: TokenLogProbs
    ) -> Float[Tensor, " some"]:
        """The terms of some rows, which are also written where they belong."""
        index = log_probs.index.cpu()  # one number a row, and not every device has float64
        terms = self.terms(log_probs.sums().cpu().double(), index)
        found[torch.unique(self.unit_of()[index])] = terms.detach()
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
        prompt_of: (m,) the prompt of each pair, from 0; None: each pair has its own. J is the mean
            over pairs; pairs of one prompt are not independent, so that intervals count prompts.
    """

    batches: tuple[Batch, ...]
    reference_log_probs: Float[Tensor, " replies"]
    dpo_beta: float = 0.3
    prompt_of: Int[Tensor, " pairs"] | None = None

    def unit_of(self) -> Int[Tensor, " replies"]:
        """The pair of each reply."""
        return torch.arange(len(self.reference_log_probs)) // 2

    def group_of(self) -> Int[Tensor, " pairs"]:
        """The prompt of each pair."""
        return super().group_of() if self.prompt_of is None else self.prompt_of

    def terms(self, sums: Float[Tensor, " b"], index: Int[Tensor, " b"]) -> Float[Tensor, " pairs"]:
        """The log-sigmoid margin of each pair."""
        ratio = sums - self.reference_log_probs.to(sums)[index]
        ratio = ratio[torch.argsort(index)]
        return F.logsigmoid(self.dpo_beta * (ratio[0::2] - ratio[1::2]))
