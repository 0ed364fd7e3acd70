"""`u2a baseline`: DPO, PPO, retraining and fine-tuning, as runs like any other."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from u2a_core import params
from u2a_core.alignment import objective_prompts, preference, sampled_reward
from u2a_core.baselines import dpo_step, fine_tuning_step, ppo_step, value_head, without
from u2a_core.commands.descents import Descent, descended
from u2a_core.commands.work import Watch, finish, load, note_commits
from u2a_core.config import OuterSettings
from u2a_core.data import load_retain
from u2a_core.data.encode import encode
from u2a_core.descent import Ending, Step, measure
from u2a_core.errors import ConfigError
from u2a_core.models import load_policy, save_policy
from u2a_core.objectives import SampledReward
from u2a_core.results import write_outcome
from u2a_core.room import with_room
from u2a_core.runs import Run
from u2a_core.weights import uniform

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from u2a_core.config import Settings
    from u2a_core.experiment import Experiment


@dataclass(frozen=True)
class Prepared:
    """A baseline ready to step.

    Attributes:
        experiment: with the model that is trained, and its θ₀.
        step: what moves θ.
        facts: what the report says besides.
    """

    experiment: Experiment
    step: Step
    facts: dict[str, Any] = field(default_factory=dict)


def run_baseline(run: Run, settings: Settings, watch: Watch) -> dict[str, Any]:
    """`u2a baseline`: the model of the step with the largest J (fine-tuned: of the last), compared.

    Raises:
        ConfigError: if the method lacks what it needs; names the setting.
    """
    methods: dict[str, Callable[[Experiment], AbstractContextManager[Prepared]]] = {
        "dpo": _dpo,
        "ppo": _ppo,
        "sft": _fine_tuning,
        "retrain": _fine_tuning,
    }
    own = settings.baseline
    experiment = load(settings, watch)
    with methods[own.method](_budgeted(experiment)) as prepared:
        note_commits(run, settings)
        watch.tell("replies of the original model", 0, 1)
        before = experiment.evaluate()
        experiment, problem = prepared.experiment, prepared.experiment.problem
        choose = measure(problem.model, experiment.objective, seed=settings.seed)
        outer = OuterSettings(steps_per_round=own.measure_every, patience=settings.outer.patience)
        descent = Descent(
            f"training ({own.method})",
            choose,
            uniform(problem.size),
            outer,
            prepared.step,
            Ending(own.max_tokens, "last" if own.method in ("sft", "retrain") else "best"),
        )
        state = descended(run, experiment, watch, descent)
    watch.tell("comparing replies", 0, 1)
    facts = write_outcome(run, experiment, state, before, experiment.evaluate())
    run.save_model(partial(save_policy, experiment.policy, provenance={"command": "baseline"}))
    watch.tell("comparing replies", 1, 1)
    return finish(run, experiment, watch, {"method": own.method, **facts, **prepared.facts})


def _budgeted(experiment: Experiment) -> Experiment:
    """The experiment whose problem has the baseline's optimizer, rate and budget."""
    own = experiment.settings.baseline
    steps = {"optimizer": own.optimizer, "learning_rate": own.learning_rate, "steps": own.steps}
    settings = experiment.settings.inner.model_copy(update=steps)
    problem = dataclasses.replace(experiment.problem, settings=settings)
    return dataclasses.replace(experiment, problem=problem)


@contextmanager
def _dpo(experiment: Experiment) -> Iterator[Prepared]:
    settings, own = experiment.settings, experiment.settings.baseline
    if not experiment.pairs:
        raise ConfigError(
            "data.preferences must name preference pairs (prompt, chosen, rejected) for "
            "baseline.method dpo; got nothing. Or use ppo with objective.reward."
        )
    pairs = preference(settings, experiment.policy, list(experiment.pairs), dpo_beta=own.dpo_beta)
    yield Prepared(experiment, dpo_step(experiment.problem, pairs, own, seed=settings.seed))


@contextmanager
def _ppo(experiment: Experiment) -> Iterator[Prepared]:
    settings, policy = experiment.settings, experiment.policy
    rewarded = experiment.objective
    facts: dict[str, Any] = {}
    if not isinstance(rewarded, SampledReward):
        if not settings.objective.reward:
            raise ConfigError(
                "objective.reward must name a reward for baseline.method ppo; got nothing. Give a "
                "reward model's folder, or module:function; or use dpo on data.preferences."
            )
        pairs = list(experiment.pairs)
        asked, told = objective_prompts(settings, policy, experiment.negatives, pairs)
        facts["warnings"] = [told] if told else []
        rewarded = sampled_reward(settings, policy, asked)
    with value_head(policy.model):
        origin = params.snapshot(params.trainable(policy.model))
        problem = dataclasses.replace(experiment.problem, origin=origin)
        step = ppo_step(problem, rewarded, settings.baseline, seed=settings.seed)
        yield Prepared(dataclasses.replace(experiment, problem=problem), step, facts)


@contextmanager
def _fine_tuning(experiment: Experiment) -> Iterator[Prepared]:
    """From the base model, on the mixture, without the negatives for retrain."""
    settings, own = experiment.settings, experiment.settings.baseline
    missing = [name for name in ("base", "mixture") if not getattr(own, name)]
    if missing:
        raise ConfigError(
            f"baseline.{missing[0]} must be named for baseline.method {own.method}; got nothing. "
            "Name baseline.base, the model before it was fine-tuned, and baseline.mixture, the "
            "replies (prompt, response) that it was fine-tuned on."
        )
    columns = experiment.settings.data.columns_of("mixture")
    mixture = load_retain(own.mixture, columns=columns)[0]
    kept = without(mixture, experiment.negatives.samples) if own.method == "retrain" else mixture
    facts: dict[str, Any] = {"mixture": len(mixture), "left_out": len(mixture) - len(kept)}
    if not kept:
        raise ConfigError(
            f"baseline.mixture must hold replies that are no negative samples; all "
            f"{len(mixture)} of {own.mixture} are. Name the whole mixture of the fine-tuning."
        )
    if own.method == "retrain" and len(kept) == len(mixture):
        facts["warnings"] = [
            f"No reply of baseline.mixture ({len(mixture)} records) is a negative sample, so "
            "Retrain left nothing out and is plain fine-tuning."
        ]
    policy = load_policy(settings.model, weights=own.base)
    problem = dataclasses.replace(
        experiment.problem,
        model=policy.model,
        origin=params.snapshot(params.trainable(policy.model)),
    )
    fitting, told = with_room(
        kept, policy.tokenizer, policy.max_length, "replies of baseline.mixture"
    )
    facts["warnings"] = [*facts.get("warnings", []), *([told] if told else [])]
    rows, _ = encode(fitting, policy.tokenizer, max_length=policy.max_length)
    step = fine_tuning_step(
        problem, rows, own, tokens_per_batch=settings.data.tokens_per_batch, seed=settings.seed
    )
    yield Prepared(dataclasses.replace(experiment, policy=policy, problem=problem), step, facts)
