"""A report as one HTML file: tables and live figures, opened from disk, without a server.

Nothing is fetched from outside; texts of the user's are escaped.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from u2a_core import figures, table
from u2a_core.data import replace_file
from u2a_core.metrics import METRICS
from u2a_core.table import Row

if TYPE_CHECKING:
    from u2a_core.runs import Run

_STYLE = """
body{font:15px/1.5 'Source Sans 3','Source Sans Pro',system-ui,sans-serif;color:#2f2d2b;
background:#fff;max-width:1180px;margin:2rem auto;padding:0 1.2rem}
h1{font-size:1.7rem;margin:0 0 .3rem}h2{font-size:1.2rem;margin:2.2rem 0 .5rem}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:13px}
th,td{padding:.32rem .6rem;border-bottom:1px solid #E6E4E0;text-align:right;white-space:nowrap}
th:first-child,td:first-child{text-align:left}th{border-bottom:2px solid #8A8580}
.wide{overflow-x:auto}.quiet{color:#6B6B6B}li{margin:.2rem 0}
"""


def write_html(path: Path, title: str, report: dict[str, Any], ablation: Run | None = None) -> None:
    """The report of a table or of a reproduction.

    Args:
        path: of the file.
        title: its heading.
        report: rows as `table.as_json` has them; differences, missing, notes, paper where known.
        ablation: a finished ablation to show, too.
    """
    rows = [Row(r["method"], r["metrics"], r["ledger"], r["runs"]) for r in report["rows"]]
    parts = [f"<h1>{html.escape(title)}</h1>", _facts(report)]
    parts += ["<h2>Methods</h2>", _table(rows), _definitions(rows, report.get("missing", {}))]
    parts += _list("Comparisons that U2A does not win", report.get("notes", []))
    if report.get("differences"):
        parts += ["<h2>Paired differences in reward</h2>", _differences(report["differences"])]
    for cost in ("tokens", "seconds"):
        picture = figures.cost_against_reward(report["rows"], "light", cost=cost)
        parts += [f"<h2>Reward against {cost}</h2>", _figure(picture)]
    if report.get("paper"):
        parts.append(_paper(report["paper"]))
    if ablation is not None:
        parts += _ablation(ablation)
    body = "\n".join(parts)
    page = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}'
        f"</title><style>{_STYLE}</style><script>{get_plotlyjs()}</script></head>"
        f"<body>{body}</body></html>\n"
    )
    replace_file(path, lambda beside: beside.write_text(page, encoding="utf-8"))


def _facts(report: dict[str, Any]) -> str:
    """What was run, in a line."""
    if "task" not in report:
        return ""
    return (
        f'<p class="quiet">{html.escape(report["task"])}, {html.escape(report["scale"])} scale, '
        f"seed {report['seed']}; {report['seconds'] / 60:.1f} minutes in all.</p>"
    )


def _table(rows: Sequence[Row]) -> str:
    """The results table; the best of each metric in bold."""
    head, body = table.lines(rows, "\0{}\1")  # marks that no text holds, made tags once escaped
    lines = ["".join(f"<td>{_marked(cell)}</td>" for cell in row) for row in body]
    return _grid(head, lines)


def _marked(text: str) -> str:
    return html.escape(text).replace("\0", "<b>").replace("\1", "</b>")


def _grid(head: Sequence[str], lines: Sequence[str]) -> str:
    titles = "".join(f"<th>{html.escape(name)}</th>" for name in head)
    rows = "".join(f"<tr>{line}</tr>" for line in lines)
    return f'<div class="wide"><table><tr>{titles}</tr>{rows}</table></div>'


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


def _list(title: str, sentences: Sequence[str]) -> list[str]:
    if not sentences:
        return []
    items = "".join(f"<li>{html.escape(text)}</li>" for text in sentences)
    return [f"<h2>{html.escape(title)}</h2>", f"<ul>{items}</ul>"]


def _differences(found: Sequence[dict[str, Any]]) -> str:
    lines = [
        f"<td>{html.escape(row['ours'])}</td><td>{html.escape(row['theirs'])}</td>"
        f"<td>{table.cell(row)}</td><td>{row['n']}</td>"
        for row in found
    ]
    return _grid(("ours", "theirs", "ours − theirs", "prompts"), lines)


def _paper(paper: dict[str, Any]) -> str:
    lines = [
        f"<td>{html.escape(method)}</td>" + "".join(f"<td>{value:g}</td>" for value in values)
        for method, values in paper["rows"].items()
    ]
    grid = _grid(("method", *paper["titles"]), lines)
    return f"<h2>The paper's figures ({html.escape(paper['source'])})</h2>{grid}"


def _ablation(run: Run) -> list[str]:
    report = run.report()
    bands, differences = run.table("bands"), run.table("differences")
    out = [
        f"<h2>Ablation: which negatives, and how many ({html.escape(report['method'])}, "
        f"{report['seeds']} seeds)</h2>",
        _figure(figures.ablation_curves(bands, "light")),
    ]
    if not differences[differences["theirs"] == "random_k"].empty:
        out.append(_figure(figures.paired_differences(differences, "light")))
    return [*out, *_list("What the ablation notes", report["notes"])]


def _figure(figure: go.Figure) -> str:
    """A live figure; plotly's code stands in the page's head once."""
    return str(
        figure.to_html(full_html=False, include_plotlyjs=False, config={"displaylogo": False})
    )
