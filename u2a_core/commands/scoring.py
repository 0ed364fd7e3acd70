"""`u2a gains`: what each negative sample is worth at the original model."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import TYPE_CHECKING, Any

import pandas as pd

from u2a_core.commands.work import Watch, finish, load
from u2a_core.ledger import Ledger
from u2a_core.losses import NegativeLogLikelihood, per_sample_losses
from u2a_core.objectives import SampledReward, score
from u2a_core.results import auc_facts, curvature_facts, put_errors, samples_table
from u2a_core.runs import Run
from u2a_core.types import prompt_text
from u2a_core.unlearn import step_seed
from u2a_core.weights import uniform

if TYPE_CHECKING:
    from u2a_core.config import Settings


def run_gains(run: Run, settings: Settings, watch: Watch) -> dict[str, Any]:
    """`u2a gains`: the marginal gain of every negative sample at θ₀."""
    experiment = load(settings, watch)
    n = experiment.problem.size
    watch.tell("sampling replies for J", 0, 1)
    ledger = Ledger()
    with ledger.counting(experiment.policy.model):
        report = experiment.scorer(
            uniform(n),
            seed=step_seed(settings.seed, 0),
            check=True,
            passing=partial(watch.over, "scoring samples"),
        )
    nll = per_sample_losses(
        experiment.policy.model, list(experiment.problem.batches), NegativeLogLikelihood()
    )
    table = samples_table(experiment)
    table["gain"] = report.gains.cpu().double().numpy()
    put_errors(table, "gain", report.errors, report.parts)
    table["slope"] = report.slopes.cpu().double().numpy()
    table["nll"] = nll.cpu().double().numpy()
    if isinstance(experiment.objective, SampledReward):  # what r says of the negatives themselves
        texts = [prompt_text(sample.prompt) for sample in experiment.negatives.samples]
        table["reward"] = score(experiment.objective.reward, texts, table["response"].tolist())
    table["rank"] = table["gain"].rank(ascending=False, method="first").astype(int)
    run.write_table("gains", table.sort_values("rank"))
    truth = experiment.mislabelled
    facts = {
        "objective": dataclasses.asdict(report.objective),
        "helps": int((table["gain"] > 0).sum()),
        "gains": {} if truth is None else auc_facts({"first_round": table["gain"]}, truth),
        "identity_error": report.identity_error,
        "parts": report.parts,
        "uncertain": _uncertain(table),
        "ledger": ledger.facts(),
        **curvature_facts(settings.outer.curvature, pd.DataFrame([report.solve.facts()])),
    }
    return finish(run, experiment, watch, facts)


def _uncertain(table: pd.DataFrame) -> int | None:
    """How many gains have an interval that holds 0; None without intervals."""
    if "gain_low" not in table:
        return None
    return int(((table["gain_low"] < 0) & (table["gain_high"] > 0)).sum())
