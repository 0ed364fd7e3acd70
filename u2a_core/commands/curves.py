"""`u2a impact`: the impact curves of chosen samples, predicted and measured."""

from __future__ import annotations

import copy
import dataclasses
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from u2a_core.commands.work import Stopped, Watch, finish, load
from u2a_core.errors import ConfigError
from u2a_core.impact import ImpactCurves, summary
from u2a_core.results import samples_table
from u2a_core.runs import Run

if TYPE_CHECKING:
    from u2a_core.config import Settings
    from u2a_core.experiment import Experiment

_POLL_S = 0.2
_CLEAR = 100
"""How many times J's rounding error an impact must be to be measured well."""


def run_impact(run: Run, settings: Settings, watch: Watch) -> dict[str, Any]:
    """`u2a impact`: the impact curves of chosen samples, group by group; stops after any."""
    watch.before = max((line.seconds for line in run.progress()), default=0.0)
    # δ would drown in the rounding of half precision, whatever the settings ask for elsewhere
    precise = settings.model.model_copy(update={"dtype": "float32"})
    experiment = load(settings.model_copy(update={"model": precise}), watch)
    samples = chosen_samples(settings, experiment)
    with _steady(experiment):
        facts = _curves(run, settings, experiment, samples, watch)
    return finish(run, experiment, watch, facts)


@contextmanager
def _steady(experiment: Experiment) -> Iterator[None]:
    """On a CPU, while open: one thread an operation and one attention kernel for every worker.

    So that a curve comes out the same, to the bit, however many workers share the samples.
    """
    if experiment.policy.device.type != "cpu":
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.set_num_threads(before)


def _curves(
    run: Run, settings: Settings, experiment: Experiment, samples: tuple[int, ...], watch: Watch
) -> dict[str, Any]:
    """Measures the curves, writes their tables; what the report says of them."""
    watch.tell("J and its gradient", 0, 1)
    curves = ImpactCurves(experiment.problem, experiment.smooth, samples, settings.impact.lam)
    objective, linear = experiment.smooth.estimate(curves.origin[0]), curves.slopes
    rounding = curves.rounding()
    watch.tell("J and its gradient", 1, 1, {"objective": objective.mean})
    omegas = _omegas(run, curves, settings, watch)
    table = _measured(run, curves, omegas, experiment, watch)
    run.write_table("curves", table)
    run.write_table("samples", _impact_samples(experiment, samples, linear, table))
    first = table[(table["omega"] == omegas[0]) & table["converged"].astype(bool)]
    smallest = float(first["measured"].abs().median()) if len(first) else None
    warnings, notes = [], []
    if smallest is not None and smallest < _CLEAR * rounding:
        warnings.append(
            f"Half of the impacts at the smallest weight are below {smallest:.2g}, less than "
            f"{_CLEAR} times the rounding error of J ({rounding:.2g}): their measurements are "
            "noise. Give larger weights (impact.omegas)."
        )
    if settings.inner.retain_weight:
        notes.append(
            "The curves are of each sample's own proximal problem: the retain term "
            f"(λ_r = {settings.inner.retain_weight:g}) is left out of it."
        )
    return {
        "data": {"slopes_see": "the trained parameters"},  # whose inner problem is solved
        "method": settings.inner.method,
        "lam": settings.impact.lam,
        "samples": len(samples),
        "objective": dataclasses.asdict(objective),
        "objective_kind": type(curves.objective).__name__,
        "rounding": rounding,
        "smallest_impact": smallest,
        "warnings": warnings,
        "notes": notes,
        **summary(table, len(samples), omegas),
    }


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
    done, total = {int(row["sample"]) for row in rows}, len(curves.samples)
    stage, ids = "measuring curves", [sample.id for sample in experiment.negatives.samples]
    watch.tell(stage, len(done), total)
    groups = curves.groups_left(done)
    with _workers(curves, omegas, settings=experiment.settings) as submit:
        pending = [submit(group) for group in groups]
        for group, future in zip(groups, pending, strict=True):
            while not future.done() and not watch.stopping():
                wait([future], timeout=_POLL_S)
            if watch.stopping():  # what is at work is waited for, and kept
                for other in pending:
                    other.cancel()
            if future.cancelled():
                raise Stopped(f"after {len(done)} of {total} samples")
            rows += [{"id": ids[int(row["sample"])], **row} for row in future.result()]
            done.update(group)
            run.write_table("curves", _ordered(rows))
            watch.tell(stage, len(done), total)
    return _ordered(rows)


@contextmanager
def _workers(
    curves: ImpactCurves, omegas: list[float], *, settings: Settings
) -> Iterator[Callable[[list[int]], Future[list[dict[str, Any]]]]]:
    """While open: threads that measure groups of samples, each with a copy of the model."""
    device = next(iter(curves.problem.origin.values())).device
    count = 1 if device.type != "cpu" else settings.impact.workers or os.cpu_count() or 1
    free: SimpleQueue[ImpactCurves] = SimpleQueue()
    for number in range(count):
        free.put(curves if number == 0 else copy.deepcopy(curves))

    def measure(group: list[int]) -> list[dict[str, Any]]:
        mine = free.get()
        try:
            return mine.measure(group, omegas)
        finally:
            free.put(mine)

    with ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        yield lambda group: pool.submit(measure, group)


def _ordered(rows: list[dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame(rows).sort_values(["sample", "omega"], ignore_index=True)


def _impact_samples(
    experiment: Experiment, chosen: tuple[int, ...], slopes: np.ndarray, table: pd.DataFrame
) -> pd.DataFrame:
    """One row per chosen sample: texts, slope at θ₀, and the validity limit of its curve."""
    samples = samples_table(experiment).iloc[list(chosen)].copy()
    samples["slope"] = slopes[list(chosen)]
    good = table[table["converged"].astype(bool)]
    samples["limit"] = samples["id"].map(good.groupby("id")["omega"].max())
    ended = set(table.loc[~table["converged"].astype(bool), "id"])
    samples["ended"] = samples["id"].isin(ended)
    return samples
