"""Everything that a settings file names, loaded: the policy, the negative set, J, the problem.

Between the pure mathematics (which takes models and batches) and the commands (which take a run
directory). Only results read `test_prompts` and `mislabelled`, which must influence no decision.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import torch

from u2a_core import params
from u2a_core.config import Settings
from u2a_core.data import (
    load_negatives,
    load_preferences,
    load_prompts,
    load_retain,
    load_truth,
)
from u2a_core.data.encode import EncodingReport, batches, encode
from u2a_core.errors import ConfigError
from u2a_core.losses import NPO, GradientAscent, sequence_log_probs
from u2a_core.models import Generator, Policy, load_policy, load_reward
from u2a_core.objectives import Objective, PreferenceObjective, SampledReward, score
from u2a_core.reweight import Scorer
from u2a_core.types import (
    Batch,
    NegativeSet,
    PerSampleLoss,
    PreferencePair,
    Prompt,
    Reward,
    Sample,
    prompt_text,
)
from u2a_core.unlearn import InnerProblem

_T = TypeVar("_T")
_EVALUATION_SEED = 7_919
"""Offset of the seed of test replies, so that they share no draw with J's."""


@dataclass(frozen=True)
class Experiment:
    """A policy and a negative set, ready to be scored and unlearned.

    Attributes:
        settings: what was asked for.
        policy: the model.
        negatives: the negative set.
        encoding: how many replies were truncated, and all lengths in tokens.
        problem: the inner problem at θ₀.
        objective: J.
        mislabelled: (n,) the flag of truth, where the settings name a file of it.
    """

    settings: Settings
    policy: Policy
    negatives: NegativeSet
    encoding: EncodingReport
    problem: InnerProblem
    objective: Objective
    mislabelled: np.ndarray | None

    @property
    def scorer(self) -> Scorer:
        """Scores the negatives at the model's current θ."""
        return Scorer(self.problem, self.objective, self.settings.outer.sparsity)

    @cached_property
    def test_prompts(self) -> tuple[Prompt, ...]:
        """Prompts for the comparison; empty where none are given."""
        return tuple(
            load_prompts(self.settings.data.prompts)[0] if self.settings.data.prompts else ()
        )

    @cached_property
    def _measure(self) -> Reward | None:
        spec = self.settings.evaluation.reward or self.settings.objective.reward
        return load_reward(spec, self.settings.model) if spec else None

    def evaluate(self) -> pd.DataFrame:
        """Sampled replies to the test prompts, scored: prompt, sample, reply, reward.

        Empty without test prompts; the reward is missing without a reward to measure with.
        """
        objective, samples = self.settings.objective, self.settings.evaluation.samples
        if not self.test_prompts:
            return pd.DataFrame(columns=["prompt", "sample", "reply", "reward"])
        generator = Generator(
            self.policy.tokenizer, objective.max_new_tokens, objective.temperature
        )
        seed = self.settings.seed + _EVALUATION_SEED
        rollouts = generator(self.policy.model, self.test_prompts, samples=samples, seed=seed)
        texts = [prompt_text(self.test_prompts[i]) for i in rollouts.prompt_index]
        rewards = np.full(len(texts), np.nan)
        if self._measure is not None:
            rewards = score(self._measure, texts, rollouts.replies)
        return pd.DataFrame(
            {
                "prompt_index": rollouts.prompt_index,
                "sample": [i % samples for i in range(len(texts))],
                "prompt": texts,
                "reply": rollouts.replies,
                "reward": rewards,
            }
        )


def load_experiment(settings: Settings) -> Experiment:
    """Loads what the settings name; data first, because it fails fastest."""
    if settings.threads:
        torch.set_num_threads(settings.threads)
    torch.manual_seed(settings.seed)  # the initial adapter, where there is one
    if not settings.data.negatives:
        raise ConfigError("data.negatives must name a file of negative samples; got nothing.")
    negatives = load_negatives(settings.data.negatives)
    truth = _truth(settings, negatives)
    pairs = load_preferences(settings.data.preferences)[0] if settings.data.preferences else []
    asked = objective_prompts(settings, negatives, pairs)
    kept = load_retain(settings.data.retain)[0] if settings.data.retain else []
    if settings.inner.samples_per_step > len(negatives):
        raise ConfigError(
            f"inner.samples_per_step must be at most the {len(negatives)} negative samples; got "
            f"{settings.inner.samples_per_step}. Lower it, or set 0 to take all."
        )
    policy = load_policy(settings.model)
    rows, encoding = _encoded(policy, negatives.samples, settings)
    loss = per_sample_loss(settings, policy, rows)
    problem = InnerProblem(
        model=policy.model,
        batches=rows,
        loss=loss,
        settings=settings.inner,
        origin=params.snapshot(params.trainable(policy.model)),
        retain=_encoded(policy, kept, settings)[0] if kept else (),
        vocabulary=policy.model.get_input_embeddings().num_embeddings,  # type: ignore[operator]
    )
    objective = load_objective(settings, policy, asked, pairs)
    return Experiment(settings, policy, negatives, encoding, problem, objective, truth)


def _truth(settings: Settings, negatives: NegativeSet) -> np.ndarray | None:
    if not settings.data.truth:
        return None
    return np.asarray(load_truth(settings.data.truth, [sample.id for sample in negatives.samples]))


def _drawn(items: list[_T], most: int, seed: int) -> list[_T]:
    """At most so many of the items, in their order."""
    if len(items) <= most:
        return items
    rows = np.random.default_rng(seed).choice(len(items), most, replace=False)
    return [items[i] for i in sorted(rows.tolist())]


def per_sample_loss(settings: Settings, policy: Policy, rows: tuple[Batch, ...]) -> PerSampleLoss:
    """ℓ_i of the method; NPO's reference log-probabilities are computed once, at θ₀."""
    if settings.inner.method == "npo":
        return NPO(settings.inner.npo_beta, sequence_log_probs(policy.model, list(rows)))
    return GradientAscent()


def objective_prompts(
    settings: Settings, negatives: NegativeSet, pairs: list[PreferencePair]
) -> list[Prompt]:
    """The prompts on which replies are sampled and rewarded, each once."""
    if settings.data.objective_prompts:
        found, _ = load_prompts(settings.data.objective_prompts)
    else:
        found = [item.prompt for item in pairs or negatives.samples]
    return list(dict.fromkeys(found))


def load_objective(
    settings: Settings, policy: Policy, prompts: list[Prompt], pairs: list[PreferencePair]
) -> Objective:
    """J on the prompts, or on the preference pairs.

    Raises:
        ConfigError: if J lacks what it needs; names the ways to give it.
    """
    most, seed = settings.objective.max_prompts, settings.seed
    if settings.objective.kind == "sampled_reward":
        return SampledReward(
            sampler=Generator(policy.tokenizer, settings.objective.max_new_tokens),
            prompts=tuple(_drawn(prompts, most, seed)),
            reward=load_reward(settings.objective.reward, settings.model),
            samples=settings.objective.samples,
        )
    if not pairs:
        raise ConfigError(
            "data.preferences must name preference pairs (prompt, chosen, rejected) for "
            "objective.kind preference; got nothing. Or use sampled_reward with objective.reward."
        )
    pairs = _drawn(pairs, most, seed)
    rows = _pair_batches(policy, pairs, settings)
    reference = sequence_log_probs(policy.model, list(rows))
    return PreferenceObjective(rows, reference, settings.objective.dpo_beta)


def _encoded(
    policy: Policy, samples: Sequence[Sample], settings: Settings
) -> tuple[tuple[Batch, ...], EncodingReport]:
    encoded, report = encode(samples, policy.tokenizer, max_length=policy.max_length)
    size = settings.data.tokens_per_batch
    packed = batches(encoded, tokens_per_batch=size, pad_id=policy.pad_id)
    return tuple(batch.to(policy.device) for batch in packed), report


def _pair_batches(
    policy: Policy, pairs: list[PreferencePair], settings: Settings
) -> tuple[Batch, ...]:
    """Batches of whole pairs: rows 2i (chosen) and 2i + 1 (rejected)."""
    samples = [
        Sample(f"{i}-{side}", pair.prompt, getattr(pair, side))
        for i, pair in enumerate(pairs)
        for side in ("chosen", "rejected")
    ]
    encoded, _ = encode(samples, policy.tokenizer, max_length=policy.max_length)
    longest = max(len(row.input_ids) for row in encoded)
    size = 2 * max(1, settings.data.tokens_per_batch // (2 * longest))
    out = []
    for start in range(0, len(encoded), size):
        piece = encoded[start : start + size]
        (batch,) = batches(piece, tokens_per_batch=size * longest, pad_id=policy.pad_id)
        shifted = dataclasses.replace(batch, index=batch.index + start)
        out.append(shifted.to(policy.device))
    return tuple(out)


def describe(experiment: Experiment) -> dict[str, Any]:
    """What a report says of the data and the model."""
    theta = params.trainable(experiment.policy.model)
    return {
        "negatives": len(experiment.negatives),
        "duplicates_dropped": experiment.negatives.duplicates,
        "faults": len(experiment.negatives.faults),
        "truncated": experiment.encoding.truncated,
        "negatives_sha256": experiment.negatives.sha256,
        "trainable_parameters": sum(p.numel() for p in theta.values()),
        "slopes_see": experiment.settings.model.parameters,
        "device": str(experiment.policy.device),
        "dtype": str(next(experiment.policy.model.parameters()).dtype).removeprefix("torch."),
    }
