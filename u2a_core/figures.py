"""Plotly figures from the tables of runs: for the pages and for reports. No torch, no Streamlit.

Blue and positive: unlearning the sample helps; orange and negative: it hurts. A prediction is a
line, a measurement a marker with its 95 % interval. Every function takes the `mode`, light or dark.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

import numpy as np
import pandas as pd
import plotly.graph_objects as go

Mode: TypeAlias = Literal["light", "dark"]

HELPS = {"light": "#0072B2", "dark": "#56B4E9"}
HURTS = {"light": "#D55E00", "dark": "#F0883E"}
METHODS = {
    "light": {"ga": "#8A6D00", "graddiff": "#009E73", "npo": "#CC79A7", "": "#6B6B6B"},
    "dark": {"ga": "#E6C84B", "graddiff": "#3FC79A", "npo": "#E39CC4", "": "#B8B4AE"},
}
_SYMBOLS = {"ga": "triangle-up", "graddiff": "square", "npo": "diamond", "": "circle"}
_INK = {
    "light": {"text": "#2f2d2b", "grid": "#E6E4E0", "zero": "#8A8580"},
    "dark": {"text": "#edebe8", "grid": "#34312D", "zero": "#8F8A84"},
}
_FONT = "Source Sans, system-ui, sans-serif"
_HEIGHT = 370
_MOST_SVG = 2_000
_BINS = 41


def _figure(mode: Mode, *, title: str, x: str, y: str, height: int = _HEIGHT) -> go.Figure:
    ink = _INK[mode]
    axis = {
        "gridcolor": ink["grid"],
        "zerolinecolor": ink["zero"],
        "zerolinewidth": 1.5,
        "linecolor": ink["zero"],
        "ticks": "outside",
        "tickcolor": ink["grid"],
        "automargin": True,
    }
    return go.Figure(
        layout={
            "template": "none",
            "height": height,
            "title": {
                "text": title,
                "font": {"size": 15},
                "x": 0, "y": 1, "yanchor": "top", "pad": {"t": 8, "l": 8},
            },
            "font": {"family": _FONT, "size": 13, "color": ink["text"]},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "margin": {"l": 60, "r": 16, "t": 78, "b": 48},
            "hoverlabel": {"font": {"size": 12}, "align": "left"},
            "legend": {"orientation": "h", "y": 1.01, "x": 0, "yanchor": "bottom"},
            "xaxis": axis | {"title": {"text": x}},
            "yaxis": axis | {"title": {"text": y}},
            "uirevision": "kept",
        }
    )  # fmt: skip


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
    figure = _figure(
        mode,
        title=f"{_share(gains)} help when unlearned",
        x="marginal gain Δg (J per unit weight) → helps",
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
        figure.update_xaxes(title_text=f"marginal gain Δg → helps ({beyond} beyond the ends)")
    return figure.update_layout(barmode="stack", bargap=0.06, xaxis_range=[-half, half])


def rank_plot(table: pd.DataFrame, mode: Mode, *, selected: list[str] | None = None) -> go.Figure:
    """Gain against rank, one marker a sample; `customdata` holds the sample's id.

    Args:
        table: columns id, gain, kind, response; sorted by falling gain.
        mode: light or dark.
        selected: ids shown as chosen; None leaves that to the browser.
    """
    marks = go.Scattergl if len(table) > _MOST_SVG else go.Scatter
    rank = np.arange(1, len(table) + 1)
    figure = _figure(
        mode,
        title=f"Gains in order: largest {table['gain'].max():+.3f}, "
        f"smallest {table['gain'].min():+.3f}",
        x="rank (1 = most helpful to unlearn)",
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
                customdata=part[["id"]].to_numpy(),
                text=_short(part["response"]),
                hovertemplate="%{text}<br>gain %{y:+.3f}, rank %{x}<extra>%{customdata[0]}</extra>",
                selectedpoints=points,
                unselected={"marker": {"opacity": 0.25}},
            )
        )
    return figure


def objective_curves(histories: Mapping[str, pd.DataFrame], mode: Mode) -> go.Figure:
    """J against inner steps with its 95 % band, one line a run.

    Args:
        histories: name → table with step, objective, objective_low, objective_high.
        mode: light or dark.
    """
    figure = _figure(mode, title=_rise(histories), x="inner step", y="objective J ↑")
    for name, history in histories.items():
        _, colour, dash, _ = _identity(name, mode)
        x = history["step"]
        figure.add_scatter(
            x=pd.concat([x, x[::-1]]),
            y=pd.concat([history["objective_high"], history["objective_low"][::-1]]),
            fill="toself", fillcolor=_faded(colour), line_width=0, mode="lines",
            hoverinfo="skip", showlegend=False,
        )  # fmt: skip
        figure.add_scatter(
            x=x, y=history["objective"], name=name, mode="lines+markers",
            line={"color": colour, "width": 2.5, "dash": dash}, marker={"size": 5},
            hovertemplate="step %{x}: J %{y:+.3f}<extra>" + name + "</extra>",
        )  # fmt: skip
    return figure


def loss_curves(history: pd.DataFrame, mode: Mode) -> go.Figure:
    """Mean NLL of the negatives (what unlearning raises) and of the retain set, per token."""
    figure = _figure(mode, title="Losses", x="inner step", y="mean NLL per token (nat)")
    for column, name, colour in (
        ("nll", "negatives (weighted), up = forgotten", HURTS[mode]),
        ("retain", "retain set, flat = kept", HELPS[mode]),
    ):
        if column in history and history[column].notna().any():
            figure.add_scatter(
                x=history["step"], y=history[column], name=name, mode="lines",
                line={"color": colour, "width": 2},
                hovertemplate="step %{x}: %{y:.3f}<extra></extra>",
            )  # fmt: skip
    return figure


def effective_samples(history: pd.DataFrame, mode: Mode) -> go.Figure:
    """1/Σω² and the size of the support against inner steps."""
    last = history.iloc[-1]
    figure = _figure(
        mode,
        title=f"{last['effective_samples']:.0f} effective samples at the end",
        x="inner step",
        y="samples",
    )
    for column, name, dash in (
        ("effective_samples", "effective samples 1/Σω²", "solid"),
        ("support", "support: weight above 0", "dot"),
    ):
        figure.add_scatter(
            x=history["step"], y=history[column], name=name, mode="lines",
            line={"color": HELPS[mode], "width": 2, "dash": dash},
            hovertemplate="step %{x}: %{y:.1f}<extra></extra>",
        )  # fmt: skip
    return figure.update_layout(yaxis_rangemode="tozero")


def weight_path(path: pd.DataFrame, mode: Mode) -> go.Figure:
    """How the weights moved: all samples as a band of quantiles, the six largest as lines.

    Args:
        path: round, id, weight.
        mode: light or dark.
    """
    wide = path.pivot_table(index="round", columns="id", values="weight")
    top = wide.iloc[-1].nlargest(6).index
    figure = _figure(
        mode,
        title=f"The six largest weights hold {wide.iloc[-1][top].sum():.0%}",
        x="round",
        y="weight ω",
    )
    colour = METHODS[mode][""]
    lower, upper = wide.quantile(0.05, axis=1), wide.quantile(0.95, axis=1)
    figure.add_scatter(
        x=[*wide.index, *wide.index[::-1]], y=[*upper, *lower[::-1]], fill="toself", line_width=0,
        mode="lines", fillcolor=_faded(colour), name="middle 90 % of the samples", hoverinfo="skip",
    )  # fmt: skip
    for identity in top:
        figure.add_scatter(
            x=wide.index, y=wide[identity], mode="lines", showlegend=False,
            line={"color": HELPS[mode], "width": 1.5},
            hovertemplate="round %{x}: ω %{y:.4f}<extra>" + str(identity) + "</extra>",
        )  # fmt: skip
    return figure


def rewards(rows: pd.DataFrame, mode: Mode) -> go.Figure:
    """Mean reward of each model with its 95 % interval.

    Args:
        rows: name, mean, low, high, n.
        mode: light or dark.
    """
    best = rows.sort_values("mean")[["name", "mean", "low", "high"]].iloc[-1]
    figure = _figure(
        mode,
        title="Highest: {} {:+.3f} [{:+.3f}, {:+.3f}]".format(*best),
        x="reward on the test prompts ↑ (mean, 95 % interval)",
        y="",
        height=max(220, 90 + 34 * len(rows)),
    )
    for row in rows.to_dict("records"):
        symbol, colour, _, _ = _identity(str(row["name"]), mode)
        figure.add_scatter(
            x=[row["mean"]], y=[row["name"]], mode="markers", showlegend=False,
            marker={"color": colour, "symbol": symbol, "size": 11},
            error_x={
                "array": [row["high"] - row["mean"]], "arrayminus": [row["mean"] - row["low"]],
                "color": colour, "thickness": 2, "width": 5,
            },
            hovertemplate=f"%{{y}}: %{{x:+.3f}}<br>95 % [{row['low']:+.3f}, {row['high']:+.3f}], "
            f"n = {row['n']}<extra></extra>",
        )  # fmt: skip
    return figure.update_layout(yaxis={"autorange": "reversed", "zeroline": False})


def _identity(name: str, mode: Mode) -> tuple[str, str, str, bool]:
    """Symbol, colour and dash of a run's method, the same on every page."""
    words = name.lower().replace("_", "-").split("-")
    method = next((m for m in ("graddiff", "npo", "ga") if m in words), "")
    ours = "u2a" in words
    dash = "solid" if ours else ("dot" if "random" in words else "dash")
    symbol = _SYMBOLS[method] + ("" if ours or not method else "-open")
    return symbol, METHODS[mode][method], dash, ours


def _share(gains: pd.Series) -> str:
    helping = int((gains > 0).sum())
    return f"{helping / len(gains):.0%} of {len(gains):,} negatives"


def _rise(histories: Mapping[str, pd.DataFrame]) -> str:
    if len(histories) != 1:
        return "Objective J of each run"
    ((_, history),) = histories.items()
    first, best = history["objective"].iloc[0], history["objective"].max()
    return f"J from {first:+.3f} to {best:+.3f} at its best step"


def _short(texts: pd.Series) -> list[str]:
    """For hover: one line, markup shown as it is written."""
    cut = texts.str.replace("\n", " ").str.slice(0, 90)
    return [text.replace("&", "&amp;").replace("<", "&lt;") for text in cut]


def _faded(colour: str) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.18)"
