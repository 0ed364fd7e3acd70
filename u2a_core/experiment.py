"""Everything that a settings file names, loaded: the policy, the negative set, J, the problem.

Between the pure mathematics (which takes models and batches) and the commands (which take a run
directory). Only results read `test_prompts` and `mislabelled`, which must influence no decision.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from u2a_core import params
from u2a_core.alignment import (
    disagreement,
    encoded,
    load_objective,
    objective_prompts,
    reward_agreement,
    smooth_objective,
)
from u2a_core.config import DataSettings, Settings
from u2a_core.data import (
    load_negatives,
    load_preferences,
    load_prompts,
    load_retain,
    load_truth,
)
from u2a_core.data.encode import EncodingReport
from u2a_core.errors import ConfigError
from u2a_core.losses import NPO, GradientAscent, SimNPO, sequence_log_probs
from u2a_core.models import (
    Generator,
    Policy,
    context_length,
    load_policy,
    load_reward,
    use_threads,
)
from u2a_core.objectives import Objective, SmoothObjective, score
from u2a_core.reweight import Scorer
from u2a_core.room import answerable, with_room
from u2a_core.types import (
    Batch,
    Estimate,
    NegativeSet,
    PerSampleLoss,
    PreferencePair,
    Prompt,
    Reward,
    Sample,
    prompt_text,
)
from u2a_core.unlearn import InnerProblem

EVALUATION_SEED = 7_919
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
        pairs: the preference pairs, where the settings name a file of them.
        mislabelled: (n,) the flag of truth, where the settings name a file of it.
        agreement: how often the reward agrees with the pairs, where it is asked for J.
        test_prompts: for the comparison, each once; empty where none are given.
        left_out: a sentence for each set of which samples or prompts leave no room for a reply.
    """

    settings: Settings
    policy: Policy
    negatives: NegativeSet
    encoding: EncodingReport
    problem: InnerProblem
    objective: Objective
    pairs: tuple[PreferencePair, ...]
    mislabelled: np.ndarray | None
    agreement: Estimate | None = None
    test_prompts: tuple[Prompt, ...] = ()
    left_out: tuple[str, ...] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """What must be told of the model, the data and the reward, a sentence each."""
        reward = disagreement(self.settings, self.agreement)
        return (*self.policy.warnings, *self.left_out, *reward)

    @property
    def scorer(self) -> Scorer:
        """Scores the negatives at the model's current θ."""
        return Scorer(
            self.problem,
            self.objective,
            self.settings.outer,
            self.policy.slopes_see,
            self.settings.objective.splits,
        )

    @cached_property
    def smooth(self) -> SmoothObjective:
        """J without sampling, for impact curves; the model must be at θ₀."""
        return smooth_objective(self.settings, self.policy, self.objective, list(self.pairs))

    @cached_property
    def _measure(self) -> Reward | None:
        spec = self.settings.evaluation.reward or self.settings.objective.reward
        return load_reward(spec, self.settings.model, self.settings.objective) if spec else None

    def evaluate(self) -> pd.DataFrame:
        """Sampled replies to the test prompts, scored: prompt, sample, reply, reward.

        Empty without test prompts; the reward is missing without a reward to measure with.
        """
        if not self.test_prompts:
            return pd.DataFrame(columns=["prompt", "sample", "reply", "reward"])
        found = sampled_replies(self.policy, self.test_prompts, self.settings)
        found["reward"] = np.nan
        if self._measure is not None:
            asked = [self.test_prompts[i] for i in found["prompt_index"]]
            found["reward"] = score(self._measure, asked, list(found["reply"]))
        return found


def sampled_replies(
    policy: Policy,
    prompts: Sequence[Prompt],
    settings: Settings,
    tick: Callable[[int, int], None] = lambda done, total: None,
) -> pd.DataFrame:
    """Replies for measurement: prompt_index, sample, prompt, reply, in prompt order.

    Every arm samples with the same seed, so that its replies pair with the others'.

    Args:
        policy: whose replies.
        prompts: to answer, `evaluation.samples` times each.
        settings: of sampling.
        tick: told before each batch how many replies are there, and of how many; may raise.
    """
    objective, samples = settings.objective, settings.evaluation.samples
    generator = Generator(
        policy.tokenizer,
        objective.max_new_tokens,
        objective.temperature,
        objective.generation_rows,
        tick,
    )
    seed = settings.seed + EVALUATION_SEED
    rollouts = generator(policy.model, prompts, samples=samples, seed=seed)
    return pd.DataFrame(
        {
            "prompt_index": rollouts.prompt_index,
            "sample": [i % samples for i in range(len(rollouts.replies))],
            "prompt": [prompt_text(prompts[i]) for i in rollouts.prompt_index],
            "reply": rollouts.replies,
        }
    )


def load_experiment(settings: Settings, last: Experiment | None = None) -> Experiment:
    """Loads what the settings name; data first, because it fails fastest.

    Args:
        settings: what to load.
        last: an experiment whose model is put back to θ₀ and used again, if it is the same one;
            not to be used further itself.
    """
    torch.manual_seed(settings.seed)  # the initial adapter, where there is one
    sets = _Sets.load(settings)
    policy = _policy(settings, last)
    negatives, pairs, kept, tested, left_out = sets.fitting(policy, settings)
    asked, of_asked = (
        objective_prompts(settings, policy, negatives, pairs)
        if settings.objective.kind == "sampled_reward"
        else ([], "")
    )
    use_threads(settings.threads, policy.model)
    rows, encoding = encoded(policy, negatives.samples, settings)
    loss = per_sample_loss(settings, policy, rows)
    problem = InnerProblem(
        model=policy.model,
        batches=rows,
        loss=loss,
        settings=settings.inner,
        origin=params.snapshot(params.trainable(policy.model)),
        retain=encoded(policy, kept, settings)[0] if kept else (),
        vocabulary=policy.model.get_input_embeddings().num_embeddings,  # type: ignore[operator]
    )
    objective = load_objective(settings, policy, asked, pairs)
    found = (_truth(settings, negatives), reward_agreement(settings, pairs), tuple(tested))
    told = (*left_out, *([of_asked] if of_asked else []))
    return Experiment(
        settings, policy, negatives, encoding, problem, objective, tuple(pairs), *found, told
    )


class _Sets(NamedTuple):
    """The sets that are trained on or answered, and what is told of them."""

    negatives: NegativeSet
    pairs: list[PreferencePair]
    kept: list[Sample]
    tested: list[Prompt]
    left_out: tuple[str, ...] = ()

    @classmethod
    def load(cls, settings: Settings) -> _Sets:
        """All that is usable of the files."""
        data = settings.data
        if not data.negatives:
            raise ConfigError("data.negatives must name a file of negative samples; got nothing.")
        negatives = load_negatives(data.negatives, columns=data.columns_of("negatives"))
        _check_step(settings, negatives)
        _truth(settings, negatives)  # fails before a model is loaded
        pairs, kept, tested = data.preferences, data.retain, data.prompts
        return cls(
            negatives,
            load_preferences(pairs, columns=data.columns_of("preferences"))[0] if pairs else [],
            load_retain(kept, columns=data.columns_of("retain"))[0] if kept else [],
            _asked_once(tested, data) if tested else [],
        )

    def fitting(self, policy: Policy, settings: Settings) -> _Sets:
        """Without the samples and prompts that leave no room for a reply."""
        tokenizer, limit = policy.tokenizer, policy.max_length
        samples, *told = with_room(self.negatives.samples, tokenizer, limit, "negatives")
        negatives = dataclasses.replace(self.negatives, samples=tuple(samples))
        _check_step(settings, negatives)
        pairs, of_pairs = with_room(self.pairs, tokenizer, limit, "preference pairs")
        kept, of_kept = with_room(self.kept, tokenizer, limit, "retain samples")
        context, longest = context_length(policy.model), settings.objective.max_new_tokens
        fit, of_tested = answerable(self.tested, tokenizer, context, longest, "test prompts")
        tested = [self.tested[i] for i in fit]
        told = [*told, of_pairs, of_kept, of_tested]
        return _Sets(negatives, pairs, kept, tested, tuple(filter(None, told)))


def _asked_once(path: str, data: DataSettings) -> list[Prompt]:
    """Test prompts, each once: the units of every interval, where a repeated one would count."""
    return list(dict.fromkeys(load_prompts(path, columns=data.columns_of("prompts"))[0]))


def _check_step(settings: Settings, negatives: NegativeSet) -> None:
    if settings.inner.samples_per_step > len(negatives):
        raise ConfigError(
            f"inner.samples_per_step must be at most the {len(negatives)} negative samples; got "
            f"{settings.inner.samples_per_step}. Lower it, or set 0 to take all."
        )


def _policy(settings: Settings, last: Experiment | None) -> Policy:
    """The policy at θ₀: that of the last experiment where it began alike, else loaded."""
    if last is None or last.settings.model != settings.model:
        return load_policy(settings.model)
    if settings.model.parameters == "lora" and settings.seed != last.settings.seed:
        return load_policy(settings.model)  # another seed's adapter begins elsewhere
    params.load(last.policy.model, last.problem.origin)
    return last.policy


def _truth(settings: Settings, negatives: NegativeSet) -> np.ndarray | None:
    if not settings.data.truth:
        return None
    return np.asarray(load_truth(settings.data.truth, [sample.id for sample in negatives.samples]))


def per_sample_loss(settings: Settings, policy: Policy, rows: Sequence[Batch]) -> PerSampleLoss:
    """ℓ_i of the method; NPO's reference log-probabilities are computed once, at θ₀."""
    inner = settings.inner
    losses: dict[str, Callable[[], PerSampleLoss]] = {
        "ga": GradientAscent,
        "graddiff": GradientAscent,
        "npo": lambda: NPO(inner.npo_beta, sequence_log_probs(policy.model, rows)),
        "simnpo": lambda: SimNPO(inner.simnpo_beta),
    }
    return losses[inner.method]()
