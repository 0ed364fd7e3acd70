"""Rows in the forms that people paste elsewhere: cells, CSV, JSON, Markdown, LaTeX."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd

from u2a_core.metrics import METRICS
from u2a_core.table.rows import LEDGER, Row

_ARROWS = {"up": "↑", "down": "↓", "": ""}


def shown_metrics(table: Sequence[Row]) -> list[str]:
    """The metrics that any row has, in the order of METRICS."""
    return [metric for metric in METRICS if any(metric in row.metrics for row in table)]


def best(table: Sequence[Row]) -> set[tuple[str, str]]:
    """(method, metric) of the best mean of every metric; ties share it, but not all of them."""
    found = set()
    for metric in shown_metrics(table):
        if not METRICS[metric].direction:
            continue
        means = {row.method: row.metrics[metric]["mean"] for row in table if metric in row.metrics}
        choose = max if METRICS[metric].direction == "up" else min
        goal = choose(means.values())
        if len(means) > 1 and len(set(means.values())) == 1:
            continue  # all alike: none is the best
        found |= {(method, metric) for method, mean in means.items() if mean == goal}
    return found


def as_json(table: Sequence[Row]) -> dict[str, Any]:
    """{"rows": [{method, metrics: {name: {mean, low, high, n}}, ledger, runs, over}]}."""
    return {"rows": [asdict(row) | {"over": row.over} for row in table]}


def frame(table: Sequence[Row]) -> pd.DataFrame:
    """One line a method: mean, low, high and n of every metric, and what it cost."""
    lines = []
    for row in table:
        line: dict[str, Any] = {"method": row.method, "runs": row.runs, "interval_over": row.over}
        for metric in shown_metrics(table):
            figures = row.metrics.get(metric, {})
            keys = {"": "mean", "_low": "low", "_high": "high", "_n": "n"}
            line |= {f"{metric}{end}": figures.get(key) for end, key in keys.items()}
        lines.append(line | {key: row.ledger.get(key) for key in LEDGER})
    return pd.DataFrame(lines)


def cell(figures: dict[str, Any] | None, metric: str = "reward") -> str:
    """`+0.475 [+0.390, +0.560]`; a dash where there is none; a sign where a metric can be < 0."""
    if not figures or figures["mean"] is None:
        return "–"
    sign = "+" if METRICS[metric].unit == "reward" else ""
    mean, low, high = (
        "" if value is None else f"{value:{sign}.3f}"
        for value in (figures["mean"], figures["low"], figures["high"])
    )
    return f"{mean} [{low}, {high}]" if low else mean


def heading(metric: str) -> str:
    """`Reward-V ↑`."""
    known = METRICS[metric]
    return f"{known.title} {_ARROWS[known.direction]}".strip()


def amount(value: float | None) -> str:
    """A count for a narrow column: 940, 12.3 k, 4.56 M."""
    if value is None:
        return "–"
    for limit, unit in ((1e9, " G"), (1e6, " M"), (1e4, " k")):
        if abs(value) >= limit:
            return f"{value / (1e3 if unit == ' k' else limit):.3g}{unit}"
    return f"{value:.0f}"


def lines(table: Sequence[Row], bold: str = "{}") -> tuple[list[str], list[list[str]]]:
    """Headings, and one list of cells a row: method, metrics (the best through `bold`), cost."""
    metrics, top = shown_metrics(table), best(table)
    head = ["method", *map(heading, metrics), "tokens", "seconds"]
    body = []
    for row in table:
        cells = [cell(row.metrics.get(metric), metric) for metric in metrics]
        marked = [
            bold.format(text) if (row.method, metric) in top else text
            for metric, text in zip(metrics, cells, strict=True)
        ]
        costs = [amount(row.ledger.get("tokens")), amount(row.ledger.get("seconds"))]
        body.append([row.method, *marked, *costs])
    return head, body


def markdown(table: Sequence[Row]) -> str:
    """A Markdown table, the best of each metric in bold."""
    head, body = lines(table, "**{}**")
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, rule, *body)) + "\n"


def latex(table: Sequence[Row]) -> str:
    """A booktabs table: mean ± half of the interval, the best of each metric in bold."""
    metrics, top = shown_metrics(table), best(table)
    arrows = {"up": r" $\uparrow$", "down": r" $\downarrow$", "": ""}
    titles = [_tex(METRICS[m].title) + arrows[METRICS[m].direction] for m in metrics]
    out = [
        r"\begin{tabular}{l" + "r" * (len(metrics) + 2) + "}",
        r"\toprule",
        " & ".join(["Method", *titles, "Tokens", "Seconds"]) + r" \\",
        r"\midrule",
    ]
    for row in table:
        cells = [_tex(row.method)]
        for metric in metrics:
            text = _tex_cell(row.metrics.get(metric), metric)
            cells.append(rf"\textbf{{{text}}}" if (row.method, metric) in top else text)
        costs = [amount(row.ledger.get(key)).replace("–", "--") for key in ("tokens", "seconds")]
        out.append(" & ".join([*cells, *costs]) + r" \\")
    return "\n".join([*out, r"\bottomrule", r"\end{tabular}"]) + "\n"


def _tex_cell(figures: dict[str, Any] | None, metric: str) -> str:
    if not figures or figures["mean"] is None:
        return "--"
    sign = "+" if METRICS[metric].unit == "reward" else ""
    if figures["low"] is None:
        return f"${figures['mean']:{sign}.3f}$"
    half = (figures["high"] - figures["low"]) / 2
    return rf"${figures['mean']:{sign}.3f} \pm {half:.3f}$"


def _tex(text: str) -> str:
    """A text as LaTeX shows it."""
    special = {c: "\\" + c for c in "&%$#_{}"} | {"\\": r"\textbackslash{}", "≥": r"$\geq$"}
    special |= {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    return "".join(special.get(c, c) for c in text)
