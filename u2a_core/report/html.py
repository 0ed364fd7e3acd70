"""The HTML report of a results table or a reproduction: methods, differences, costs, ablation."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from u2a_core import ablation as ablations
from u2a_core import figures, table
from u2a_core.metrics import METRICS
from u2a_core.report.document import cells, grid, listing, picture, quiet
from u2a_core.table import Row

if TYPE_CHECKING:
    from u2a_core.runs import Run


def reproduction(report: dict[str, Any], ablation: Run) -> list[str]:
    """What was run, its results, and its ablation.

    Args:
        report: of `u2a reproduce`.
        ablation: the finished run inside it.
    """
    told = ablation.report()
    title = f"Ablation: which negatives, and how many ({told['method']}, {told['seeds']} seeds)"
    pictures = [f"<h2>{html.escape(title)}</h2>", *ablation_pictures(ablation)]
    return [_facts(report), *results(report), *pictures]


def results(report: dict[str, Any]) -> list[str]:
    """Methods by metrics, paired differences, reward against cost.

    Args:
        report: rows as `table.as_json` has them; differences, missing, notes, left_out, overlaps,
            paper where known.
    """
    rows = [Row(r["method"], r["metrics"], r["ledger"], r["runs"]) for r in report["rows"]]
    parts = ["<h2>Methods</h2>", _table(rows), _definitions(rows, report.get("missing", {}))]
    parts += [quiet(note) for note in report.get("left_out", [])]
    parts += listing("Comparisons that U2A does not win", report.get("notes", []))
    parts += listing("What sets share that should be apart", report.get("overlaps", []))
    if report.get("differences"):
        parts += ["<h2>Paired differences in reward</h2>", _differences(report["differences"])]
    for cost in ("tokens", "seconds"):
        if any(row.ledger.get(cost) for row in rows):
            drawn = figures.cost_against_reward(report["rows"], "light", cost=cost)
            alt = f"Reward of every method against its {cost}, with 95 % intervals"
            parts += [f"<h2>Reward against {cost}</h2>", picture(drawn, alt)]
    return parts + ([_paper(report["paper"])] if report.get("paper") else [])


def _facts(report: dict[str, Any]) -> str:
    """What was run, in a line."""
    return quiet(
        f"{report['task']}, {report['scale']} scale, seed {report['seed']}; "
        f"{report['seconds'] / 60:.1f} minutes in all."
    )


def _table(rows: Sequence[Row]) -> str:
    """The results table; the best of each metric in bold."""
    head, body = table.lines(rows, "\0{}\1")  # marks that no text holds, made tags once escaped
    lines = ["".join(f"<td>{_marked(cell)}</td>" for cell in row) for row in body]
    return grid(head, lines)


def _marked(text: str) -> str:
    return html.escape(text).replace("\0", "<b>").replace("\1", "</b>")


def _definitions(rows: Sequence[Row], missing: dict[str, str]) -> str:
    """What the columns mean, over what the intervals are, and what was not measured."""
    known = METRICS
    told = [
        f"<li><b>{html.escape(table.heading(metric))}</b> {html.escape(known[metric].formula)} "
        f"{_sizes(rows, metric)}</li>"
        for metric in table.shown_metrics(rows)
    ]
    told += [
        f"<li><b>{html.escape(known[name].title)}</b> not measured: {html.escape(why)}</li>"
        for name, why in missing.items()
        if name in known
    ]
    over = sorted({row.over for row in rows})
    return (
        f'<p class="quiet">Mean and 95 % interval over {" or ".join(over)}; the best mean in bold. '
        f"Tokens: positions through the model while it was trained, sampled ones included.</p>"
        f'<ul class="quiet">{"".join(told)}</ul>'
    )


def _sizes(rows: Sequence[Row], metric: str) -> str:
    sizes = sorted({row.metrics[metric]["n"] for row in rows if metric in row.metrics})
    return f"(n = {', '.join(map(str, sizes))})" if sizes else ""


def _differences(found: Sequence[dict[str, Any]]) -> str:
    lines = [cells(row["ours"], row["theirs"], table.cell(row), row["n"]) for row in found]
    return grid(("ours", "theirs", "ours − theirs", "prompts"), lines)


def _paper(paper: dict[str, Any]) -> str:
    lines = [
        cells(method, *(f"{value:g}" for value in values))
        for method, values in paper["rows"].items()
    ]
    shown = grid(("method", *paper["titles"]), lines)
    return f"<h2>The paper's figures ({html.escape(paper['source'])})</h2>{shown}"


def ablation_pictures(run: Run, *, notes: bool = True) -> list[str]:
    """Curves over K and the paired difference from random, from an ablation's tables."""
    bands, differences = run.table("bands"), run.table("differences")
    metric = ablations.measured(bands)
    curves = figures.ablation_curves(bands, "light", metric=metric)
    out = [picture(curves, f"The {metric} against K, one line an arm")]
    if metric == "reward" and not differences[differences["theirs"] == "random_k"].empty:
        drawn = figures.paired_differences(differences, "light")
        out.append(picture(drawn, "Paired difference in reward against K"))
    return [*out, *(listing("What the ablation notes", run.report()["notes"]) if notes else [])]
