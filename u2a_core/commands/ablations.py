"""`u2a ablate`: Top-K against random, all, a reward filter and optimized weights, over seeds."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from u2a_core import ablation
from u2a_core.ablation import Arm
from u2a_core.commands.arms import arm, execute_arms, processes
from u2a_core.commands.work import Watch
from u2a_core.curvature import implied_lam
from u2a_core.data import load_negatives, write_records
from u2a_core.errors import NumericalError
from u2a_core.metrics import over_seeds
from u2a_core.runs import Run
from u2a_core.weights import random_k

if TYPE_CHECKING:
    from u2a_core.config import Settings

_RESELECTED = ("top_k", "bottom_k")
_AFTER_U2A = ("u2a_support", "omega")


def run_ablate(run: Run, settings: Settings, watch: Watch) -> dict[str, Any]:
    """`u2a ablate`: the arms in stages, since some begin from what others found; then tables."""
    watch.before = max((line.seconds for line in run.progress()), default=0.0)
    data = settings.data
    n = len(load_negatives(data.negatives, columns=data.columns_of("negatives")))
    workers = processes(settings, settings.ablation.workers)
    failures: dict[str, str] = {}
    done: dict[str, Run] = {}
    notes: list[str] = []
    planned = _planned(run, settings, n)
    for stage in range(3):
        for one in planned:
            made = _run(run, settings, one) if _stage(one) == stage else None
            if made is not None:
                done[one.name] = made
        failures |= execute_arms(done, watch, workers=workers, total=len(planned))
        run.write_table("failures", pd.DataFrame(failures.items(), columns=["name", "why"]))
        if stage == 0:
            n = _scored_samples(run, settings.seed, failures)
            planned = _planned(run, settings, n)
    if "reward_filter" in settings.ablation.arms and not _scored(run, settings.seed):
        notes.append("The reward filter is left out: objective.reward names no reward.")
    report = _report(run, settings, n, notes) | {"seconds": round(watch.seconds, 2)}
    run.write_report(report)
    return report


def _planned(run: Run, settings: Settings, n: int) -> list[Arm]:
    """The arms over n samples, told in the table that pages read."""
    planned = ablation.plan(settings, n)
    run.write_table("plan", pd.DataFrame([dataclasses.asdict(a) for a in planned]))
    return planned


def _scored_samples(run: Run, seed: int, failures: dict[str, str]) -> int:
    """How many negatives every arm has: those of the file that leave room for their reply.

    Raises:
        NumericalError: if gains could not be computed; no arm would have anything to stand on.
    """
    for name, why in failures.items():
        raise NumericalError(f"{name}: {why}")
    return len(ablation.gains_run(run, seed).table("gains"))


def _stage(one: Arm) -> int:
    """Gains first; then all that needs no other run; then what begins from U2A's weights."""
    return 0 if one.arm == "gains" else 2 if one.arm in _AFTER_U2A else 1


def _run(run: Run, settings: Settings, one: Arm) -> Run | None:
    """The run of an arm; None where it lacks what it needs."""
    own = settings.model_copy(update={"seed": one.seed, "weights": "uniform"})
    if one.arm == "gains":
        return arm(run, one.name, "gains", own)
    # the standard errors of the gains, which cost more than half a round, stand in the gains' runs
    lean = own.objective.model_copy(update={"splits": 0})
    own = own.model_copy(update={"objective": lean})
    if one.arm in ("u2a", *_RESELECTED) or (not math.isnan(one.value) and one.arm != "omega"):
        return arm(run, one.name, "reweight", _varied(run, own, one))
    if one.arm != "all":
        chosen = _chosen(run, own, one)
        if chosen is None:
            return None
        own = own.model_copy(update={"weights": str(_weights_file(run, one, chosen))})
    return arm(run, one.name, "unlearn", own)


def _varied(run: Run, settings: Settings, one: Arm) -> Settings:
    """The settings of an arm that chooses its weights as it goes."""
    inner, outer = settings.inner, settings.outer
    rule = {"rule": one.arm, "k": one.k} if one.arm in _RESELECTED else {"rule": "weights"}
    outer = outer.model_copy(update=rule)
    if one.arm == "step_size":
        outer = outer.model_copy(update={"step_size": outer.step_size * one.value})
    if one.arm == "sparsity":  # β/2·√n at uniform weights, as a share of the slopes' spread
        slopes = ablation.gains_run(run, one.seed).table("gains")["slope"]
        beta = 2 * one.value * float(slopes.std(ddof=0)) / len(slopes) ** 0.5
        outer = outer.model_copy(update={"sparsity": beta})
    if one.arm == "lam":
        lam = inner.lam or implied_lam(inner.learning_rate, inner.steps)
        inner = inner.model_copy(update={"lam": lam * one.value})
    return settings.model_copy(update={"inner": inner, "outer": outer})


def _chosen(run: Run, settings: Settings, one: Arm) -> pd.Series | None:
    """The weights of an arm that has them before it begins, by sample id.

    None without a reward, or where the weights that it begins from collapsed.
    """
    gains = ablation.gains_run(run, one.seed).table("gains").set_index("id")
    if one.arm == "one_shot":
        return gains["gain"].nlargest(one.k).map(lambda _: 1.0)
    if one.arm == "reward_filter":
        if "reward" not in gains:
            return None
        # samples of equal reward in random order, so that the file's order decides nothing
        shuffled = gains["reward"].sample(frac=1, random_state=one.seed)
        return shuffled.nsmallest(one.k).map(lambda _: 1.0)
    if one.arm == "random_k":
        data = settings.data
        found = load_negatives(data.negatives, columns=data.columns_of("negatives"))
        ids = [sample.id for sample in found.samples if sample.id in gains.index]
        drawn = random_k(len(ids), one.k, seed=one.seed).values.numpy() > 0
        return pd.Series(1.0, index=np.asarray(ids)[drawn])
    ours = Run(run.path / "arms" / f"u2a-{one.seed}")
    if not ours.finished:  # it collapsed
        return None
    weights = ours.table("weights").set_index("id")["weight"]
    kept = weights[weights > 0]
    return kept ** (one.value if one.arm == "omega" else 0.0)


def _weights_file(run: Run, one: Arm, weights: pd.Series) -> Path:
    path = run.path.resolve() / "weights" / f"{one.name}.jsonl"
    records = [{"id": str(i), "weight": float(w)} for i, w in weights.items()]
    write_records(path, records)
    return path


def _scored(run: Run, seed: int) -> bool:
    return "reward" in ablation.gains_run(run, seed).table("gains")


def _report(run: Run, settings: Settings, n: int, notes: list[str]) -> dict[str, Any]:
    """Writes the tables; what the report says."""
    rows = ablation.collect(run)
    bands, differences = ablation.bands(rows), ablation.differences(rows)
    for name, table in (("ablation", rows), ("bands", bands), ("differences", differences)):
        run.write_table(name, table)
    metric = ablation.measured(bands)
    if settings.ablation.seeds == 1:
        notes.append("One seed only: no band and no paired interval; raise ablation.seeds.")
    collapsed = rows.loc[rows["collapsed"], "run"].tolist()
    if collapsed:
        notes.append(
            f"{len(collapsed)} of {len(rows)} arms collapsed (the first: {collapsed[0]}); they "
            "count with the step that was kept, or stand as missing where there was none."
        )
    return {
        "command": "ablate",
        "method": settings.inner.method,
        "negatives": n,
        "seeds": settings.ablation.seeds,
        "arms": len(rows),
        "collapsed": collapsed,
        "best_k": ablation.best_k(rows),
        "original": _original(run, rows),
        "bands": _records(bands[bands["metric"] == metric]),
        "differences": _records(differences[differences["metric"] == metric]),
        "notes": [*notes, *ablation.behind(differences)],
    }


def _original(run: Run, rows: pd.DataFrame) -> dict[str, Any]:
    """J and test reward of the original model, over the seeds."""
    firsts = rows[rows["objective"].notna()].drop_duplicates("seed")
    reports = [Run(run.path / "arms" / name).report() for name in firsts["run"]]
    found = {"objective": [r["objective"]["before"] for r in reports]}
    found["reward"] = [r["reward"]["before"]["mean"] for r in reports if r.get("reward")]
    return {name: dataclasses.asdict(over_seeds(v)) for name, v in found.items()}


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as JSON has them: no NaN."""
    cleaned = table.astype(object).where(table.notna(), None)
    return [{str(k): v for k, v in row.items()} for row in cleaned.to_dict("records")]
