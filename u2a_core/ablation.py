"""The ablation: which negatives to unlearn, and how many (the paper's Fig. 4).

`plan` lists the arms, `collect` reads what became of them, `bands` and `differences` say what
follows, over seeds. Reads run directories; no torch, so that a page shows an ablation at work.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from u2a_core.config import Settings
from u2a_core.errors import ConfigError, RunError
from u2a_core.metrics import over_seeds
from u2a_core.runs import Run

SHARES = (0.1, 0.2, 0.4, 0.6, 0.8)
"""K of `ablation.ks auto`, as shares of n."""
BY_K = ("top_k", "one_shot", "random_k", "bottom_k", "reward_filter")
"""Arms that are run at every K; the others once."""
METRICS = ("reward", "objective", "retain")
"""What bands are drawn of: test reward ↑, J on the preference prompts ↑, retain NLL ↓."""
SETTINGS = ("step_size", "sparsity", "lam", "omega")
"""Settings that sensitivity runs vary."""
_COMPARED = (
    *(("top_k", other) for other in BY_K[1:]),
    ("u2a", "u2a_support"), ("u2a", "all"), ("u2a", "top_k"), ("u2a", "reward_filter"),
)  # fmt: skip
_SCALES = (0.25, 0.5, 2.0, 4.0)
_SPARSE = (0.1, 0.3, 1.0, 3.0)
_POWERS = (0.0, 0.5, 2.0, 4.0)
_COLUMNS = (
    "run", "arm", "k", "seed", "value", "objective", "reward", "reward_low", "reward_high",
    "retain", "steps", "steps_taken", "tokens", "seconds", "effective_samples",
    "weight_on_mislabelled", "ended", "collapsed",
)  # fmt: skip
"""Of `collect`."""
_DIFFERENCE = ("ours", "theirs", "k", "metric", "mean", "low", "high", "n", "above")
_NO_COLLAPSE = ("budget used", "token budget used", "J did not rise")


@dataclass(frozen=True)
class Arm:
    """One run of the ablation.

    Attributes:
        name: of its directory in arms/.
        arm: which samples it unlearns; the name of the varied setting for a sensitivity run.
        k: how many; 0 where it chooses by itself.
        seed: of sampling and of random subsets.
        value: of the varied setting, relative to its default; NaN for the others. For sparsity:
            the term at uniform weights over the spread of the slopes. For omega: the power.
    """

    name: str
    arm: str
    k: int
    seed: int
    value: float = math.nan


def grid(settings: Settings, n: int) -> tuple[int, ...]:
    """The K of an ablation over n samples, ascending.

    Raises:
        ConfigError: if a K is larger than n.
    """
    asked = settings.ablation.ks
    if asked == "auto":
        return tuple(sorted({max(1, min(round(share * n), n - 1)) for share in SHARES if n > 1}))
    if asked[-1] > n:
        raise ConfigError(
            f"ablation.ks must be at most {n}, the number of negative samples; got {asked[-1]}. "
            "Lower it, or use auto."
        )
    return asked


def plan(settings: Settings, n: int) -> list[Arm]:
    """Every arm, those that others wait for or that take longest first.

    Raises:
        ConfigError: if a K is larger than n.
    """
    chosen = settings.ablation
    seeds = [settings.seed + number for number in range(chosen.seeds)]
    counts = sorted(grid(settings, n), reverse=True)
    arms = [Arm(f"gains-{seed}", "gains", 0, seed) for seed in seeds]
    for kind in ("u2a", "top_k", "bottom_k", "all", "one_shot", "random_k", "reward_filter"):
        for seed in seeds:
            if kind == "u2a" and (kind in chosen.arms or "u2a_support" in chosen.arms):
                arms.append(Arm(f"u2a-{seed}", kind, 0, seed))
            elif kind == "all" and kind in chosen.arms:
                arms.append(Arm(f"all-{seed}", kind, n, seed))
            elif kind in chosen.arms and kind in BY_K:
                arms += [Arm(f"{kind}-{k}-{seed}", kind, k, seed) for k in counts]
    for setting in chosen.sensitivity:
        levels = {"sparsity": _SPARSE, "omega": _POWERS}.get(setting, _SCALES)
        arms += [
            Arm(f"{setting}-{level:g}-{seed}", setting, 0, seed, level)
            for seed in seeds
            for level in levels
        ]
    if "u2a_support" in chosen.arms:
        arms += [Arm(f"u2a_support-{seed}", "u2a_support", 0, seed) for seed in seeds]
    return arms


def collect(run: Run) -> pd.DataFrame:
    """One row per arm of an ablation that is finished or has collapsed, as far as it has come.

    A table without rows where none has come so far.
    """
    if not run.has_table("plan"):
        return pd.DataFrame(columns=list(_COLUMNS))
    rows, failures = [], _failures(run)
    for planned in run.table("plan").to_dict("records"):
        arm = Run(run.path / "arms" / str(planned["name"]))
        row = {"run": planned["name"], **{k: v for k, v in planned.items() if k != "name"}}
        if planned["arm"] != "gains" and arm.exists:
            if arm.finished:
                rows.append(row | _outcome(arm))
            elif planned["name"] in failures:
                rows.append(row | {"ended": failures[planned["name"]], "collapsed": True})
    return pd.DataFrame(rows, columns=list(_COLUMNS))


def _failures(run: Run) -> dict[str, str]:
    """Why arms ended in a numerical failure, by name."""
    if not run.has_table("failures"):
        return {}
    table = run.table("failures")
    return dict(zip(table["name"], table["why"], strict=True))


def _outcome(arm: Run) -> dict[str, Any]:
    """What an arm's report says, flat."""
    report, history = arm.report(), arm.table("history")
    kept = history[history["step"] == report["steps"]].iloc[-1]
    after = report.get("reward", {}).get("after", {})
    ended = str(report["ended"])
    return {
        "objective": report["objective"]["after"],
        "reward": after.get("mean", math.nan),
        "reward_low": after.get("low", math.nan),
        "reward_high": after.get("high", math.nan),
        "retain": float(kept.get("retain", math.nan)),
        "steps": report["steps"],
        "steps_taken": report["steps_taken"],
        "tokens": report.get("ledger", {}).get("tokens", math.nan),
        "seconds": report["seconds"],
        "effective_samples": report["effective_samples"],
        "weight_on_mislabelled": report.get("weight_on_mislabelled", math.nan),
        "ended": ended,
        "collapsed": not ended.startswith(_NO_COLLAPSE),
    }


def bands(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean and 95 % interval over seeds: arm, k, value, metric, mean, low, high, n, collapsed."""
    found = []
    for (arm, k, value), group in rows.groupby(["arm", "k", "value"], dropna=False):
        shared = {"arm": arm, "k": k, "value": value, "collapsed": int(group["collapsed"].sum())}
        found += [
            shared | {"metric": metric, **asdict(over_seeds(group[metric].to_numpy()))}
            for metric in METRICS
        ]
    return pd.DataFrame(found)


def measured(table: pd.DataFrame) -> str:
    """What arms are compared in: the reward, or J where no reward was measured.

    Args:
        table: bands or differences: metric, mean.
    """
    known = set(table.loc[table["mean"].notna(), "metric"])
    return "objective" if "objective" in known and "reward" not in known else "reward"


def differences(rows: pd.DataFrame) -> pd.DataFrame:
    """Paired over seeds: ours, theirs, k, metric, mean, low, high, n, above (seeds above 0).

    An arm without K is compared with every K of the other.
    """
    plain, found = rows[rows["value"].isna()], []
    for ours, theirs in _COMPARED:
        a, b = plain[plain["arm"] == ours], plain[plain["arm"] == theirs]
        for k in sorted(b["k"].unique()):
            mine = a if ours == "u2a" else a[a["k"] == k]
            both = mine.merge(b[b["k"] == k], on="seed", suffixes=("", "_theirs"))
            for metric in METRICS:
                change = (both[metric] - both[f"{metric}_theirs"]).dropna()
                found.append(
                    {"ours": ours, "theirs": theirs, "k": k, "metric": metric}
                    | asdict(over_seeds(change.to_numpy()))
                    | {"above": int((change > 0).sum())}
                )
    return pd.DataFrame(found, columns=list(_DIFFERENCE))


def best_k(rows: pd.DataFrame, arm: str = "top_k") -> int | None:
    """K*: the K with the largest mean J on the preference prompts; never by the test reward."""
    own = rows[rows["arm"] == arm]
    if own.empty or own["objective"].isna().all():
        return None
    means = own.groupby("k")["objective"].mean()
    return int(means.index[int(np.nanargmax(means.to_numpy()))])


def behind(table: pd.DataFrame) -> list[str]:
    """Sentences on every comparison of rewards that U2A or Top-K loses, its interval off zero.

    Two seeds are no evidence: their interval is wide, or by chance of no width at all.
    """
    lost = table[(table["metric"] == "reward") & (table["high"] < 0) & (table["n"] > 2)]
    return [
        f"{row['ours']} is behind {row['theirs']}"
        + (f" (K = {row['k']})" if row["k"] else "")
        + f" in reward by {-row['mean']:.3f} [{-row['high']:.3f}, {-row['low']:.3f}] "
        f"(95 %, n = {row['n']} seeds)."
        for row in table.loc[lost.index].to_dict("records")
    ]


def gains_run(run: Run, seed: int) -> Run:
    """The run that scored the negatives at the original model, under a seed.

    Raises:
        RunError: if it is not finished.
    """
    found = Run(run.path / "arms" / f"gains-{seed}")
    if not found.finished:
        raise RunError(f"{found.path} must be finished; resume the ablation.")
    return found
