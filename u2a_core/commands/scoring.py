"""`u2a gains` and `u2a impact`: what each negative sample is worth at the original model."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd
import torch

from u2a_core.commands.work import Stopped, Watch, finish, load
from u2a_core.errors import ConfigError
from u2a_core.impact import ImpactCurves, summary
from u2a_core.losses import NegativeLogLikelihood, per_sample_losses
from u2a_core.objectives import mean_estimate
from u2a_core.results import auc_facts, curvature_facts, put_errors, samples_table
from u2a_core.runs import Run
from u2a_core.unlearn import step_seed
from u2a_core.weights import uniform

if TYPE_CHECKING:
    from u2a_core.config import Settings
    from u2a_core.experiment import Experiment


def run_gains(run: Run, settings: Settings, watch: Watch) -> dict[str, Any]:
    """`u2a gains`: the marginal gain of every negative sample at θ₀."""
    experiment = load(settings, watch)
    n = experiment.problem.size
    watch.tell("sampling replies for J", 0, 1)
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
    table["rank"] = table["gain"].rank(ascending=False, method="first").astype(int)
    run.write_table("gains", table.sort_values("rank"))
    truth = experiment.mislabelled
    facts = {
        "objective": dataclasses.asdict(report.objective),
        "helps": int((table["gain"] > 0).sum()),
        "gains": {} if truth is None else auc_facts({"first_round": table["gain"]}, truth),
        "identity_error": report.identity_error,
        "uncertain": _uncertain(table),
        **curvature_facts(settings.outer.curvature, pd.DataFrame([report.solve.facts()])),
    }
    return finish(run, experiment, watch, facts)


def run_impact(run: Run, settings: Settings, watch: Watch) -> dict[str, Any]:
    """`u2a impact`: the impact curves of chosen samples, group by group; stops after any."""
    experiment = load(settings, watch)
    if experiment.policy.device.type == "cpu":
        torch.set_num_threads(settings.impact.threads or os.cpu_count() or 1)
    samples = chosen_samples(settings, experiment)
    watch.tell("J and its gradient", 0, 1)
    curves = ImpactCurves(experiment.problem, experiment.smooth, samples, settings.impact.lam)
    objective = mean_estimate(curves.origin[0])
    rounding = curves.rounding()
    watch.tell("J and its gradient", 1, 1, {"objective": objective.mean})
    omegas = _omegas(run, curves, settings, watch)
    table = _measured(run, curves, omegas, experiment, watch)
    run.write_table("curves", table)
    run.write_table("samples", _impact_samples(experiment, curves, table))
    first = table[(table["omega"] == omegas[0]) & table["converged"].astype(bool)]
    facts = {
        "method": settings.inner.method,
        "lam": settings.impact.lam,
        "samples": len(samples),
        "objective": dataclasses.asdict(objective),
        "objective_kind": type(curves.objective).__name__,
        "rounding": rounding,
        "smallest_impact": float(first["measured"].abs().median()) if len(first) else None,
        **summary(table, len(samples), omegas),
    }
    return finish(run, experiment, watch, facts)


def chosen_samples(settings: Settings, experiment: Experiment) -> tuple[int, ...]:
    """Positions of the samples that impact.ids names, or of a draw of impact.samples.

    Raises:
        ConfigError: if an id is not in the negative set.
    """
    ids = [sample.id for sample in experiment.negatives.samples]
    place = {name: i for i, name in enumerate(ids)}
    unknown = [name for name in settings.impact.ids if name not in place]
    if unknown:
        raise ConfigError(
            f"impact.ids must name samples of {settings.data.negatives}; got {unknown[0]!r}, which "
            f"is not there ({len(unknown)} unknown). Its ids run from {ids[0]!r} to {ids[-1]!r}."
        )
    if settings.impact.ids:
        return tuple(sorted({place[name] for name in settings.impact.ids}))
    most = settings.impact.samples or len(ids)
    drawn = np.random.default_rng(settings.seed).permutation(len(ids))[:most]
    return tuple(sorted(drawn.tolist()))


def _omegas(run: Run, curves: ImpactCurves, settings: Settings, watch: Watch) -> list[float]:
    """The grid of weights: given, found before a stop, or found now."""
    if settings.impact.omegas != "auto":
        return list(settings.impact.omegas)
    if not run.has_table("grid"):
        stage = "choosing the weights"

        def passing(groups: list[list[int]]) -> Iterator[list[int]]:
            for done, group in enumerate(groups):
                if watch.stopping():
                    raise Stopped("while choosing the weights; resumed, that begins anew")
                watch.tell(stage, done, len(groups))
                yield group
            watch.tell(stage, len(groups), len(groups))

        run.write_table("grid", pd.DataFrame({"omega": curves.grid(passing)}))
    return [float(omega) for omega in run.table("grid")["omega"]]


def _measured(
    run: Run, curves: ImpactCurves, omegas: list[float], experiment: Experiment, watch: Watch
) -> pd.DataFrame:
    """The curves of all samples; what a stopped run has measured is read."""
    rows: list[dict[str, Any]] = []
    if run.has_table("curves"):
        known = run.table("curves")
        rows = cast("list[dict[str, Any]]", known.to_dict("records"))
        watch.before = max((line.seconds for line in run.progress()), default=0.0)
    done, total = {int(row["sample"]) for row in rows}, len(curves.samples)
    stage, ids = "measuring curves", [sample.id for sample in experiment.negatives.samples]
    watch.tell(stage, len(done), total)
    for group in curves.groups_left(done):
        if watch.stopping():
            raise Stopped(f"after {len(done)} of {total} samples")
        measured = curves.measure(group, omegas)
        rows += [{"id": ids[int(row["sample"])], **row} for row in measured]
        done.update(group)
        run.write_table("curves", _ordered(rows))
        watch.tell(stage, len(done), total)
    return _ordered(rows)


def _ordered(rows: list[dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame(rows).sort_values(["sample", "omega"], ignore_index=True)


def _impact_samples(
    experiment: Experiment, curves: ImpactCurves, table: pd.DataFrame
) -> pd.DataFrame:
    """One row per chosen sample: texts, slope at θ₀, and the validity limit of its curve."""
    samples = samples_table(experiment).iloc[list(curves.samples)].copy()
    samples["slope"] = curves.slopes[list(curves.samples)]
    good = table[table["converged"].astype(bool)]
    samples["limit"] = samples["id"].map(good.groupby("id")["omega"].max())
    ended = set(table.loc[~table["converged"].astype(bool), "id"])
    samples["ended"] = samples["id"].isin(ended)
    return samples


def _uncertain(table: pd.DataFrame) -> int | None:
    """How many gains have an interval that holds 0; None without intervals."""
    if "gain_low" not in table:
        return None
    return int(((table["gain_low"] < 0) & (table["gain_high"] > 0)).sum())
