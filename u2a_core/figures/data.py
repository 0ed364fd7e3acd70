"""Figures of the data: how large the sets are and what of them is usable, how long their texts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from u2a_core.figures.style import HELPS, HURTS, Mode, frame, literal

_ROW, _AROUND = 38, 110
_MOST_BINS = 40
_REPEATED = {"light": "#8A8580", "dark": "#A8A29C"}
_LEFT_OUT = {"light": "#C9C4BD", "dark": "#6B6660"}
_PARTS = {
    "used": "used",
    "repeated": "exact duplicates",
    "left_out": "left out by the format's rule",
    "faulty": "faulty",
}


def set_sizes(table: pd.DataFrame, mode: Mode, *, unread: bool = False) -> go.Figure:
    """A bar for each set, split into what is used, repeated, left out and faulty.

    Args:
        table: columns name, used, repeated, left_out, faulty (counts of records), in the
            order of the bars.
        mode: light or dark.
        unread: whether there are sets that cannot be read, and so have no bar.
    """
    total = table[list(_PARTS)].sum(axis=1)
    figure = frame(
        mode,
        title=_sizes_title(table, unread=unread),
        x="records",
        y="",
        height=_AROUND + _ROW * len(table),
    )
    colours = (HELPS[mode], _REPEATED[mode], _LEFT_OUT[mode], HURTS[mode])
    names = [literal(name) for name in table["name"]]
    for (column, title), colour in zip(_PARTS.items(), colours, strict=True):
        if table[column].any():
            figure.add_bar(
                y=names,
                x=table[column],
                name=title,
                orientation="h",
                marker_color=colour,
                hovertemplate=f"%{{y}}<br>%{{x:,}} {title}<extra></extra>",
            )
    for name, used, found in zip(names, table["used"], total, strict=True):
        figure.add_annotation(
            x=found, y=name, text=f"{used:,}", xanchor="left", showarrow=False, xshift=4
        )
    top, lost = float(total.max()) * 1.12 or 1.0, len(figure.data) > 1
    return figure.update_layout(
        barmode="stack",
        bargap=0.35,
        showlegend=lost,
        legend={"traceorder": "normal"},
        margin={"t": 66 if lost else 40},
        xaxis={"range": [0, top], "rangemode": "tozero"},
        yaxis={"autorange": "reversed", "ticks": "", "showgrid": False},
    )


def length_histogram(lengths: Sequence[int], mode: Mode, *, what: str) -> go.Figure:
    """How many texts have which length; the last bar holds what lies beyond the 99th percentile.

    Args:
        lengths: in characters.
        mode: light or dark.
        what: what the texts are, in the plural.
    """
    values = np.asarray(lengths)
    end = max(float(np.quantile(values, 0.99)), float(values.min()) + 1)
    if values.max() <= 2 * end:  # nothing lies far beyond
        end = float(max(values.max(), values.min() + 1))
    # whole characters a bar, so that no bar is empty because it holds no whole number
    width = max(1, int(np.ceil((end - values.min()) / min(_MOST_BINS, len(values)))))
    edges = np.arange(int(values.min()), int(end) + width + 1, width)
    beyond = int((values > edges[-1]).sum())
    counts, _ = np.histogram(values.clip(max=edges[-1]), edges)
    figure = frame(
        mode,
        title=f"Half of the {what} have at most {np.median(values):,.0f} characters",
        x=f"characters{f' (the last bar holds {beyond:,} longer)' if beyond else ''}",
        y=what,
        height=300,
    )
    figure.add_bar(
        x=edges[:-1] + width / 2,
        y=counts,
        width=width * 0.94,
        marker_color=HELPS[mode],
        customdata=np.column_stack([edges[:-1], edges[1:]]),
        hovertemplate=f"%{{y:,}} {what}<br>%{{customdata[0]:,}} to %{{customdata[1]:,}} characters"
        "<extra></extra>",
    )
    return figure.update_layout(margin={"t": 44}, yaxis={"rangemode": "tozero"})


def _sizes_title(table: pd.DataFrame, *, unread: bool) -> str:
    used = int(table["used"].sum())
    lost = int(table[list(_PARTS)].to_numpy().sum()) - used
    rest = (
        f", {lost:,} {'is' if lost == 1 else 'are'} not"
        if lost
        else ""
        if unread
        else ", none is lost"
    )
    return f"{used:,} records are used{rest}{' of the sets that can be read' if unread else ''}"
