"""Two runs side by side: replies to the same prompts, settings, rewards that can be ranked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from u2a_core.runs import Run

_KEYS = ["prompt_index", "sample", "prompt"]


def paired(theirs: pd.DataFrame | None, ours: pd.DataFrame) -> pd.DataFrame:
    """Replies of A and B to the same prompt and draw, in the order of the prompts.

    Columns: prompt_index, sample, prompt, reply_a, reward_a, reply_b, reward_b, change (B − A).

    Args:
        theirs: generations of A's run; None for the original model.
        ours: generations of B's run.
    """
    side, source = ("before", ours) if theirs is None else ("after", theirs)
    if ours.empty or source.empty:
        return pd.DataFrame()
    both = _of(source, side, "a").merge(_of(ours, "after", "b"), on=_KEYS)
    both["change"] = both["reward_b"] - both["reward_a"]
    return both.sort_values(["prompt_index", "sample"], kind="stable", ignore_index=True)


def _of(table: pd.DataFrame, side: str, name: str) -> pd.DataFrame:
    names = {f"reply_{side}": f"reply_{name}", f"reward_{side}": f"reward_{name}"}
    return table[[*_KEYS, *names]].rename(columns=names)


def settings_table(runs: Mapping[str, Run]) -> pd.DataFrame:
    """Every setting, file hash and package version, a row each; a column a run, empty: has none.

    Args:
        runs: name → run.

    Raises:
        RunError: if a run's config.json is damaged.
    """
    columns = {name: _facts(run) for name, run in runs.items()}
    keys = list(dict.fromkeys(key for facts in columns.values() for key in facts))
    cells = {name: [facts.get(key, "") for key in keys] for name, facts in columns.items()}
    return pd.DataFrame({"setting": keys, **cells})


def differing(settings: pd.DataFrame) -> pd.DataFrame:
    """The rows in which the runs differ."""
    return settings[settings.drop(columns="setting").nunique(axis=1) > 1]


def _facts(run: Run) -> dict[str, str]:
    config, settings = run.config(), run.settings().model_dump(mode="json")
    found = {"command": str(config["command"])}
    for section, values in settings.items():
        inner = values.items() if isinstance(values, dict) else [("", values)]
        found |= {f"{section}.{name}".rstrip("."): _written(value) for name, value in inner}
    for name, digest in config["sha256"].items():
        found[f"content of {name} (sha256)"] = str(digest)[:12]
    found |= {f"commit of {name}": commit[:12] for name, commit in run.commits().items()}
    found["code of u2a_core (sha256)"] = str(config.get("code_sha256", ""))[:12]
    packages = config.get("packages")
    if isinstance(packages, dict):  # changed by hand, or of another version
        found |= {f"version of {name}": str(value) for name, value in packages.items()}
    return found


def _written(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def measured_alike(reports: Mapping[str, dict[str, Any]], chosen: str) -> dict[str, dict[str, Any]]:
    """The runs that were measured as the chosen one was.

    Their original models got the same reward on the same draws: same model, prompts and reward.
    """
    original = (reports.get(chosen, {}).get("reward") or {}).get("before")
    return {
        name: report
        for name, report in reports.items()
        if original is not None and (report.get("reward") or {}).get("before") == original
    }


def rewards_table(reports: Mapping[str, dict[str, Any]]) -> pd.DataFrame:
    """One row a run and one for their original model, by falling reward on the test prompts.

    Args:
        reports: run → its report, runs that were measured alike.
    """
    rows: list[dict[str, Any]] = []
    for name, report in reports.items():
        facts = {key: report.get(key) for key in ("steps", "effective_samples", "seconds")}
        rows.append(
            {"name": name, "look": _look(name, report), **report["reward"]["after"], **facts}
        )
        original = {"name": "original", "look": "original", **report["reward"]["before"]}
    rows += [original] if rows else []
    table = pd.DataFrame(rows)
    return table if table.empty else table.sort_values("mean", ascending=False, ignore_index=True)


def _look(name: str, report: dict[str, Any]) -> str:
    """By what a picture chooses a run's mark: its method, whatever the run is called."""
    ours = report.get("command") == "reweight" or "u2a" in name
    return f"{report.get('method') or name}{'-u2a' if ours else ''}"


def drawn_alike(a: Run | None, b: Run) -> tuple[str, str]:
    """How the replies were sampled, and a warning where A and B were not sampled alike."""
    drawn, longest = [], []
    for run in (b, a):
        if run is not None:
            settings = run.settings()
            drawn.append((settings.objective.temperature, settings.seed))
            longest.append(settings.objective.max_new_tokens)
    told = f"Sampled at temperature {drawn[0][0]:g} with seed {drawn[0][1]}"
    cut = ""
    if len(set(longest)) > 1:
        cut = f"A's replies end at {longest[1]} tokens and B's at {longest[0]}"
    if len(set(drawn)) == 1:
        part = f"{cut}, so part of the difference is their length's." if cut else ""
        return f"{told}, the same for both.", part
    also = f" {cut}." if cut else ""
    return f"{told} (B).", (
        f"A was sampled at temperature {drawn[1][0]:g} with seed {drawn[1][1]}, so part of the "
        f"difference is the draw's.{also}"
    )
