"""Runs → rows: methods × metrics with intervals, what each cost, and paired differences.

Rows are runs: a descent with the reward that it measured itself, joined with the `evaluate` runs
that measured its model. Several runs of one method (seeds) make one row, mean and 95 % t interval
over them. Reads run directories; no torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from u2a_core.config import Settings
from u2a_core.errors import RunError
from u2a_core.metrics import METRICS, over_seeds, paired_difference
from u2a_core.runs import Run, Workspace
from u2a_core.runs.files import finite
from u2a_core.types import Estimate

ORIGINAL = "Original"
DESCENTS = ("reweight", "unlearn", "baseline")
LEDGER = ("forward_passes", "backward_passes", "tokens", "seconds", "peak_memory_mb")
"""What a method cost: of its ledger, seconds by the wall."""
_NAMES = {"ga": "GA", "graddiff": "GradDiff", "npo": "NPO", "simnpo": "SimNPO"}
_BASELINES = {"dpo": "DPO", "ppo": "PPO", "retrain": "Retrain", "sft": "SFT"}
_ORDER = (
    *(ORIGINAL, "SFT", "Retrain"),
    *(name + more for name in _NAMES.values() for more in ("", " + U2A")),
    *("PPO", "DPO"),
)


@dataclass
class Row:
    """One method.

    Attributes:
        method: its label.
        metrics: key of METRICS → mean, low, high, n; None where a bound does not exist.
        ledger: what it cost, the mean over its runs.
        runs: how many runs are in it.
        over: what the intervals are over: the test prompts of one run, or the seeds.
    """

    method: str
    metrics: dict[str, dict[str, Any]] = field(default_factory=dict)
    ledger: dict[str, float] = field(default_factory=dict)
    runs: int = 0

    @property
    def over(self) -> str:
        """The unit of the intervals."""
        return "prompts" if self.runs < 2 else "seeds"


def comparable(folder: Path) -> list[Run]:
    """The runs of a folder: itself, its arms, or all that stand in it.

    Raises:
        RunError: if there is no such folder.
    """
    if not folder.is_dir():
        raise RunError(f"A table must be made of runs or folders of runs; {folder} is none.")
    if Run(folder).exists:
        arms = sorted(folder.glob("arms/*/config.json"))
        return [Run.open(path.parent) for path in arms] or [Run.open(folder)]
    return Workspace(folder).runs()


def label(run: Run) -> str:
    """What a run is called in tables: NPO, NPO + U2A, DPO, Retrain and so on."""
    command, settings = run.config()["command"], run.settings()
    if command == "evaluate":
        target = settings.evaluation.target
        return label(Run.open(Path(target))) if target else ORIGINAL
    if command == "baseline":
        return _BASELINES[settings.baseline.method]
    name = _NAMES[settings.inner.method]
    if command == "reweight":
        rule = settings.outer.rule
        return f"{name} + U2A" if rule == "weights" else f"{name}, {rule} {settings.outer.k}"
    if settings.weights == "uniform":
        return name
    source = Path(settings.weights)
    if (source / "config.json").exists():
        return f"{name} + U2A" + (" (last weights)" if settings.final_weights else "")
    # a shipped run keeps its weights beside its report, under the same name as all others
    origin = source.parent.name if source.stem == "weights" else source.stem
    return f"{name}, weights of {origin}"


def alike(runs: Iterable[Run], chosen: Run) -> list[Run]:
    """Of every method, the first run (or the chosen one), and those that differ by seed alone.

    Runs of other settings would be averaged into a row that is no method.
    """
    first: dict[str, Settings] = {label(chosen): _but_seed(chosen)}
    found = []
    for run in runs:
        if _but_seed(run) == first.setdefault(label(run), _but_seed(run)):
            found.append(run)
    return found


def _but_seed(run: Run) -> Settings:
    return run.settings().model_copy(
        update={"seed": 0, "evaluation": Settings().evaluation, "ablation": Settings().ablation}
    )


def rows(runs: Iterable[Run]) -> list[Row]:
    """The table's rows in the order of the paper's; the original model comes first.

    Args:
        runs: finished descents and evaluations, in any order.

    Raises:
        RunError: if none of them has anything to compare.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    costs: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        if not run.finished or run.config()["command"] not in (*DESCENTS, "evaluate"):
            continue
        report, name = run.report(), label(run)
        if run.config()["command"] == "evaluate":
            found.setdefault(name, []).append(report["metrics"])
            continue
        costs.setdefault(name, []).append(report.get("ledger", {}) | {"seconds": report["seconds"]})
        if report.get("reward"):
            found.setdefault(name, []).append({"reward": report["reward"]["after"]})
            if label(run) not in ("Retrain", "SFT"):
                found.setdefault(ORIGINAL, []).append({"reward": report["reward"]["before"]})
    if not found:
        raise RunError(
            "A table needs finished runs that measured something: reweight, unlearn, baseline or "
            "evaluate, with test prompts (data.prompts) and a reward. Got none."
        )
    made = [_row(name, parts, costs.get(name, [])) for name, parts in found.items()]
    return sorted(made, key=lambda row: (_place(row.method), row.method))


def _place(method: str) -> int:
    return _ORDER.index(method) if method in _ORDER else len(_ORDER)


def _row(name: str, parts: list[dict[str, Any]], costs: list[dict[str, Any]]) -> Row:
    """One method: its own figures, or their mean over runs."""
    made = Row(name, runs=max(1, len(costs)))
    for metric in METRICS:
        known = [part[metric] for part in parts if part.get(metric, {}).get("mean") is not None]
        # an evaluation repeats the reward that its run measured, and every run the original's
        different = list({(f["mean"], f["low"], f["high"], f["n"]): f for f in known}.values())
        if len(different) == 1 or (different and len(costs) == 1):
            made.metrics[metric] = {k: different[0][k] for k in ("mean", "low", "high", "n")}
        elif different:
            found = asdict(over_seeds([f["mean"] for f in different])).items()
            made.metrics[metric] = {k: None if pd.isna(v) else v for k, v in found}
            made.runs = max(made.runs, len(different))
    for key in LEDGER:
        values = [cost[key] for cost in costs if cost.get(key) is not None]
        if values:
            made.ledger[key] = sum(values) / len(values)
    return made


def differences(runs: Iterable[Run]) -> list[dict[str, Any]]:
    """Paired differences in test reward, over prompts: ours, theirs, mean, low, high, n.

    Each U2A run against the same method with uniform weights, and the best U2A run (by J on the
    preference prompts, never by the test reward) against every baseline.

    Args:
        runs: finished descents that asked the same test prompts.
    """
    known = {label(run): run for run in runs if run.config()["command"] in DESCENTS}
    ours = {name: run for name, run in known.items() if name.endswith(" + U2A")}
    if not ours:
        return []
    best_one = max(ours, key=lambda name: float(ours[name].report()["objective"]["after"]))
    pairs = [(name, name.removesuffix(" + U2A")) for name in ours]
    pairs += [(best_one, name) for name in _BASELINES.values()]
    found = []
    for name, other in pairs:
        if other in known:
            estimate = _paired(known[name], known[other])
            if estimate is not None:
                found.append({"ours": name, "theirs": other, **finite(asdict(estimate))})
    return found


def _paired(ours: Run, theirs: Run) -> Estimate | None:
    """Ours − theirs over the prompts that both answered; None where a reward is missing."""
    means = [
        run.table("generations").groupby("prompt")["reward_after"].mean() for run in (ours, theirs)
    ]
    both = pd.concat(means, axis=1, join="inner").dropna().to_numpy()
    return paired_difference(both[:, 0], both[:, 1]) if len(both) else None


def bounds(found: Mapping[str, Any]) -> str:
    """`[+0.390, +0.560]` of an estimate over prompts; of one prompt, that it has none."""
    if found["low"] is None:
        return "[one prompt: no interval]"
    return f"[{found['low']:+.3f}, {found['high']:+.3f}]"


def losses(found: Iterable[dict[str, Any]]) -> list[str]:
    """A sentence for every comparison in which U2A is not ahead."""
    return [
        f"{row['ours']} is {'behind' if (row['high'] or 0) < 0 else 'not clearly ahead of'} "
        f"{row['theirs']} in reward: difference {row['mean']:+.3f} {bounds(row)} "
        f"(95 %, n = {row['n']} prompts)."
        for row in found
        if row["low"] is None or row["low"] <= 0
    ]
