"""`u2a demo`: the main job on the embedded scenario, twelve runs compared.

For each method (GA, GradDiff, NPO): uniform weights, U2A weights, the oracle (uniform over the
truly bad) and random weights over half the set. Each is an ordinary run in `arms/`, made by the
same code as a user's own, and two processes share them.
"""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import numpy as np

from u2a_core import commands, metrics
from u2a_core.commands import Stopped, Watch
from u2a_core.config import Settings, load_settings
from u2a_core.data import load_negatives, load_truth, write_records
from u2a_core.demo import world
from u2a_core.results import by_prompt
from u2a_core.runs import Run, demo_assets

METHODS = ("ga", "graddiff", "npo")
WEIGHTINGS = ("u2a", "uniform", "oracle", "random")
_WORKERS = 2
_DATA_FILES = ("negatives", "preferences", "retain", "prompts", "truth")


def demo_settings(seed: int) -> Settings:
    """demo.yaml with the given seed."""
    return load_settings(demo_assets() / "demo.yaml").model_copy(update={"seed": seed})


def run_demo(run: Run, settings: Settings, watch: Watch) -> dict[str, Any]:
    """All arms, then the comparison; arms that are finished are not run again."""
    settings = _with_data(run, settings)
    arms = {
        f"{method}-{weighting}": _arm(run, settings, method, weighting)
        for weighting in WEIGHTINGS  # the longest runs first
        for method in METHODS
    }
    _execute_all(arms, watch)
    report = _compare(arms, settings, watch)
    run.write_report(report)
    return report


def _with_data(run: Run, settings: Settings) -> Settings:
    """The committed data for seed 0; another seed's own, written into the run's folder."""
    if settings.seed == 0:
        return settings
    folder = run.path.resolve() / "data"
    if not (folder / "truth.jsonl").exists():
        world.write_data(folder, settings.seed)
    names = {name: "test_prompts" if name == "prompts" else name for name in _DATA_FILES}
    paths = {name: str(folder / f"{file}.jsonl") for name, file in names.items()}
    return settings.model_copy(update={"data": settings.data.model_copy(update=paths)})


def _arm(run: Run, settings: Settings, method: str, weighting: str) -> Run:
    """The run directory of one arm."""
    path = run.path / "arms" / f"{method}-{weighting}"
    if Run(path).exists:
        return Run.open(path)
    weights = "uniform"
    if weighting in ("oracle", "random"):
        weights = str(_weights_file(run.path.resolve() / f"{weighting}.jsonl", settings, weighting))
    inner = settings.inner.model_copy(update={"method": method})
    own = settings.model_copy(update={"inner": inner, "weights": weights})
    return Run.create(path, "reweight" if weighting == "u2a" else "unlearn", own)


def _weights_file(path: Path, settings: Settings, weighting: str) -> Path:
    """Uniform weights over the truly bad samples, or over a random half."""
    ids = [sample.id for sample in load_negatives(settings.data.negatives).samples]
    if weighting == "oracle":
        bad = ~np.asarray(load_truth(settings.data.truth, ids))
        chosen = [i for i, is_bad in zip(ids, bad, strict=True) if is_bad]
    else:
        generator = np.random.default_rng(settings.seed)
        chosen = list(generator.choice(ids, size=len(ids) // 2, replace=False))
    write_records(path, [{"id": str(i), "weight": 1.0} for i in chosen])
    return path


def _execute_all(arms: dict[str, Run], watch: Watch) -> None:
    """Runs the arms on worker processes, showing each one's progress."""
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    with ProcessPoolExecutor(_WORKERS, context, _initialize, (stop,)) as pool:
        pending = {name: pool.submit(_execute, str(arm.path)) for name, arm in arms.items()}
        with _stopped_on_error(stop):
            _follow(arms, pending, watch, stop)
    if stop.is_set():
        raise Stopped("the demo's arms")


@contextmanager
def _stopped_on_error(stop: Event) -> Iterator[None]:
    try:
        yield
    except BaseException:
        stop.set()
        raise


def _follow(
    arms: dict[str, Run], pending: dict[str, Future[bool]], watch: Watch, stop: Event
) -> None:
    """Until all are done: passes on progress, and the wish to stop."""
    seen = dict.fromkeys(arms, 0)
    while True:
        done = [future for future in pending.values() if future.done()]
        for future in done:
            future.result()  # raises what its arm raised
        for name, arm in arms.items():
            lines = arm.progress()
            steps = [line for line in lines[seen[name] :] if line.total > 1]
            if steps:
                watch.tell(name, steps[-1].step, steps[-1].total, steps[-1].values)
            seen[name] = len(lines)
        if watch.stopping():
            stop.set()
        if len(done) == len(pending):
            return
        time.sleep(0.5)


_stop: Event | None = None


def _initialize(stop: Event) -> None:
    """In a worker: the parent decides when to stop."""
    global _stop  # noqa: PLW0603 - a worker process has one parent
    _stop = stop
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _execute(path: str) -> bool:
    """In a worker: one arm, to its end; False if it was stopped."""
    run = Run.open(Path(path))
    bodies = {"reweight": commands.run_reweight, "unlearn": commands.run_unlearn}
    if _stop is not None and _stop.is_set():
        return False
    watch = Watch(run, stopping=lambda: _stop is not None and _stop.is_set())
    try:
        commands.execute(run, watch, bodies[run.config()["command"]])
    except Stopped:
        return False
    return True


def _compare(arms: dict[str, Run], settings: Settings, watch: Watch) -> dict[str, Any]:
    """The demo's report from those of its arms."""
    reports = {name: arm.report() for name, arm in arms.items()}
    ids = [sample.id for sample in load_negatives(settings.data.negatives).samples]
    mislabelled = load_truth(settings.data.truth, ids)
    first = reports["npo-u2a"]
    return {
        "command": "demo",
        "scenario": {
            "negatives": len(ids),
            "mislabelled": sum(mislabelled),
            "seed": settings.seed,
        },
        "original": {"reward": first["reward"]["before"]},
        "methods": [
            _row(method, weighting, arms, reports)
            for method in METHODS
            for weighting in ("uniform", "u2a", "oracle", "random")
        ],
        "gains": first["gains"],
        "seconds": round(watch.seconds, 2),
    }


def _row(
    method: str, weighting: str, arms: dict[str, Run], reports: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    name = f"{method}-{weighting}"
    report = reports[name]
    row = {
        "method": method,
        "weights": weighting,
        "reward": report["reward"]["after"],
        "weight_on_mislabelled": report["weight_on_mislabelled"],
        "effective_samples": report["effective_samples"],
        "steps": report["steps"],
        "seconds": report["seconds"],
    }
    if weighting == "u2a":
        row["gains"] = report["gains"]
        row |= _against_uniform(arms[name], arms[f"{method}-uniform"])
    return row


def _against_uniform(ours: Run, theirs: Run) -> dict[str, Any]:
    """Paired difference of the rewards, and the steps to J of the uniform weights' model."""
    rewards = []
    for run in (ours, theirs):
        table = run.table("generations")
        rewards.append(by_prompt(table["reward_after"], table).mean(axis=1))
    goal = theirs.table("history")["objective"].max()
    history = ours.table("history")
    reached = history.loc[history["objective"] >= goal, "step"]
    difference = metrics.paired_difference(*rewards)
    return {
        "minus_uniform": {
            "mean": difference.mean,
            "low": difference.low,
            "high": difference.high,
            "n": difference.n,
        },
        "steps_to_uniform": None if reached.empty else int(reached.iloc[0]),
    }
