"""J from the settings: which prompts, pairs and replies measure alignment, and with which reward.

`load_objective` gives the J that the settings name; `smooth_objective` the one for impact curves,
whose small differences the noise of sampled replies would hide.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import torch

from u2a_core.config import Settings
from u2a_core.data import load_prompts
from u2a_core.data.encode import EncodingReport, batches, encode
from u2a_core.data.packed import PackedBatches, packed
from u2a_core.errors import ConfigError
from u2a_core.losses import sequence_log_probs
from u2a_core.metrics import share
from u2a_core.models import Generator, Policy, context_length, load_reward
from u2a_core.objectives import (
    CandidateReward,
    Objective,
    PreferenceObjective,
    SampledReward,
    SmoothObjective,
    score,
)
from u2a_core.room import answerable
from u2a_core.types import Batch, Estimate, NegativeSet, PreferencePair, Prompt, Sample

_T = TypeVar("_T")
_KNOWN_PAIRS = 64
_AGREES = 0.6
"""Share of known pairs that a reward must rank as they are, or a warning is told."""
_CANDIDATE_SEED = 15_485_863
"""Offset of the seed of sampled candidates, so that they share no draw with J's or the test's."""


def objective_prompts(
    settings: Settings, policy: Policy, negatives: NegativeSet, pairs: list[PreferencePair]
) -> tuple[list[Prompt], str]:
    """The prompts on which replies are sampled and rewarded, each once.

    Without those that leave no room for a reply, of which the sentence tells.
    """
    if settings.data.objective_prompts:
        columns = settings.data.columns_of("objective_prompts")
        found, _ = load_prompts(settings.data.objective_prompts, columns=columns)
    else:
        found = [item.prompt for item in pairs or negatives.samples]
    found = list(dict.fromkeys(found))
    context, longest = context_length(policy.model), settings.objective.max_new_tokens
    kept, told = answerable(found, policy.tokenizer, context, longest, "prompts of J")
    return [found[i] for i in kept], told


def load_objective(
    settings: Settings, policy: Policy, prompts: list[Prompt], pairs: list[PreferencePair]
) -> Objective:
    """J on the prompts, or on the preference pairs.

    Raises:
        ConfigError: if J lacks what it needs; names the ways to give it.
    """
    kind = settings.objective.kind
    if kind == "sampled_reward":
        return sampled_reward(settings, policy, prompts)
    if not pairs:
        raise ConfigError(
            "data.preferences must name preference pairs (prompt, chosen, rejected) for "
            f"objective.kind {kind}; got nothing. Or use sampled_reward with objective.reward."
        )
    if kind == "candidates":
        return _candidates(settings, policy, _paired_replies(pairs))
    return preference(settings, policy, pairs, dpo_beta=settings.objective.dpo_beta)


def sampled_reward(settings: Settings, policy: Policy, prompts: list[Prompt]) -> SampledReward:
    """Eq. 1 on at most objective.max_prompts of the prompts, whatever J is."""
    return SampledReward(
        sampler=Generator(
            policy.tokenizer,
            settings.objective.max_new_tokens,
            rows=settings.objective.generation_rows,
        ),
        prompts=tuple(_drawn(prompts, settings)),
        reward=load_reward(settings.objective.reward, settings.model, settings.objective),
        samples=settings.objective.samples,
    )


def preference(
    settings: Settings, policy: Policy, pairs: list[PreferencePair], *, dpo_beta: float
) -> PreferenceObjective:
    """The mean log-sigmoid margin of at most objective.max_prompts of the pairs, whatever J is.

    The reference is the model as it stands.
    """
    pairs = _drawn(pairs, settings)
    replies = [(pair.prompt, reply) for pair in pairs for reply in (pair.chosen, pair.rejected)]
    rows = _grouped(policy, replies, [2] * len(pairs), settings)
    reference = sequence_log_probs(policy.model, list(rows))
    number = {prompt: i for i, prompt in enumerate(dict.fromkeys(pair.prompt for pair in pairs))}
    prompt_of = torch.tensor([number[pair.prompt] for pair in pairs])
    return PreferenceObjective(rows, reference, dpo_beta, prompt_of)


def smooth_objective(
    settings: Settings, policy: Policy, objective: Objective, pairs: list[PreferencePair]
) -> SmoothObjective:
    """J without sampling: the expected reward among candidates.

    The settings' own J where it is smooth already; else the replies of the preference pairs are
    the candidates, and without pairs the replies that the original model gives to J's prompts.
    """
    if isinstance(objective, CandidateReward | PreferenceObjective):
        return objective
    assert isinstance(objective, SampledReward)
    if pairs:
        return _candidates(settings, policy, _paired_replies(pairs))
    rollouts = objective.sampler(
        policy.model,
        objective.prompts,
        samples=objective.samples,
        seed=settings.seed + _CANDIDATE_SEED,
    )
    found: dict[Prompt, dict[str, float]] = {}
    for owner, reply in zip(rollouts.prompt_index, rollouts.replies, strict=True):
        found.setdefault(objective.prompts[owner], {})[reply] = 0.0
    return _candidates(settings, policy, found)


def reward_agreement(settings: Settings, pairs: Sequence[PreferencePair]) -> Estimate | None:
    """How often J's reward ranks the chosen reply above the rejected one; ties count as no.

    On at most 64 of the pairs; None without pairs, or where J asks no reward.
    """
    if not (pairs and settings.objective.reward and settings.objective.kind != "preference"):
        return None
    known = _evenly(list(pairs), _KNOWN_PAIRS)
    reward = load_reward(settings.objective.reward, settings.model, settings.objective)
    prompts = [pair.prompt for pair in known]
    chosen = score(reward, prompts, [pair.chosen for pair in known])
    rejected = score(reward, prompts, [pair.rejected for pair in known])
    return share(int((np.asarray(chosen) > np.asarray(rejected)).sum()), len(known))


def disagreement(settings: Settings, agreement: Estimate | None) -> tuple[str, ...]:
    """The warning that a reward calls for that disagrees with known pairs."""
    if agreement is None or agreement.mean >= _AGREES:
        return ()
    return (
        f"The reward {settings.objective.reward} ranks the chosen reply above the rejected one in "
        f"{agreement.mean:.0%} of {agreement.n} preference pairs (95 % interval "
        f"{agreement.low:.0%} to {agreement.high:.0%}; {_AGREES:.0%} are expected). Check its "
        "template (objective.reward_template), its logit and its sign, or the pairs.",
    )


def _evenly(items: list[_T], most: int) -> list[_T]:
    """At most so many of the items, from begin to end."""
    return [items[i * len(items) // most] for i in range(most)] if len(items) > most else items


def encoded(
    policy: Policy, samples: Sequence[Sample], settings: Settings
) -> tuple[PackedBatches, EncodingReport]:
    """Samples as batches on the policy's device."""
    return packed(
        samples,
        policy.tokenizer,
        max_length=policy.max_length,
        tokens_per_batch=settings.data.tokens_per_batch,
        pad_id=policy.pad_id,
        device=policy.device,
    )


def _paired_replies(pairs: list[PreferencePair]) -> dict[Prompt, dict[str, float]]:
    """Prompt → reply → mean of +1 for each time it was chosen and −1 for each it was rejected."""
    votes: dict[Prompt, dict[str, list[float]]] = {}
    for pair in pairs:
        replies = votes.setdefault(pair.prompt, {})
        replies.setdefault(pair.chosen, []).append(1.0)
        replies.setdefault(pair.rejected, []).append(-1.0)
    return {
        prompt: {reply: float(np.mean(found)) for reply, found in replies.items()}
        for prompt, replies in votes.items()
    }


def _candidates(
    settings: Settings, policy: Policy, scored: dict[Prompt, dict[str, float]]
) -> CandidateReward:
    """J among given replies, by the settings' reward or, where they name none, as scored.

    Raises:
        ConfigError: if no prompt has two different replies.
    """
    several = [prompt for prompt, replies in scored.items() if len(replies) > 1]
    prompts = _drawn([prompt for prompt in several if policy.has_room(prompt)], settings)
    if not prompts:
        raise ConfigError(
            "J needs a prompt with two different replies that have room in "
            f"{policy.max_length} tokens; got none of {len(scored)} prompts. Give "
            "preference pairs (data.preferences), or raise objective.samples."
        )
    replies = [(prompt, reply) for prompt in prompts for reply in scored[prompt]]
    rewards = np.array([scored[prompt][reply] for prompt, reply in replies])
    if settings.objective.reward:
        reward = load_reward(settings.objective.reward, settings.model, settings.objective)
        asked = [prompt for prompt, _ in replies]
        rewards = score(reward, asked, [reply for _, reply in replies])
    sizes = [len(scored[prompt]) for prompt in prompts]
    owner = np.repeat(np.arange(len(prompts)), sizes)
    rows = _grouped(policy, replies, sizes, settings)
    return CandidateReward(rows, torch.from_numpy(owner), torch.from_numpy(rewards))


def _grouped(
    policy: Policy, replies: list[tuple[Prompt, str]], sizes: list[int], settings: Settings
) -> tuple[Batch, ...]:
    """Batches of whole groups of consecutive replies; `index` = the reply's position.

    Groups of like length share a batch.
    """
    samples = [Sample(str(i), prompt, reply) for i, (prompt, reply) in enumerate(replies)]
    rows, _ = encode(samples, policy.tokenizer, max_length=policy.max_length)
    ends = np.cumsum(sizes)
    groups = [list(range(end - size, end)) for size, end in zip(sizes, ends.tolist(), strict=True)]
    longest = [max(len(rows[i].input_ids) for i in group) for group in groups]
    pending = sorted(range(len(groups)), key=lambda g: -longest[g])
    out = []
    while pending:
        own = list(groups[pending[0]])
        width = longest[pending.pop(0)]
        while pending and (len(own) + sizes[pending[0]]) * width <= settings.data.tokens_per_batch:
            own += groups[pending.pop(0)]
        (batch,) = batches(
            [rows[i] for i in own], tokens_per_batch=len(own) * width, pad_id=policy.pad_id
        )
        placed = dataclasses.replace(batch, index=torch.tensor(own)[batch.index])
        out.append(placed.to(policy.device))
    return tuple(out)


def _drawn(items: list[_T], settings: Settings) -> list[_T]:
    """At most objective.max_prompts of the items, in their order."""
    most = settings.objective.max_prompts
    if len(items) <= most:
        return items
    rows = np.random.default_rng(settings.seed).choice(len(items), most, replace=False)
    return [items[i] for i in sorted(rows.tolist())]
