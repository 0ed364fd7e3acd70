"""`u2a evaluate`: every metric of one model, the original or a finished run's.

Stops between batches and between requests to the judge. Replies that a stopped run has sampled
are read, and the judge's answers come from the cache beside the runs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from u2a_core import evaluation
from u2a_core.commands.targets import base_under, compatible, load_target, moved, target_run
from u2a_core.commands.work import Stopped, Watch, finish, note_commits
from u2a_core.config import Part, Settings, there
from u2a_core.data import load_retain
from u2a_core.evaluation import ServedModel, Sets
from u2a_core.experiment import sampled_replies
from u2a_core.judges import Judge, load_judge
from u2a_core.metrics import Criterion, Measurement
from u2a_core.models import (
    RewardModel,
    SentenceEncoder,
    load_policy,
    load_reward,
    use_threads,
)
from u2a_core.objectives import score
from u2a_core.runs import Run
from u2a_core.types import prompt_text

if TYPE_CHECKING:
    from u2a_core.models import Policy


@dataclasses.dataclass
class _Inputs:
    """What is measured, and with what; warnings and notes gather on the way."""

    run: Run
    settings: Settings
    watch: Watch
    sets: Sets
    references: list[list[str]]
    judge: Judge | None
    served: ServedModel | None
    reasons: dict[str, str]
    warnings: list[str] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)
    estimate: dict[str, Any] = dataclasses.field(default_factory=dict)

    def stage(self, name: str) -> Callable[[int, int], None]:
        """Tells how far a stage is, where that has changed; ends the command if told to."""
        last: list[int] = []

        def tick(done: int, total: int) -> None:
            if self.watch.stopping():
                raise Stopped(f"in {name}, at {done} of {total}")
            if last != [done]:
                self.watch.tell(name, done, total)
                last[:] = [done]

        return tick


def run_evaluate(run: Run, settings: Settings, watch: Watch) -> dict[str, Any]:
    """`u2a evaluate`: all metrics whose inputs are there; of each other, why it is missing."""
    watch.before = max((line.seconds for line in run.progress()), default=0.0)
    inputs = _loaded(run, settings, watch)
    replies, others, values = _of_the_model(inputs)
    replies = evaluation.with_texts(replies)
    _put_rewards(inputs, replies)
    _put_coherence(inputs, replies)
    _put_judgements(inputs, replies)
    others += evaluation.texts_measured(replies)
    others += evaluation.length_controlled(replies, inputs.references)
    values |= evaluation.values_of(replies)
    values = {name: own for name, own in values.items() if name not in inputs.reasons}
    found = evaluation.all_metrics(values, others, inputs.reasons)
    run.write_table("generations", replies)
    run.write_table("metrics", pd.DataFrame([own.row() for own in found]))
    run.write_table("scores", evaluation.scores_table(values))
    judge = inputs.judge
    facts = {
        **_measured(inputs),
        **evaluation.facts(found),
        "judge": {"source": judge.identity, **inputs.estimate, **judge.usage.facts()}
        if judge
        else {},
        "replies": len(replies),
        "warnings": inputs.warnings,
        "notes": inputs.notes,
    }
    return finish(run, None, watch, facts)


def _measured(inputs: _Inputs) -> dict[str, Any]:
    """Whose replies were measured."""
    settings, served = inputs.settings, inputs.served
    local = settings.evaluation.target or "original"
    if served is None:
        return {"target": local}
    inputs.notes.append(
        f"The replies are those of {served.identity}; likelihoods, where there are some, are those "
        f"of the local model ({local})."
    )
    return {"target": settings.evaluation.endpoint_model, "endpoint": served.facts()}


def _loaded(run: Run, settings: Settings, watch: Watch) -> _Inputs:
    """Files and the judge, which fail faster than a model loads."""
    watch.tell("loading data", 0, 1)
    sets, own, told = evaluation.load_sets(settings), settings.evaluation, list[str]()
    if not own.endpoint:  # of a server's model nothing is known
        sets, told = evaluation.answerable_sets(sets, settings)
    references = []
    if own.reference and "test" in sets.prompts:
        references = evaluation.matched(
            _reference(own.reference, settings.data.columns_of("reference")), sets.prompts["test"]
        )
    cache = run.path.parent / ".judge-cache"
    judge = load_judge(settings, cache) if own.judge else None
    served = ServedModel.of(settings) if own.endpoint else None
    note_commits(run, settings)
    reasons = evaluation.why_missing(settings)
    inputs = _Inputs(run, settings, watch, sets, references, judge, served, reasons, told)
    if own.target:
        inputs.warnings += compatible(settings, target_run(own.target))
    watch.tell("loading data", 1, 1)
    return inputs


def _reference(source: str, columns: Mapping[Part, str]) -> list[tuple[str, str]]:
    """Prompt and reply of a file, or of a finished run's generations."""
    if not there(Path(source) / "config.json"):
        return [
            (prompt_text(s.prompt), s.response) for s in load_retain(source, columns=columns)[0]
        ]
    other = Run.open(Path(source))
    other.report()
    table = other.table("generations")
    if "set" in table:
        table = table[table["set"] == "test"]
    column = "reply" if "reply" in table else "reply_after"
    return list(zip(table["prompt"], table[column], strict=True))


def _of_the_model(
    inputs: _Inputs,
) -> tuple[pd.DataFrame, list[Measurement], dict[str, np.ndarray]]:
    """Replies and likelihoods of the model; then the original's view of the replies."""
    settings, sets = inputs.settings, inputs.sets
    target = target_run(settings.evaluation.target) if settings.evaluation.target else None
    served = None if inputs.served is None else _sampled(inputs, inputs.served)
    likely = sets.retain or sets.questions or sets.outsiders or "test" in sets.prompts
    if served is not None and not (settings.model.path and likely):
        return served, [], {}
    tick = inputs.stage("loading the model")
    tick(0, 1)
    policy = (
        load_target(settings, target)
        if target
        else load_policy(settings.model.model_copy(update={"parameters": "full"}))
    )
    tick(1, 1)
    note_commits(inputs.run, settings, base_under(settings, target) if target else "")
    use_threads(settings.threads, policy.model)
    inputs.warnings += policy.warnings
    replies = _sampled(inputs, policy) if served is None else served
    others, values = evaluation.likelihoods(policy, sets, settings, inputs.stage)
    if "test" in sets.prompts:
        if target:
            del policy  # two models need not fit at the same time
            policy = load_policy(settings.model.model_copy(update={"parameters": "full"}))
            note_commits(inputs.run, settings)
            inputs.warnings += moved(inputs.run, target)
        own = replies[replies["set"] == "test"]
        asked = [(int(i), str(reply)) for i, reply in own[["prompt_index", "reply"]].to_numpy()]
        stage = inputs.stage("perplexity of the replies")
        others.append(evaluation.fluency(policy, asked, sets.prompts["test"], settings, stage))
    return replies, others, values


def _sampled(inputs: _Inputs, model: Policy | ServedModel) -> pd.DataFrame:
    """Replies to every set of prompts; those that a stopped run has sampled are read."""
    columns = ["set", "prompt_index", "sample", "prompt", "reply"]
    run, nothing = inputs.run, pd.DataFrame(columns=columns)
    known = run.table("generations")[columns] if run.has_table("generations") else nothing
    pieces = {str(name): own for name, own in known.groupby("set", sort=False)}

    def keep(name: str, piece: pd.DataFrame) -> None:
        if len(piece):
            pieces[name] = piece.assign(set=name)[columns]
            run.write_table("generations", pd.concat(pieces.values(), ignore_index=True))

    for name, prompts in inputs.sets.prompts.items():
        wanted = len(prompts) * inputs.settings.evaluation.samples
        if len(pieces.get(name, nothing)) == wanted:
            continue
        if isinstance(model, ServedModel):
            stage = inputs.stage(f"asking {model.endpoint.model}: {name}")
            model(prompts, pieces.get(name, nothing), stage, partial(keep, name))
        else:
            stage = inputs.stage(f"sampling replies: {name}")
            keep(name, sampled_replies(model, prompts, inputs.settings, stage))
        stage(wanted, wanted)
    return pd.concat(pieces.values(), ignore_index=True) if pieces else nothing


def _put_rewards(inputs: _Inputs, replies: pd.DataFrame) -> None:
    """Adds the reward of replies to test and benign prompts."""
    settings = inputs.settings
    spec = settings.evaluation.reward or settings.objective.reward
    scored = replies["set"].isin(("test", "benign"))
    replies["reward"] = np.nan
    if not spec or not scored.any():
        return
    tick = inputs.stage("rewards")
    tick(0, int(scored.sum()))
    reward = load_reward(spec, settings.model, settings.objective)
    note_commits(inputs.run, settings)
    if isinstance(reward, RewardModel) and reward.classes == 2 and reward.logit < 0:
        inputs.notes.append(
            f"The reward model {spec} has two logits: the reward is the log-odds of class 1."
        )
    own = replies[scored]
    # the table holds texts: the turns are those of the sets
    asked = [inputs.sets.prompts[name][i] for name, i in own[["set", "prompt_index"]].to_numpy()]
    replies.loc[scored, "reward"] = score(reward, asked, list(own["reply"]))
    tick(len(own), len(own))


def _put_coherence(inputs: _Inputs, replies: pd.DataFrame) -> None:
    """Adds the cosine of prompt and reply, where there is an encoder; an empty reply has none."""
    path = inputs.settings.evaluation.encoder
    said = (replies["set"] == "test") & (replies["reply"].str.strip() != "")
    if not path or not said.any():
        return
    tick = inputs.stage("coherence")
    tick(0, int(said.sum()))
    encoder, own = SentenceEncoder.load(path, inputs.settings.model), replies[said]
    replies.loc[said, "coherence"] = encoder.cosines(list(own["prompt"]), list(own["reply"]))
    tick(len(own), len(own))


def _put_judgements(inputs: _Inputs, replies: pd.DataFrame) -> None:
    """Adds a column for each criterion that is judged."""
    judge = inputs.judge
    if judge is None:
        return
    right = [pair.chosen for pair in inputs.sets.questions]
    asked = evaluation.questions(replies, inputs.sets.prompts, right, inputs.references)
    lacking: list[Criterion] = [criterion for criterion in asked if not judge.offers(criterion)]
    inputs.reasons |= evaluation.not_offered(judge.identity, lacking)
    cost = evaluation.cost(judge, asked)
    inputs.estimate["estimate"] = dataclasses.asdict(cost)
    if cost.requests:
        name = f"judge: {cost.requests} requests, about {cost.tokens:,} tokens"
        inputs.stage(name)(0, cost.requests)
    found = evaluation.judgements(judge, asked, inputs.stage)
    for criterion, values in found.items():
        replies.loc[replies["set"] == evaluation.ASKED[criterion], criterion] = values
    inputs.warnings += evaluation.warnings_of(judge, found)
