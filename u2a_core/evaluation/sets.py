"""What an evaluation asks and compares with, loaded and checked before any model is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from u2a_core.config import SetName, Settings
from u2a_core.data import load_negatives, load_preferences, load_prompts, load_retain
from u2a_core.errors import ConfigError
from u2a_core.models import chat_tokenizer
from u2a_core.models.loading import load_config
from u2a_core.models.policy import context_of
from u2a_core.room import answerable
from u2a_core.types import PreferencePair, Prompt, Sample, prompt_text

SETTINGS = {
    "model.path": "the local model, whose likelihoods these are",
    "data.prompts": "test prompts",
    "data.retain": "a retain set",
    "data.negatives": "the negatives",
    "evaluation.reward": "a reward model or module:function",
    "evaluation.harmful": "prompts that a safe model does not answer",
    "evaluation.benign": "harmless prompts that must be answered",
    "evaluation.reference": "replies to compare with, or a finished run",
    "evaluation.questions": "pairs of a right (chosen) and a hallucinated (rejected) answer",
    "evaluation.outsiders": "samples like the negatives that the model was never trained on",
    "evaluation.encoder": "a sentence encoder",
    "evaluation.judge": "an address, a judge model or module:function",
}
"""Setting → what it names, for the sentence that says why a metric is missing."""

NEEDS: dict[str, tuple[str, ...]] = {
    "reward": ("data.prompts", "evaluation.reward"),
    "asr_k": ("evaluation.harmful",),
    "asr_a": ("evaluation.harmful", "evaluation.judge"),
    "asr_u": ("evaluation.harmful", "evaluation.judge"),
    "asr_u_success": ("evaluation.harmful", "evaluation.judge"),
    "asr_s": ("evaluation.harmful", "evaluation.judge"),
    "asr_s_worst": ("evaluation.harmful", "evaluation.judge"),
    "win_rate": ("data.prompts", "evaluation.reference", "evaluation.judge"),
    "lc_win_rate": ("data.prompts", "evaluation.reference", "evaluation.judge"),
    "coherence": ("data.prompts", "evaluation.encoder"),
    "reply_words": ("data.prompts",),
    "distinct_2": ("data.prompts",),
    "perplexity": ("model.path", "data.prompts"),
    "retain_nll": ("model.path", "data.retain"),
    "membership_loss": ("model.path", "data.negatives", "evaluation.outsiders"),
    "membership_mink": ("model.path", "data.negatives", "evaluation.outsiders"),
    "halueval_accuracy": (
        "model.path",
        "evaluation.questions",
    ),
    "halueval_judged": ("evaluation.questions", "evaluation.judge"),
    "over_refusal": ("evaluation.benign",),
    "benign_reward": ("evaluation.benign", "evaluation.reward"),
}
"""Metric → the settings without which it is missing."""


@dataclass(frozen=True)
class Sets:
    """Everything asked of the model, whose names are those of the column `set`.

    Attributes:
        prompts: set (test, harmful, benign, questions) → what is asked; only those that are given.
        questions: the right and hallucinated answers, in the order of their prompts.
        retain, negatives, outsiders: replies whose likelihood is measured.
    """

    prompts: dict[str, tuple[Prompt, ...]]
    questions: tuple[PreferencePair, ...] = ()
    retain: tuple[Sample, ...] = ()
    negatives: tuple[Sample, ...] = ()
    outsiders: tuple[Sample, ...] = ()


def load_sets(settings: Settings) -> Sets:
    """The files that the settings name.

    Raises:
        DataError: if one is empty or unusable.
        ConfigError: if there is nothing at all to measure.
    """
    data, own = settings.data, settings.evaluation
    asked: dict[str, tuple[SetName, str]] = {
        "test": ("prompts", data.prompts),
        "harmful": ("harmful", own.harmful),
        "benign": ("benign", own.benign),
    }
    prompts = {  # each once, as the units of intervals
        name: tuple(dict.fromkeys(load_prompts(path, columns=data.columns_of(setting))[0]))
        for name, (setting, path) in asked.items()
        if path
    }
    questions = (
        load_preferences(own.questions, columns=data.columns_of("questions"))[0]
        if own.questions
        else []
    )
    if questions:
        prompts["questions"] = tuple(pair.prompt for pair in questions)
    # the negatives alone tell nothing: they are compared with outsiders
    members = data.negatives if own.outsiders else ""
    found = Sets(
        prompts,
        tuple(questions),
        tuple(
            load_retain(data.retain, columns=data.columns_of("retain"))[0] if data.retain else ()
        ),
        load_negatives(members, columns=data.columns_of("negatives")).samples if members else (),
        load_negatives(own.outsiders, columns=data.columns_of("outsiders")).samples
        if own.outsiders
        else (),
    )
    if not prompts and not found.retain and not found.negatives:
        raise ConfigError(
            "u2a evaluate must have something to measure; got nothing. Set data.prompts, or one "
            "of evaluation.harmful, evaluation.benign and evaluation.questions."
        )
    return found


def answerable_sets(sets: Sets, settings: Settings) -> tuple[Sets, list[str]]:
    """Without the prompts to which the longest reply has no room, and a sentence on each set's.

    By the local model's tokenizer and configuration alone, before its weights are loaded.

    Raises:
        DataError: if no prompt of a set has room.
        ModelError: if the tokenizer or the configuration does not load.
    """
    model, longest = settings.model, settings.objective.max_new_tokens
    tokenizer, _ = chat_tokenizer(model)
    context = context_of(load_config(model.path, trust=model.trust_remote_code))
    prompts, questions, warnings = {}, sets.questions, []
    for name, asked in sets.prompts.items():
        kept, told = answerable(asked, tokenizer, context, longest, f"{name} prompts")
        prompts[name] = tuple(asked[i] for i in kept)
        if name == "questions":
            questions = tuple(questions[i] for i in kept)
        warnings += [told] if told else []
    return replace(sets, prompts=prompts, questions=questions), warnings


def why_missing(settings: Settings) -> dict[str, str]:
    """The metrics that lack a setting, and what to set."""
    given = {name for name in SETTINGS if _value(settings, name)}
    if settings.objective.reward:
        given.add("evaluation.reward")
    reasons = {}
    for metric, needs in NEEDS.items():
        lacking = [f"{name} ({SETTINGS[name]})" for name in needs if name not in given]
        if lacking:
            reasons[metric] = f"Set {' and '.join(lacking)}."
    return reasons


def _value(settings: Settings, name: str) -> str:
    section, _, field = name.partition(".")
    return str(getattr(getattr(settings, section), field))


def matched(pairs: Sequence[tuple[str, str]], prompts: Sequence[Prompt]) -> list[list[str]]:
    """The reference replies to each test prompt.

    Args:
        pairs: prompt and reply; a prompt may come more than once.
        prompts: the test prompts.

    Raises:
        ConfigError: if a test prompt has none.
    """
    found: dict[str, list[str]] = {}
    for prompt, reply in pairs:
        found.setdefault(prompt, []).append(reply)
    texts = [prompt_text(prompt) for prompt in prompts]
    unmatched = [text for text in texts if text not in found]
    if unmatched:
        raise ConfigError(
            f"evaluation.reference must hold a reply to each of the {len(texts)} test prompts; got "
            f"replies to {len(texts) - len(unmatched)} of them ({len(found)} prompts in all; first "
            f"without: {unmatched[0][:80]!r}). Name replies to data.prompts, or the prompts that "
            "the reference answers."
        )
    return [found[text] for text in texts]
