"""`u2a demo`: the main job on the embedded scenario, twelve runs compared.

For each method (GA, GradDiff, NPO): uniform weights, U2A weights, the oracle (uniform over the
truly bad) and random weights over half the set. Each is an ordinary run in `arms/`, made by the
same code as a user's own, and two processes share them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from u2a_core import commands, metrics
from u2a_core.commands import Watch
from u2a_core.config import Settings, load_settings
from u2a_core.data import load_negatives, load_truth, write_records
from u2a_core.demo import world
from u2a_core.errors import NumericalError
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
    for why in commands.execute_arms(arms, watch, workers=_WORKERS).values():
        raise NumericalError(why)
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
    weights = "uniform"
    if weighting in ("oracle", "random"):
        weights = str(_weights_file(run.path.resolve() / f"{weighting}.jsonl", settings, weighting))
    inner = settings.inner.model_copy(update={"method": method})
    own = settings.model_copy(update={"inner": inner, "weights": weights})
    command = "reweight" if weighting == "u2a" else "unlearn"
    return commands.arm(run, f"{method}-{weighting}", command, own)


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
