"""Runs → rows: methods × metrics with intervals, what each cost, and paired differences.

Rows are runs: a descent with the reward that it measured itself, joined with the `evaluate` runs
that measured its model. Several runs that differ in their seed alone make one row, mean and 95 % t
interval over them. Reads run directories; no torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from u2a_core.errors import RunError, U2AError
from u2a_core.metrics import METRICS, over_seeds, paired_difference
from u2a_core.runs import Run
from u2a_core.runs.files import finite, whole
from u2a_core.table.faults import fault
from u2a_core.table.groups import BASELINES, DESCENTS, Kind, kind, original, titles
from u2a_core.types import Estimate

LEDGER = ("forward_passes", "backward_passes", "tokens", "seconds", "peak_memory_mb")
"""What a method cost: of its ledger, seconds by the wall."""
_UNCHANGED = ("Retrain", "SFT")
"""What is trained from another model than the original one, and does not measure it."""


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


@dataclass(frozen=True)
class Usable:
    """What of the given runs a table can be made of.

    Attributes:
        runs: finished descents and evaluations.
        damaged: a sentence for each run that cannot be read.
        unrewarded: finished descents that nothing measured: no test prompts, or no reward.
    """

    runs: list[Run]
    damaged: list[str]
    unrewarded: int

    @property
    def notes(self) -> list[str]:
        """What is told of the runs that are left out."""
        count = self.unrewarded
        without = f"{count} run{'s' * (count > 1)} without a reward on test prompts left out."
        return [*self.damaged, *([without] if count else [])]


@dataclass(frozen=True)
class _Part:
    """What one run says of a row; the run is that whose model is measured."""

    kind: Kind
    run: Run
    metrics: dict[str, dict[str, Any]]
    cost: dict[str, Any] | None = None


def usable(runs: Iterable[Run]) -> Usable:
    """The runs that a table can be made of, and what is told of the others."""
    kept, damaged, parts = [], [], list[_Part]()
    for run in runs:
        try:
            found = _parts(run)
        except U2AError as error:
            damaged.append(str(error))
            continue
        parts += found
        kept += [run] if found else []
    measured = {part.kind for part in parts if part.metrics}
    without = [part for part in parts if part.kind not in measured]
    return Usable(kept, damaged, len(without))


def rows(runs: Iterable[Run]) -> list[Row]:
    """The table's rows in the order of the paper's; the original model comes first.

    Args:
        runs: finished descents and evaluations, in any order.

    Raises:
        RunError: if none of them has anything to compare, or one is damaged.
    """
    found: dict[Kind, list[_Part]] = {}
    for run in runs:
        for part in _parts(run):
            found.setdefault(part.kind, []).append(part)
    found = {one: parts for one, parts in found.items() if any(part.metrics for part in parts)}
    if not found:
        raise RunError(
            "A table needs finished runs that measured something: reweight, unlearn, baseline or "
            "evaluate, with test prompts (data.prompts) and a reward. Got none."
        )
    named = titles({one: parts[0].run for one, parts in found.items()})
    return [_row(named[one], found[one]) for one in sorted(found, key=lambda one: one.order)]


def _parts(run: Run) -> list[_Part]:
    """What a run says: of its own row, and of its original model's; nothing if it says nothing.

    Raises:
        RunError: if the run is damaged.
    """
    command = run.config()["command"]
    if not run.finished or command not in (*DESCENTS, "evaluate"):
        return []
    if why := fault(run):
        raise RunError(why)
    report = run.report()
    if command == "evaluate":
        asked = run.settings().evaluation
        measured = Run(Path(asked.target)) if asked.target and not asked.endpoint else run
        return [_Part(kind(run), measured, _figures(report))]
    cost = report.get("ledger", {}) | {"seconds": report["seconds"]}
    reward = report.get("reward") or {}
    own = _figures({"metrics": {"reward": reward["after"]} if reward else {}})
    parts = [_Part(kind(run), run, own, cost)]
    if reward and parts[0].kind.label not in _UNCHANGED:
        before = _figures({"metrics": {"reward": reward["before"]}})
        parts.append(_Part(original(run), run, before))
    return parts


def _figures(report: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Mean, low, high and n of what was measured."""
    found = {}
    for metric, figures in report["metrics"].items():
        if figures["mean"] is not None:
            found[metric] = {key: figures[key] for key in ("mean", "low", "high", "n")}
    return found


def _row(name: str, parts: list[_Part]) -> Row:
    """One method: its own figures, or their mean over runs."""
    costs = [part.cost for part in parts if part.cost is not None]
    made = Row(name, runs=max(1, len(costs)))
    for metric in METRICS:
        known = [part.metrics[metric] for part in parts if metric in part.metrics]
        # an evaluation repeats the reward that its run measured, and every run the original's
        different = list({tuple(figures.values()): figures for figures in known}.values())
        if len(different) == 1 or (different and len(costs) == 1):
            made.metrics[metric] = different[0]
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
    preference prompts, never by the test reward) against every baseline; of a row with several
    seeds the last run. Only runs of the same model, test prompts and reward are compared.

    Args:
        runs: finished descents.
    """
    descents = [run for run in runs if run.config()["command"] in DESCENTS]
    known = {kind(run): run for run in descents}
    named = titles({kind(run): run for run in reversed(descents)})  # by the first of each
    ours = [one for one in known if one.label.endswith(" + U2A")]
    if not ours:
        return []
    best_one = max(ours, key=lambda one: float(known[one].report()["objective"]["after"]))
    pairs = [
        (one, other)
        for one in ours
        for other in known
        if other.label == one.label.removesuffix(" + U2A")
    ]
    pairs += [(best_one, other) for other in known if other.label in BASELINES.values()]
    found = []
    for one, other in pairs:
        if original(known[one]) == original(known[other]):
            estimate = _paired(known[one], known[other])
            if estimate is not None:
                both = {"ours": named[one], "theirs": named[other]}
                found.append({**both, **finite(asdict(estimate))})
    return found


def _paired(ours: Run, theirs: Run) -> Estimate | None:
    """Ours − theirs over the prompts that both answered; None where a reward is missing."""
    means = []
    for run in (ours, theirs):
        with whole(run.path):
            means.append(run.table("generations").groupby("prompt")["reward_after"].mean())
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
