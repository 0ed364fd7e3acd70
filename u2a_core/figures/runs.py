"""Figures of runs: J, losses and weights along the way, and the rewards that came out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from u2a_core.figures.labels import highest
from u2a_core.figures.style import HELPS, HURTS, METHODS, Mode, faded, frame, identity, literal

_TWO_LINES = 92
"""Room above a narrow figure, whose legend has two lines."""


def objective_curves(histories: Mapping[str, pd.DataFrame], mode: Mode) -> go.Figure:
    """J against inner steps with its 95 % band, one line a run.

    Args:
        histories: name → table with step, objective, objective_low, objective_high.
        mode: light or dark.
    """
    figure = frame(mode, title=_rise(histories), x="inner step", y="objective J ↑")
    for name, history in histories.items():
        _, colour, dash = identity(name, mode)
        x = history["step"]
        figure.add_scatter(
            x=pd.concat([x, x[::-1]]),
            y=pd.concat([history["objective_high"], history["objective_low"][::-1]]),
            fill="toself", fillcolor=faded(colour), line_width=0, mode="lines",
            hoverinfo="skip", showlegend=False,
        )  # fmt: skip
        figure.add_scatter(
            x=x, y=history["objective"], name=literal(name), mode="lines+markers",
            line={"color": colour, "width": 2.5, "dash": dash}, marker={"size": 5},
            hovertemplate="step %{x}: J %{y:+.3f}<extra>" + literal(name) + "</extra>",
        )  # fmt: skip
    alone = len(histories) == 1
    figure.update_layout(showlegend=not alone, margin_t=40 if alone else 66)
    return _counted(figure)


def loss_curves(history: pd.DataFrame, mode: Mode) -> go.Figure:
    """Mean NLL of the negatives (what unlearning raises) and of the retain set, per token."""
    figure = frame(
        mode,
        title="What is forgotten (up), what is kept (flat)",
        x="inner step",
        y="mean NLL per token (nat)",
    )
    for column, name, colour in (
        ("nll", "negatives, weighted by ω", HURTS[mode]),
        ("retain", "retain set", HELPS[mode]),
    ):
        if column in history and history[column].notna().any():
            figure.add_scatter(
                x=history["step"], y=history[column], name=name, mode="lines",
                line={"color": colour, "width": 2},
                hovertemplate="step %{x}: %{y:.3f}<extra></extra>",
            )  # fmt: skip
    return _counted(figure.update_layout(margin_t=_TWO_LINES, showlegend=True))


def effective_samples(history: pd.DataFrame, mode: Mode) -> go.Figure:
    """1/Σω² and the size of the support against inner steps."""
    title = "Nothing is weighted in this run"  # as in a baseline's
    if "effective_samples" in history:
        last = history.iloc[-1]
        title = f"{last['effective_samples']:.0f} effective samples at step {last['step']:.0f}"
    figure = frame(mode, title=title, x="inner step", y="samples")
    for column, name, dash in (
        ("effective_samples", "effective samples 1/Σω²", "solid"),
        ("support", "support: weight above 0", "dot"),
    ):
        if column in history:
            figure.add_scatter(
                x=history["step"], y=history[column], name=name, mode="lines",
                line={"color": HELPS[mode], "width": 2, "dash": dash},
                hovertemplate="step %{x}: %{y:.1f}<extra></extra>",
            )  # fmt: skip
    return _counted(figure.update_layout(yaxis_rangemode="tozero", margin_t=_TWO_LINES))


def weight_path(path: pd.DataFrame, mode: Mode) -> go.Figure:
    """How the weights moved: all samples as a band of quantiles, the six largest as lines.

    Args:
        path: round, id, weight.
        mode: light or dark.
    """
    wide = path.pivot_table(index="round", columns="id", values="weight")
    top = wide.iloc[-1].nlargest(6).index
    figure = frame(
        mode,
        title=f"The six largest weights hold {wide.iloc[-1][top].sum():.0%}",
        x="round",
        y="weight ω",
    )
    colour = METHODS[mode][""]
    lower, upper = wide.quantile(0.05, axis=1), wide.quantile(0.95, axis=1)
    figure.add_scatter(
        x=[*wide.index, *wide.index[::-1]], y=[*upper, *lower[::-1]], fill="toself", line_width=0,
        mode="lines", fillcolor=faded(colour), name="middle 90 % of the samples", hoverinfo="skip",
    )  # fmt: skip
    for sample in top:
        figure.add_scatter(
            x=wide.index, y=wide[sample], mode="lines", showlegend=False,
            line={"color": HELPS[mode], "width": 1.5},
            hovertemplate="round %{x}: ω %{y:.4f}<extra>" + literal(str(sample)) + "</extra>",
        )  # fmt: skip
    return _counted(figure)


def rewards(rows: pd.DataFrame, mode: Mode) -> go.Figure:
    """Mean reward of each model with its 95 % interval.

    Args:
        rows: name, mean, low, high, n; without low and high where one prompt has no interval; look
            names the method where the name does not.
        mode: light or dark.
    """
    best = rows.sort_values("mean").to_dict("records")[-1]
    means = [(literal(str(n)), float(m)) for n, m in zip(rows["name"], rows["mean"], strict=True)]
    told = highest(means)
    bounds = _bounds(best) if literal(str(best["name"])) in told else ""
    figure = frame(
        mode,
        title=f"Highest: {told} {bounds}".strip(),
        x="reward ↑ (mean, 95 % interval)",
        y="",
        height=max(220, 110 + 32 * len(rows)),
    ).update_layout(margin_t=40)
    for row in rows.to_dict("records"):
        symbol, colour, _ = identity(str(row.get("look", row["name"])), mode)
        bounds = _bounds(row)
        told = f"95 % {bounds}" if bounds else "no interval"
        figure.add_scatter(
            x=[row["mean"]], y=[literal(str(row["name"]))], mode="markers", showlegend=False,
            marker={"color": colour, "symbol": symbol, "size": 11},
            error_x={
                "array": [row["high"] - row["mean"]], "arrayminus": [row["mean"] - row["low"]],
                "color": colour, "thickness": 2, "width": 5,
            } if bounds else None,
            hovertemplate=f"%{{y}}: %{{x:+.3f}}<br>{told}, n = {row['n']}<extra></extra>",
        )  # fmt: skip
    return figure.update_layout(
        xaxis_zeroline=True, yaxis={"autorange": "reversed", "zeroline": False}
    )


def _bounds(row: Mapping[Any, Any]) -> str:
    """`[+0.390, +0.560]`; empty where there is no interval."""
    return "" if pd.isna(row["low"]) else f"[{row['low']:+.3f}, {row['high']:+.3f}]"


def _rise(histories: Mapping[str, pd.DataFrame]) -> str:
    if len(histories) != 1:
        return "Objective J of each run"
    ((_, history),) = histories.items()
    first, best = history["objective"].iloc[0], history["objective"].max()
    if len(history) == 1:
        return f"J {first:+.3f} at the original model"
    if not best > first:  # its rise may still come
        return f"No step yet with J above the original's {first:+.3f}"
    return f"J from {first:+.3f} to {best:+.3f} at its best step"


def _counted(figure: go.Figure) -> go.Figure:
    """Steps and rounds start at 0 and are whole."""
    last = max((max(trace.x) for trace in figure.data if len(trace.x)), default=0)
    every = 1 if last <= 10 else None
    return figure.update_xaxes(range=[0, max(1, last) * 1.02], dtick=every)
