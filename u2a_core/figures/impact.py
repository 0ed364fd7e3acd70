"""Figures of impact curves: predictions as lines, measurements as markers with their interval."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from u2a_core.figures.style import HELPS, HURTS, METHODS, Mode, faded, frame

_MOST_CURVES = 200
_SHORT = {"linear": "linear prediction", "paper": "Eq. 4 at θ*", "trapezoid": "trapezoid check"}


def impact_curves(curves: pd.DataFrame, mode: Mode, *, selected: str | None = None) -> go.Figure:
    """ΔJ against ω: the linear prediction of every sample as a line, measurements as markers.

    Args:
        curves: id, omega, linear, measured, measured_low, measured_high, converged.
        mode: light or dark.
        selected: id of the sample that is drawn in full, with intervals and its validity limit.
    """
    figure = frame(
        mode,
        title=_validity(curves),
        x="weight ω of the sample that is unlearned alone",
        y="impact ΔJ → helps",
    )
    alone = selected is not None and curves["id"].nunique() == 1
    wide = curves.pivot_table(index="omega", columns="id", values="measured")
    if alone:
        # a narrow panel has no room for more
        figure.update_layout(title_text=_ending(curves), xaxis_title_text="weight ω")
    elif wide.shape[1] > _MOST_CURVES:
        _band(figure, wide, mode)
    else:
        _markers(figure, curves, mode, faint=selected is not None)
    if selected is not None:
        _one(figure, curves[curves["id"] == selected], mode)
    # the names take two lines where the figure is narrow, with a chosen sample's four more
    room = 82 if selected is None or alone else 124
    return figure.update_layout(hovermode="closest", margin_t=room)


def calibration(
    curves: pd.DataFrame, mode: Mode, *, estimator: str, selected: str | None = None
) -> go.Figure:
    """Measured against predicted impact, a marker a solve, with the line y = x.

    Args:
        curves: id, omega, the estimator's column, measured, converged.
        mode: light or dark.
        estimator: linear, paper or trapezoid.
        selected: id of the sample whose markers stand out.
    """
    good = curves[curves["converged"].astype(bool)]
    figure = frame(
        mode,
        title=f"{len(good)} solved points; dashed: predicted = measured",
        x=f"predicted ΔJ: {_SHORT[estimator]}",
        y="measured ΔJ → helps",
    )
    ends = [
        good[[estimator, "measured"]].min(axis=None),
        good[[estimator, "measured"]].max(axis=None),
    ]
    figure.add_scatter(
        x=ends, y=ends, mode="lines", name="y = x", hoverinfo="skip",
        line={"color": METHODS[mode][""], "dash": "dash", "width": 1.5},
    )  # fmt: skip
    for name, part, colour in (
        ("helps", good[good["measured"] > 0], HELPS[mode]),
        ("hurts", good[good["measured"] <= 0], HURTS[mode]),
    ):
        chosen = None if selected is None else np.flatnonzero(part["id"] == selected).tolist()
        figure.add_scatter(
            x=part[estimator], y=part["measured"], mode="markers", name=name,
            marker={"color": colour, "size": 7, "opacity": 0.8},
            customdata=np.column_stack([part["id"], part["omega"].map("{:.4g}".format)])
            if len(part) else None,
            hovertemplate="%{customdata[0]}, ω %{customdata[1]}<br>predicted %{x:+.4g}"
            "<br>measured %{y:+.4g}<extra></extra>",
            selectedpoints=chosen, unselected={"marker": {"opacity": 0.15}},
        )  # fmt: skip
    return figure.update_layout(xaxis_zeroline=True)


def _markers(figure: go.Figure, curves: pd.DataFrame, mode: Mode, *, faint: bool) -> None:
    """Every sample: a line for its prediction, markers where J was measured; each by its sign."""
    solved = curves[curves["converged"].astype(bool)]
    for name, part, colour in (
        ("helps", curves[curves["linear"] > 0], HELPS[mode]),
        ("hurts", curves[curves["linear"] <= 0], HURTS[mode]),
    ):
        lines = _broken(part[part["converged"].astype(bool)], "linear")  # to the validity limit
        figure.add_scatter(
            x=lines["omega"], y=lines["linear"], mode="lines", name=f"predicted, {name}",
            line={"color": faded(colour) if faint else colour, "width": 1}, hoverinfo="skip",
            opacity=0.5, showlegend=not faint,
        )  # fmt: skip
        good = solved[(solved["measured"] > 0) == (name == "helps")]
        figure.add_scatter(
            x=good["omega"], y=good["measured"], mode="markers", name=f"measured, {name}",
            marker={"color": colour, "size": 6, "opacity": 0.25 if faint else 0.9},
            showlegend=not faint,
            customdata=np.column_stack([good["id"]]) if len(good) else None,
            hovertemplate="%{customdata[0]}: measured %{y:+.4g} at ω %{x:.4g}<extra></extra>",
        )  # fmt: skip


def _band(figure: go.Figure, wide: pd.DataFrame, mode: Mode) -> None:
    """Many samples: the middle 90 % and the median of what was measured."""
    colour = METHODS[mode][""]
    low, high = wide.quantile(0.05, axis=1), wide.quantile(0.95, axis=1)
    figure.add_scatter(
        x=[*wide.index, *wide.index[::-1]], y=[*high, *low[::-1]], fill="toself", mode="lines",
        line_width=0, fillcolor=faded(colour), name="middle 90 % of the samples", hoverinfo="skip",
    )  # fmt: skip
    figure.add_scatter(
        x=wide.index, y=wide.median(axis=1), mode="lines", name="median measured",
        line={"color": colour, "width": 2},
    )  # fmt: skip


def _one(figure: go.Figure, curve: pd.DataFrame, mode: Mode) -> None:
    """One sample in full: all predictions as lines, measurements with intervals, its limit."""
    curve = curve.sort_values("omega")
    good = curve[curve["converged"].astype(bool)]
    strong = HELPS[mode] if (curve["linear"] > 0).all() else HURTS[mode]
    for column, dash in (("linear", "solid"), ("paper", "dash"), ("trapezoid", "dot")):
        figure.add_scatter(
            x=curve["omega"], y=curve[column], mode="lines", name=_SHORT[column],
            line={"color": strong, "width": 2, "dash": dash},
            hovertemplate=f"{column} %{{y:+.4g}} at ω %{{x:.4g}}<extra></extra>",
        )  # fmt: skip
    figure.add_scatter(
        x=good["omega"], y=good["measured"], mode="markers", name="measured, 95 % over prompts",
        marker={"color": strong, "size": 10, "symbol": "diamond"},
        error_y={
            "array": good["measured_high"] - good["measured"],
            "arrayminus": good["measured"] - good["measured_low"],
            "color": strong, "thickness": 1.5, "width": 4,
        },
        hovertemplate="measured %{y:+.4g} at ω %{x:.4g}<extra></extra>",
    )  # fmt: skip
    ended = curve[~curve["converged"].astype(bool)]
    if len(ended):
        figure.add_vline(
            x=float(ended["omega"].iloc[0]), line={"color": METHODS[mode][""], "dash": "dash"},
            annotation={
                "text": "validity limit", "textangle": -90, "xanchor": "right", "yanchor": "top"
            },
        )  # fmt: skip


def _broken(part: pd.DataFrame, column: str) -> pd.DataFrame:
    """The curves one after the other from (0, 0), with a gap between: one trace for all."""
    pieces = []
    for _, curve in part.groupby("id", sort=False):
        start, gap = ({"omega": [v], column: [v]} for v in (0.0, np.nan))
        line = curve[["omega", column]].sort_values("omega")
        pieces += [pd.DataFrame(start), line, pd.DataFrame(gap)]
    return pd.concat(pieces, ignore_index=True) if pieces else part[["omega", column]]


def _ending(curve: pd.DataFrame) -> str:
    """How far one sample's curve holds."""
    good = curve[curve["converged"].astype(bool)]
    if good.empty:
        return "Valid at no weight of the grid"
    held = "Valid up to" if len(good) < len(curve) else "Valid over the grid, up to"
    return f"{held} ω = {good['omega'].max():.2g}"


def _validity(curves: pd.DataFrame) -> str:
    ended = curves.loc[~curves["converged"].astype(bool), "id"].nunique()
    count = curves["id"].nunique()
    if not ended:
        return f"All {count} curves are valid over the whole grid"
    return f"{ended} of {count} curves end at a validity limit"
