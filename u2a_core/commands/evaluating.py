"""`u2a evaluate`: every metric of one model, the original or a finished run's.

Stops between batches and between requests to the judge. Replies that a stopped run has sampled
are read, and the judge's answers come from the cache beside the runs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from u2a_core import evaluation
from u2a_core.commands.work import Stopped, Watch, finish
from u2a_core.config import Part, Settings, there
from u2a_core.data import fingerprint, load_retain
from u2a_core.errors import ConfigError
from u2a_core.evaluation import Sets
from u2a_core.experiment import sampled_replies
from u2a_core.judges import Judge, load_judge
from u2a_core.metrics import Criterion, Measurement
from u2a_core.models import (
    RewardModel,
    SentenceEncoder,
    load_policy,
    load_reward,
    load_saved,
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
        "target": settings.evaluation.target or "original",
        **evaluation.facts(found),
        "judge": {"source": judge.identity, **inputs.estimate, **judge.usage.facts()}
        if judge
        else {},
        "replies": len(replies),
        "warnings": inputs.warnings,
        "notes": inputs.notes,
    }
    return finish(run, None, watch, facts)


def _loaded(run: Run, settings: Settings, watch: Watch) -> _Inputs:
    """Files and the judge, which fail faster than a model loads."""
    watch.tell("loading data", 0, 1)
    sets = evaluation.load_sets(settings)
    own = settings.evaluation
    references = []
    if own.reference and "test" in sets.prompts:
        references = evaluation.matched(
            _reference(own.reference, settings.data.columns_of("reference")), sets.prompts["test"]
        )
    cache = run.path.parent / ".judge-cache"
    judge = load_judge(settings, cache) if own.judge else None
    reasons = evaluation.why_missing(settings)
    inputs = _Inputs(run, settings, watch, sets, references, judge, reasons)
    if own.target:
        inputs.warnings += compatible(settings, _target(own.target))
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


def _target(source: str) -> Run:
    """The finished run that is measured."""
    if not there(Path(source) / "config.json"):
        raise ConfigError(
            f"evaluation.target must be the directory of a finished run; got {source!r}. Leave it "
            "empty to measure the original model."
        )
    target = Run.open(Path(source))
    target.report()
    if not there(target.model_folder):
        raise ConfigError(
            f"evaluation.target must be a run that saved its model; {source} has no model/ (the "
            "demo's shipped runs and runs that train nothing have none). Run it again."
        )
    return target


def compatible(settings: Settings, target: Run) -> list[str]:
    """Warnings about a run that was made of another model or of other negatives.

    Raises:
        ConfigError: if its adapter was made for another model.
    """
    warnings, then, theirs = [], target.config()["sha256"], target.settings()
    if _mark(settings.model.path) != then.get("model.path", theirs.model.path):
        if there(target.model_folder / "adapter_config.json"):
            raise ConfigError(
                f"The adapter of {target.path} must be put on the model it was trained on "
                f"({theirs.model.path}); model.path is {settings.model.path}. Set model.path."
            )
        warnings.append(
            f"The run {target.path} began from another model ({theirs.model.path}) than "
            f"model.path ({settings.model.path}), under which perplexity is measured."
        )
    files = settings.data.negatives, theirs.data.negatives
    if settings.evaluation.outsiders and _mark(files[0]) != then.get("data.negatives", files[1]):
        warnings.append(
            f"The run {target.path} unlearned other negatives ({files[1]}) than data.negatives "
            f"({files[0]}), of which membership is measured."
        )
    return warnings


def _mark(path: str) -> str:
    """What tells a model or file from others: its hash, or the hub id."""
    return fingerprint(Path(path)) if path and there(Path(path)) else path


def _of_the_model(
    inputs: _Inputs,
) -> tuple[pd.DataFrame, list[Measurement], dict[str, np.ndarray]]:
    """Replies and likelihoods of the model; then the original's view of the replies."""
    settings, sets = inputs.settings, inputs.sets
    target = settings.evaluation.target
    tick = inputs.stage("loading the model")
    tick(0, 1)
    policy = (
        load_saved(settings.model, _target(target).model_folder)
        if target
        else load_policy(settings.model.model_copy(update={"parameters": "full"}))
    )
    tick(1, 1)
    use_threads(settings.threads, policy.model)
    inputs.warnings += policy.warnings
    replies = _sampled(inputs, policy)
    others, values = evaluation.likelihoods(policy, sets, settings, inputs.stage)
    if "test" in sets.prompts:
        if target:
            del policy  # two models need not fit at the same time
            policy = load_policy(settings.model.model_copy(update={"parameters": "full"}))
        own = replies[replies["set"] == "test"]
        asked = [(int(i), str(reply)) for i, reply in own[["prompt_index", "reply"]].to_numpy()]
        stage = inputs.stage("perplexity of the replies")
        others.append(evaluation.fluency(policy, asked, sets.prompts["test"], settings, stage))
    return replies, others, values


def _sampled(inputs: _Inputs, policy: Policy) -> pd.DataFrame:
    """Replies to every set of prompts; those that a stopped run has sampled are read."""
    columns = ["set", "prompt_index", "sample", "prompt", "reply"]
    run, pieces = inputs.run, [pd.DataFrame(columns=columns)]
    if run.has_table("generations"):
        pieces = [run.table("generations")[columns]]
    known = set(pieces[0]["set"])
    for name, prompts in inputs.sets.prompts.items():
        if name not in known:
            stage = inputs.stage(f"sampling replies: {name}")
            piece = sampled_replies(policy, prompts, inputs.settings, stage)
            piece.insert(0, "set", name)
            pieces.append(piece)
            table = pd.concat([p for p in pieces if len(p)], ignore_index=True)
            run.write_table("generations", table)
            stage(len(piece), len(piece))
    filled = [p for p in pieces if len(p)]
    return pd.concat(filled, ignore_index=True) if filled else pieces[0]


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
