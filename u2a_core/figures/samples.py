"""Figures of samples: how their gains are distributed, and in which order they stand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from u2a_core.figures.style import HELPS, HURTS, Mode, frame, literal

_MOST_SVG = 2_000
_BINS = 41


def gain_histogram(gains: pd.Series, mode: Mode) -> go.Figure:
    """How many samples have which gain, in bins symmetric about 0; the ends hold what lies beyond.

    Args:
        gains: Δg of each sample, in units of J per unit weight.
        mode: light or dark.
    """
    half = float(np.quantile(gains.abs(), 0.99)) or 1.0
    edges = np.linspace(-half, half, _BINS + 1)
    centres = (edges[:-1] + edges[1:]) / 2
    values = gains.clip(-half, half)
    figure = frame(
        mode,
        title=f"{_share(gains)} help when unlearned",
        x="gain Δg (J per unit weight) → helps",
        y="samples",
    )
    # a bin that holds 0 is split by sign, so that the colours count what the title counts
    for name, chosen, colour in (
        ("hurts", values <= 0, HURTS[mode]),
        ("helps", values > 0, HELPS[mode]),
    ):
        counts, _ = np.histogram(values[chosen], edges)
        figure.add_bar(
            x=centres,
            y=counts,
            name=name,
            marker_color=colour,
            hovertemplate=f"%{{y}} samples<br>gain near %{{x:+.3f}} ({name})<extra></extra>",
        )
    beyond = int((gains.abs() > half).sum())
    if beyond:
        figure.update_xaxes(title_text=f"gain Δg → helps ({beyond} beyond the ends)")
    return figure.update_layout(
        barmode="stack", bargap=0.06, xaxis={"range": [-half, half], "zeroline": True}
    )


def rank_plot(table: pd.DataFrame, mode: Mode, *, selected: list[str] | None = None) -> go.Figure:
    """Gain against rank, one marker a sample; `customdata` holds the sample's id.

    Args:
        table: columns id, gain, kind, response; sorted by falling gain.
        mode: light or dark.
        selected: ids shown as chosen; None leaves that to the browser.
    """
    marks = go.Scattergl if len(table) > _MOST_SVG else go.Scatter
    rank = np.arange(1, len(table) + 1)
    figure = frame(
        mode,
        title=f"Gains from {table['gain'].max():+.2f} to {table['gain'].min():+.2f}",
        x="rank (1 = helps most)",
        y="marginal gain Δg → helps",
    )
    for name, chosen, colour in (
        ("helps", (table["gain"] > 0).to_numpy(), HELPS[mode]),
        ("hurts", (table["gain"] <= 0).to_numpy(), HURTS[mode]),
    ):
        part = table[chosen]
        points = None
        if selected is not None:
            points = np.flatnonzero(part["id"].isin(selected)).tolist()
        figure.add_trace(
            marks(
                x=rank[chosen],
                y=part["gain"],
                mode="markers",
                name=name,
                marker={"color": colour, "size": 6, "symbol": "circle"},
                customdata=np.column_stack([part["id"], _short(part["id"])]),
                text=_short(part["response"]),
                hovertemplate="%{text}<br>gain %{y:+.3f}, rank %{x}<extra>%{customdata[1]}</extra>",
                selectedpoints=points,
                unselected={"marker": {"opacity": 0.25}},
            )
        )
    return figure


def _share(gains: pd.Series) -> str:
    helping = int((gains > 0).sum())
    return f"{helping / len(gains):.1%} of {len(gains):,} negatives"


def _short(texts: pd.Series) -> list[str]:
    """For hover: one line, markup shown as it is written."""
    return [literal(text) for text in texts.str.replace("\n", " ").str.slice(0, 90)]
