"""What an HTML report says of one run: its numbers, its pictures, its samples or replies."""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Any, TypeAlias

import pandas as pd

from u2a_core import figures, table
from u2a_core.errors import U2AError
from u2a_core.metrics import METRICS
from u2a_core.report.document import Texts, cells, columns, grid, listing, picture, quiet, text_cell
from u2a_core.report.html import ablation_pictures, reproduction
from u2a_core.report.words import COLOURS, word_diff
from u2a_core.runs import Run
from u2a_core.runs.files import whole

_SAMPLES = 10
"""Samples shown from each end of an order."""
_REPLIES = 20
_MARKS = COLOURS["light"]
_LEFT_OUT = "text left out"

Section: TypeAlias = Callable[[Run, dict[str, Any], Texts], list[str]]


def section(run: Run, name: str, texts: Texts) -> str:
    """One run; what is damaged of it is told, and hides nothing else.

    Args:
        run: finished.
        name: its heading, and the anchor's text.
        texts: what becomes of samples' texts.
    """
    parts = [f"<h2>{html.escape(name)}</h2>"]
    try:
        with whole(run.path):
            report, config = run.report(), run.config()
            kind = config["command"]
            parts.append(
                quiet(
                    f"u2a {kind}, begun {config.get('created', 'at an unknown time')}, "
                    f"{report.get('seconds', 0):.0f} s."
                )
            )
            parts += [quiet(f"{name} at commit {c}.") for name, c in run.commits().items()]
            parts += [_warning(text) for text in report.get("warnings", [])]
            parts += _KINDS.get(kind, _other)(run, report, texts)
            parts += listing("What the run notes", report.get("notes", []))
    except U2AError as error:
        parts.append(_warning(f"The rest of this run cannot be shown: {error}"))
    return "<section>" + "\n".join(parts) + "</section>"


def _warning(text: str) -> str:
    return f'<p class="warning">{html.escape(text)}</p>'


def _gains(run: Run, report: dict[str, Any], texts: Texts) -> list[str]:
    gains = run.table("gains")
    told = f"J = {_estimate(report['objective'])} (n = {report['objective']['n']} prompts). "
    told += f"{report['helps']} of {len(gains)} negatives help when unlearned (gain above 0)"
    if report["parts"] > 1:
        told += f"; the sign of {report['uncertain']} is uncertain (95 % interval holds 0)"
    hidden = gains if texts == "shown" else gains.assign(response=_LEFT_OUT)
    parts = [
        f"<p>{html.escape(told)}.</p>",
        columns(
            picture(figures.gain_histogram(gains, "light"), "Distribution of gains"),
            picture(figures.rank_plot(hidden, "light"), "Gain against rank"),
        ),
    ]
    for title, part in (
        ("Helps most when unlearned", gains.head(_SAMPLES)),
        ("Hurts most when unlearned, flagged by mistake?", gains.tail(_SAMPLES).iloc[::-1]),
    ):
        parts += [f"<h3>{title}</h3>", _samples(part, "gain", texts)]
    return parts


def _samples(part: pd.DataFrame, column: str, texts: Texts) -> str:
    """Samples with a number and its interval, where it has one."""
    bounds = {f"{column}_low", f"{column}_high"} <= set(part.columns)
    lines = []
    for row in part.to_dict("records"):
        number = f"{row[column]:+.3f}" if column == "gain" else f"{row[column]:.4f}"
        if bounds:
            number += f" [{row[f'{column}_low']:+.3f}, {row[f'{column}_high']:+.3f}]"
        asked, replied = (
            text_cell(html.escape(str(row[name])), texts) for name in ("prompt", "response")
        )
        lines.append(cells(row["id"], number) + asked + replied)
    title = {"gain": "gain Δg [95 %]" if bounds else "gain Δg", "weight": "weight ω"}[column]
    return grid(("sample", title, "prompt", "negative reply"), lines, texts=(2, 3))


def _impact(run: Run, report: dict[str, Any], texts: Texts) -> list[str]:
    del texts  # its tables hold numbers alone
    curves = run.table("curves")
    lines = []
    for name, found in report["estimators"].items():
        told = [_bounded(found, key) for key in ("spearman", "slope", "r2")]
        lines.append(cells(name, *told, found["n"]))
    return [
        f"<p>{report['samples']} samples, each unlearned alone; λ = {report['lam']:g}; J by "
        f"{html.escape(report['objective_kind'])}.</p>",
        grid(("estimator", "rank correlation ρ", "slope", "R²", "solved points"), lines),
        columns(
            picture(figures.impact_curves(curves, "light"), "Impact curves, with measurements"),
            picture(
                figures.calibration(curves, "light", estimator="linear"),
                "Measured against predicted impact",
            ),
        ),
    ]


def _bounded(found: dict[str, Any], key: str) -> str:
    if key not in found["intervals"]:
        return "–"
    low, high = found["intervals"][key]
    return f"{found[key]:.3f} [{low:.3f}, {high:.3f}]"


def _descent(run: Run, report: dict[str, Any], texts: Texts) -> list[str]:
    history = run.table("history")
    told = f"{table.label(run)}: {kept(report)}; ended: {report['ended']}."
    parts = [f"<p>{html.escape(told)}</p>", *_rewards(report)]
    parts.append(columns(*_curves(run, history)))
    if _weighted(run) and report["steps"]:
        top = run.table("weights").nlargest(_SAMPLES, "weight")
        parts += ["<h3>Largest weights</h3>", _samples(top, "weight", texts)]
    pairs = table.paired(None, run.table("generations"))
    return parts + replies(pairs, ("original", table.label(run)), texts)


def kept(report: dict[str, Any]) -> str:
    """Which step of a descent was kept, and how J rose to it."""
    objective, taken = report["objective"], report["steps_taken"]
    if not report["steps"]:
        return f"none of {taken} steps kept, as none raised J above {objective['before']:+.3f}"
    return (
        f"step {report['steps']} of {taken} kept, the largest J ({objective['before']:+.3f} → "
        f"{objective['after']:+.3f})"
    )


def _curves(run: Run, history: pd.DataFrame) -> list[str]:
    name = table.label(run).replace(" + ", "-")  # as the colours know it
    curves = figures.objective_curves({name: history}, "light")
    drawn = [picture(curves, "Objective J against inner steps, with its 95 % band")]
    losses = figures.loss_curves(history, "light")
    drawn.append(picture(losses, "Loss of the negatives and of the retain set"))
    if "effective_samples" in history:
        samples = figures.effective_samples(history, "light")
        drawn.append(picture(samples, "Effective number of samples"))
    if _weighted(run):
        path = figures.weight_path(run.table("weight_path"), "light")
        drawn.append(picture(path, "Path of the weights over the rounds"))
    return drawn


def _weighted(run: Run) -> bool:
    """Whether the run chose its weights itself."""
    return run.config()["command"] == "reweight" and run.has_table("weight_path")


def _rewards(report: dict[str, Any]) -> list[str]:
    """Reward on the test prompts before and after, and the paired difference."""
    units = {"before": "replies", "after": "replies", "difference": "prompts"}
    lines = [
        cells(name, _estimate(report["reward"][name]), f"{report['reward'][name]['n']} {unit}")
        for name, unit in units.items()
        if name in (report["reward"] or {})
    ]
    return [grid(("reward ↑", "mean [95 %]", "n"), lines)] if lines else []


def replies(pairs: pd.DataFrame, names: tuple[str, str], texts: Texts) -> list[str]:
    """The replies that changed most, side by side, word by word.

    Args:
        pairs: as `table.paired` makes them.
        names: of A and B.
        texts: what becomes of the texts.
    """
    if pairs.empty:
        return []
    changed = pairs[pairs["reply_a"] != pairs["reply_b"]]
    if changed.empty:
        return ["<h3>Replies</h3>", quiet(f"All {len(pairs)} replies are the same in both.")]
    order = changed["change"].abs().sort_values(ascending=False, kind="stable").index
    shown = changed.loc[order].drop_duplicates("prompt").head(_REPLIES)
    lines = []
    for row in shown.to_dict("records"):
        old, new = word_diff(str(row["reply_a"]), str(row["reply_b"]), _MARKS)
        texts_of_row = (html.escape(str(row["prompt"])), old, new)
        reward = (
            "–" if pd.isna(row["change"]) else f"{row['reward_a']:+.2f} → {row['reward_b']:+.2f}"
        )
        lines.append("".join(text_cell(text, texts) for text in texts_of_row) + cells(reward))
    told = f"{len(changed)} of {len(pairs)} replies differ; shown: {len(shown)}, one a prompt, the "
    return [
        "<h3>Replies</h3>",
        quiet(f"{told}largest change of reward first. Struck: removed; underlined: added."),
        grid(("prompt", *names, "reward ↑"), lines, texts=(0, 1, 2)),
    ]


def _ablate(run: Run, report: dict[str, Any], texts: Texts) -> list[str]:
    del texts
    told = f"{report['arms']} runs over {report['seeds']} seeds on {report['negatives']} negatives."
    return [f"<p>{html.escape(report['method'])}: {told}</p>", *ablation_pictures(run, notes=False)]


def _evaluate(run: Run, report: dict[str, Any], texts: Texts) -> list[str]:
    del run, texts
    lines = [
        cells(table.heading(name), table.cell(found, name), f"{found['n_valid']} of {found['n']}")
        for name, found in report["metrics"].items()
    ]
    missing = [f"{METRICS[name].title}: {why}" for name, why in report["missing"].items()]
    return [
        f"<p>Of {html.escape(str(report['target']))}.</p>",
        grid(("metric", "mean [95 %]", "valid of n"), lines),
        *listing("Not measured", missing),
    ]


def _reproduce(run: Run, report: dict[str, Any], texts: Texts) -> list[str]:
    del texts
    told = {**report, "notes": []}  # a section tells those of every run
    return reproduction(told, Run(run.path / "ablation"))


def _other(run: Run, report: dict[str, Any], texts: Texts) -> list[str]:
    del run, texts
    return [quiet(f"A report of u2a {report['command']} has no pictures of its own.")]


def _estimate(found: dict[str, Any]) -> str:
    return table.cell(found) if "low" in found else f"{found['mean']:+.3f}"


_KINDS: dict[str, Section] = {
    "gains": _gains,
    "impact": _impact,
    "reweight": _descent,
    "unlearn": _descent,
    "baseline": _descent,
    "ablate": _ablate,
    "evaluate": _evaluate,
    "reproduce": _reproduce,
}
