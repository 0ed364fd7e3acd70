"""One HTML file: its frame, tables and live figures. Opened from disk, it asks for nothing outside.

What is given as a text is escaped; what is given as HTML was made here.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeAlias

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from u2a_core.data import replace_file
from u2a_core.runs.files import writing

Texts: TypeAlias = Literal["shown", "blurred", "omitted"]
"""What becomes of samples' texts: blurred ones are read by a click, omitted ones not at all."""

_STYLE = """
body{font:15px/1.5 'Source Sans 3','Source Sans Pro',system-ui,sans-serif;color:#2f2d2b;
background:#fff;max-width:1180px;margin:2rem auto;padding:0 1.2rem;overflow-wrap:anywhere}
h1{font-size:1.7rem;margin:0 0 .3rem}h2{font-size:1.2rem;margin:2.2rem 0 .5rem}
h3{font-size:1rem;margin:1.4rem 0 .4rem}section{border-top:1px solid #E6E4E0;margin-top:2.4rem}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:13px}
th,td{padding:.32rem .6rem;border-bottom:1px solid #E6E4E0;text-align:right;white-space:nowrap}
th:first-child,td:first-child{text-align:left}th{border-bottom:2px solid #8A8580}
td.text,th.text{text-align:left;white-space:pre-wrap;overflow-wrap:anywhere;vertical-align:top}
td.text{min-width:14rem;max-width:34rem}
.wide{overflow-x:auto}.quiet{color:#6B6B6B}li{margin:.2rem 0}figure{margin:.6rem 0}a{color:#0067A3}
del{text-decoration:line-through}ins{text-decoration:underline}summary{cursor:pointer}
.warning{border-left:4px solid #D55E00;padding:.2rem .8rem;background:#FBF1EA}
.blur{filter:blur(7px);cursor:pointer;user-select:none}
.blur:focus{filter:none;cursor:auto;user-select:text;outline:none}
.columns{display:grid;grid-template-columns:repeat(auto-fit,minmax(480px,1fr));gap:0 1.5rem}
figure{min-width:0}
@media print{.js-plotly-plot{break-inside:avoid}}
"""


_FITTED = 'addEventListener("load", () => dispatchEvent(new Event("resize")))'
"""A figure is drawn before those that will stand beside it: at the end each takes its own width."""


def write_document(path: Path, title: str, parts: Sequence[str]) -> None:
    """The file as a whole, or the one before.

    Args:
        path: of the file.
        title: its heading.
        parts: HTML.

    Raises:
        RunError: if it cannot be written.
    """
    with writing(path):
        replace_file(path, lambda beside: beside.write_text(document(title, parts), "utf-8"))


def document(title: str, parts: Sequence[str]) -> str:
    """The file's content; plotly's code stands in its head once."""
    shown = html.escape(title)
    body = "\n".join([f"<h1>{shown}</h1>", *parts])
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">'
        f"<title>{shown}</title><style>{_STYLE}</style><script>{get_plotlyjs()}</script></head>"
        f"<body>{body}<script>{_FITTED}</script></body></html>\n"
    )


def grid(head: Sequence[str], lines: Sequence[str], *, texts: Sequence[int] = ()) -> str:
    """A table.

    Args:
        head: titles.
        lines: of `<td>…</td>`, HTML.
        texts: which columns hold texts, set to the left.
    """
    titles = "".join(
        f'<th class="text">{html.escape(name)}</th>' if place in texts else
        f"<th>{html.escape(name)}</th>"
        for place, name in enumerate(head)
    )  # fmt: skip
    rows = "".join(f"<tr>{line}</tr>" for line in lines)
    return f'<div class="wide"><table><tr>{titles}</tr>{rows}</table></div>'


def cells(*values: object) -> str:
    """Cells of one line, escaped."""
    return "".join(f"<td>{html.escape(str(value))}</td>" for value in values)


def text_cell(safe: str, texts: Texts) -> str:
    """A cell with a sample's text.

    Args:
        safe: HTML, escaped.
        texts: what becomes of it.
    """
    if texts == "omitted":
        return '<td class="text quiet">left out</td>'
    if texts == "blurred":
        safe = f'<div class="blur" tabindex="0" title="Click to read">{safe}</div>'
    return f'<td class="text">{safe}</td>'


def listing(title: str, sentences: Sequence[str]) -> list[str]:
    """Sentences under a heading; nothing where there are none."""
    if not sentences:
        return []
    items = "".join(f"<li>{html.escape(text)}</li>" for text in sentences)
    return [f"<h3>{html.escape(title)}</h3>", f"<ul>{items}</ul>"]


def quiet(text: str) -> str:
    """A line of lesser weight."""
    return f'<p class="quiet">{html.escape(text)}</p>'


def picture(figure: go.Figure, alt: str) -> str:
    """A live figure."""
    live = figure.to_html(
        full_html=False, include_plotlyjs=False, config={"displaylogo": False, "responsive": True}
    )
    return f'<figure role="group" aria-label="{html.escape(alt)}">{live}</figure>'


def columns(*pictures: str) -> str:
    """Pictures beside each other, where the window is wide enough."""
    return f'<div class="columns">{"".join(pictures)}</div>'
