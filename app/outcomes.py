"""What came out of a run, in a line: each number with its n and its interval."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from app import parts, runview, stages
from u2a_core import table
from u2a_core.report.sections import kept
from u2a_core.runs import Run


def told(run: Run) -> str:
    """What came out, or how far it is, in a few words."""
    status = run.status()
    if status.state in ("running", "stopping"):
        return parts.plain(stages.told(run))
    if status.state == "queued":
        return parts.plain(runview.in_line(run))
    if status.state != "finished":
        return parts.plain(status.message[:160])
    report = run.report()
    found = _TOLD.get(report["command"])
    return found(report) if found else _rewarded(report)


def _rewarded(report: dict[str, Any]) -> str:
    """The reward of an unlearned or trained model; without one, how J rose."""
    reward = (report.get("reward") or {}).get("after")
    if reward is None:
        return kept(report) if "objective" in report else ""
    return f"reward ↑ {reward['mean']:+.3f} {table.bounds(reward)} (95 %, n = {reward['n']})"


def _gained(report: dict[str, Any]) -> str:
    return f"{report['helps']} of {report['data']['negatives']} samples help when unlearned"


def _reproduced(report: dict[str, Any]) -> str:
    return f"{report['task']}, {report['scale']} scale: {len(report['rows'])} methods measured"


def _ablated(report: dict[str, Any]) -> str:
    """Top-K against Random-K, at K*."""
    said = f"{report['arms']} runs, {report['seeds']} seed{'s' * (report['seeds'] > 1)}"
    for row in report["differences"]:
        wanted = row["ours"] == "top_k" and row["theirs"] == "random_k"
        if wanted and row["k"] == report["best_k"] and row["low"] is not None:
            return (
                f"{said}; Top-K minus Random-K at K = {row['k']}: {row['mean']:+.3f} "
                f"[{row['low']:+.3f}, {row['high']:+.3f}] (95 %)"
            )
    return said


def _evaluated(report: dict[str, Any]) -> str:
    """The first metric, and how many there are."""
    target = parts.plain(Path(report["target"]).name)
    for name, found in report["metrics"].items():
        if found["mean"] is not None and found["low"] is not None:
            return (
                f"{target}: {table.heading(name)} {table.cell(found, name)} "
                f"(95 %, n = {found['n']}); "
                f"{len(report['metrics'])} metrics"
            )
    return f"{target}: {len(report['metrics'])} metrics"


def _agreement(report: dict[str, Any]) -> str:
    """How well an impact run's predictions met its measurements, at the smallest weight."""
    found = report["per_omega"][0]["estimators"]["linear"]
    bounds = found["intervals"].get("spearman")
    if bounds is None:
        return f"impact of {report['samples']} samples"
    return (
        f"predicted vs measured ρ = {found['spearman']:.3f} "
        f"[{bounds[0]:.3f}, {bounds[1]:.3f}] (95 %, n = {found['n']})"
    )


_TOLD: dict[str, Callable[[dict[str, Any]], str]] = {
    "gains": _gained,
    "impact": _agreement,
    "ablate": _ablated,
    "evaluate": _evaluated,
    "reproduce": _reproduced,
}
