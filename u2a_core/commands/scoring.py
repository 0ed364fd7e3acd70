"""`u2a gains`: what each negative sample is worth at the original model.

Beside the texts, a sample takes a few numbers: its tokens are padded when its batch is scored, and
the table is written in blocks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from u2a_core.commands.work import Watch, finish, load
from u2a_core.ledger import Ledger
from u2a_core.losses import NegativeLogLikelihood, per_sample_losses
from u2a_core.objectives import SampledReward, score
from u2a_core.results import auc_facts, curvature_facts, put_errors, samples_table
from u2a_core.runs import Run
from u2a_core.types import GainReport, Reward, Sample
from u2a_core.unlearn import step_seed
from u2a_core.weights import uniform

if TYPE_CHECKING:
    from u2a_core.config import Settings
    from u2a_core.experiment import Experiment

_BLOCK = 2000
"""Samples whose texts are rewarded, or written, together."""


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
    numbers = _numbers(experiment, report)
    run.write_blocks("gains", _blocks(experiment, numbers))
    truth = experiment.mislabelled
    facts = {
        "objective": dataclasses.asdict(report.objective),
        "helps": int((numbers["gain"] > 0).sum()),
        "gains": {} if truth is None else auc_facts({"first_round": numbers["gain"]}, truth),
        "identity_error": report.identity_error,
        "parts": report.parts,
        "uncertain": _uncertain(numbers),
        "ledger": ledger.facts(),
        **curvature_facts(settings.outer.curvature, pd.DataFrame([report.solve.facts()])),
    }
    return finish(run, experiment, watch, facts)


def _numbers(experiment: Experiment, report: GainReport) -> pd.DataFrame:
    """All columns of the table but the texts, in sample order."""
    nll = per_sample_losses(
        experiment.policy.model, experiment.problem.batches, NegativeLogLikelihood()
    )
    table = pd.DataFrame({"gain": report.gains.cpu().double().numpy()})
    put_errors(table, "gain", report.errors, report.parts)
    table["slope"] = report.slopes.cpu().double().numpy()
    table["nll"] = nll.cpu().double().numpy()
    if isinstance(experiment.objective, SampledReward):  # what r says of the negatives themselves
        table["reward"] = _rewards(experiment.objective.reward, experiment.negatives.samples)
    table["rank"] = table["gain"].rank(ascending=False, method="first").astype(int)
    return table


def _rewards(reward: Reward, samples: Sequence[Sample]) -> np.ndarray:
    found = []
    for first in range(0, len(samples), _BLOCK):
        some = samples[first : first + _BLOCK]
        prompts = [sample.prompt for sample in some]
        found.append(score(reward, prompts, [sample.response for sample in some]))
    return np.concatenate(found)


def _blocks(experiment: Experiment, numbers: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """The table with its texts, by rank, a block of rows at a time."""
    order = np.argsort(numbers["rank"].to_numpy())
    for first in range(0, len(order), _BLOCK):
        rows = order[first : first + _BLOCK]
        texts = samples_table(experiment, rows.tolist())
        yield pd.concat([texts, numbers.iloc[rows].reset_index(drop=True)], axis=1)


def _uncertain(table: pd.DataFrame) -> int | None:
    """How many gains have an interval that holds 0; None without intervals."""
    if "gain_low" not in table:
        return None
    return int(((table["gain_low"] < 0) & (table["gain_high"] > 0)).sum())
