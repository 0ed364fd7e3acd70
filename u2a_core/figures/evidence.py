"""Figures of the evidence: the ablation over K, and what each method cost for its reward."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from u2a_core.figures.labels import Mark, highest, label_places
from u2a_core.figures.style import HELPS, HURTS, METHODS, Mode, faded, frame, identity, literal

ARMS = {
    "top_k": "Top-K",
    "one_shot": "Top-K, one-shot gains",
    "random_k": "Random-K",
    "bottom_k": "Bottom-K",
    "reward_filter": "Reward filter",
    "all": "All, equal weights",
    "u2a": "U2A",
    "u2a_support": "U2A's support, equal weights",
}
"""What a page calls the arms of an ablation."""
AXES = {
    "reward": "reward on the test prompts ↑",
    "objective": "objective J ↑",
    "retain": "retain NLL per token ↓",
}
_SETTINGS = {
    "step_size": "η, relative",
    "sparsity": "β, relative to the slopes' spread",
    "lam": "λ, relative",
    "omega": "power of ω (0: equal weights)",
}


def _style(arm: str, mode: Mode) -> tuple[str, str, str]:
    """Colour, dash and symbol of an arm."""
    grey = METHODS[mode][""]
    return {
        "top_k": (HELPS[mode], "solid", "circle"),
        "one_shot": (HELPS[mode], "dash", "circle-open"),
        "random_k": (grey, "dot", "square"),
        "bottom_k": (HURTS[mode], "solid", "triangle-down"),
        "reward_filter": (METHODS[mode]["graddiff"], "dashdot", "diamond"),
        "all": (grey, "dash", "square-open"),
        "u2a": (METHODS[mode]["npo"], "solid", "star"),
        "u2a_support": (METHODS[mode]["npo"], "dash", "star-open"),
    }[arm]


def ablation_curves(
    bands: pd.DataFrame, mode: Mode, *, metric: str = "reward", points: pd.DataFrame | None = None
) -> go.Figure:
    """A metric against K, one line an arm with its 95 % band over seeds.

    Arms that choose K themselves are level lines.

    Args:
        bands: arm, k, value, metric, mean, low, high, n.
        mode: light or dark.
        metric: of bands.
        points: one row a run (arm, k, value, run and the metric), drawn as small marks whose
            customdata is the run; None draws none.
    """
    own = bands[(bands["metric"] == metric) & bands["value"].isna() & bands["mean"].notna()]
    shown = own[own["arm"].isin(list(ARMS))]
    figure = frame(mode, title=_finding(shown, metric), x="K, samples unlearned", y=AXES[metric])
    span = shown.loc[shown["k"] > 0, "k"]
    ends = [span.min(), span.max()] if len(span) else [0, 1]
    for arm in ARMS:
        line = shown[shown["arm"] == arm].sort_values("k")
        if line.empty:
            continue
        if len(line) == 1 and arm != "all" and line["k"].iloc[0] == 0:
            line = pd.concat([line, line]).assign(k=ends)
        _band(figure, line, arm, mode)
    if points is not None:
        _points(figure, points[points["value"].isna()], metric, mode)
    return _counted(figure, shown["k"]).update_layout(
        height=470, margin={"t": 44, "b": 140}, legend={"y": -0.24, "yanchor": "top"}
    )


def _band(figure: go.Figure, line: pd.DataFrame, arm: str, mode: Mode) -> None:
    colour, dash, symbol = _style(arm, mode)
    known = line[line["low"].notna()]
    if len(known) > 1:
        figure.add_scatter(
            x=[*known["k"], *known["k"][::-1]], y=[*known["high"], *known["low"][::-1]],
            fill="toself", fillcolor=faded(colour), line_width=0, mode="lines", hoverinfo="skip",
            showlegend=False, legendgroup=arm,
        )  # fmt: skip
    figure.add_scatter(
        x=line["k"], y=line["mean"], name=ARMS[arm], legendgroup=arm, mode="lines+markers",
        line={"color": colour, "dash": dash, "width": 2.5 if arm in ("top_k", "u2a") else 2},
        marker={"symbol": symbol, "size": 8},
        error_y={
            "array": known["high"] - known["mean"], "arrayminus": known["mean"] - known["low"],
            "color": colour, "thickness": 2, "width": 4, "visible": len(line) == len(known) == 1,
        },
        customdata=line[["low", "high", "n", "arm", "k"]],
        hovertemplate=f"{ARMS[arm]}<br>K %{{x}}: %{{y:+.3f}} [%{{customdata[0]:+.3f}}, "
        "%{customdata[1]:+.3f}], n = %{customdata[2]} seeds<extra></extra>",
    )  # fmt: skip


def _points(figure: go.Figure, points: pd.DataFrame, metric: str, mode: Mode) -> None:
    """The single runs, to be clicked."""
    for arm in ARMS:
        own = points[(points["arm"] == arm) & points[metric].notna()]
        if own.empty:
            continue
        colour, _, _ = _style(arm, mode)
        figure.add_scatter(
            x=own["k"], y=own[metric], mode="markers", showlegend=False, legendgroup=arm,
            marker={"color": colour, "size": 6, "opacity": 0.45}, customdata=own[["run"]],
            hovertemplate="%{customdata[0]}: %{y:+.3f}<extra>one run</extra>",
        )  # fmt: skip


def _finding(shown: pd.DataFrame, metric: str) -> str:
    """The best arm at its best K, with its interval."""
    if shown.empty:
        return "No arm is finished yet"
    order = shown.sort_values("mean", ascending=metric == "retain")
    best = order.to_dict("records")[0]
    at = f" at K = {best['k']}" if best["k"] else ""
    bounds = (
        ", one seed" if math.isnan(best["low"]) else f" [{best['low']:+.3f}, {best['high']:+.3f}]"
    )
    word = "Lowest" if metric == "retain" else "Highest"
    return f"{word}: {ARMS[best['arm']]}{at}, {best['mean']:+.3f}{bounds}"


def paired_differences(
    table: pd.DataFrame, mode: Mode, *, ours: str = "top_k", theirs: str = "random_k"
) -> go.Figure:
    """One arm minus another in reward, paired over seeds, against K, with 95 % intervals.

    Args:
        table: ours, theirs, k, metric, mean, low, high, n, above.
        mode: light or dark.
        ours: the arm that is compared, as in table.
        theirs: the other arm.
    """
    own = table[(table["ours"] == ours) & (table["theirs"] == theirs)]
    own = own[(own["metric"] == "reward") & own["mean"].notna()].sort_values("k")
    clear = int((own["low"] > 0).sum())
    known = own["low"].notna()
    title = f"{ARMS[ours]} beats {ARMS[theirs]} at {clear} of {len(own)} K (interval above 0)"
    if not known.any():
        title = f"{ARMS[ours]} minus {ARMS[theirs]}: no interval from one seed"
    axis = f"K of {ARMS[theirs]}" if ours == "u2a" else "K"
    figure = frame(
        mode, title=title, x=f"{axis}, samples unlearned", y="difference in reward ↑"
    ).update_layout(margin_t=48)  # fmt: skip
    figure.add_scatter(
        x=own["k"], y=own["mean"], mode="markers", showlegend=False,
        marker={"color": HELPS[mode], "size": 10},
        error_y={
            "array": (own["high"] - own["mean"]).where(known, 0),
            "arrayminus": (own["mean"] - own["low"]).where(known, 0),
            "color": HELPS[mode], "thickness": 2, "width": 5,
        },
        customdata=own[["low", "high", "n", "above"]],
        hovertemplate="K %{x}: %{y:+.3f} [%{customdata[0]:+.3f}, %{customdata[1]:+.3f}]<br>"
        "above 0 in %{customdata[3]} of %{customdata[2]} seeds<extra></extra>",
    )  # fmt: skip
    return _counted(figure.add_hline(y=0, line_width=1.5, line_color=METHODS[mode][""]), own["k"])


def _counted(figure: go.Figure, ks: pd.Series) -> go.Figure:
    """Ticks at the K that were run, where they are few."""
    ticks = sorted({int(k) for k in ks if k > 0})
    return figure.update_xaxes(tickvals=ticks) if 1 < len(ticks) <= 12 else figure


def sensitivity(bands: pd.DataFrame, setting: str, mode: Mode) -> go.Figure:
    """Reward of U2A against one setting's value, with its 95 % interval over seeds.

    Args:
        bands: arm (the setting), value, metric, mean, low, high, n.
        setting: step_size, sparsity, lam or omega.
        mode: light or dark.
    """
    own = bands[(bands["arm"] == setting) & (bands["metric"] == "reward")].sort_values("value")
    plain = bands[(bands["arm"] == "u2a") & (bands["metric"] == "reward")]
    default = {"sparsity": None}.get(setting, 1.0)
    if default is not None and not plain.empty:  # the run with the setting as it is
        own = pd.concat([own, plain.assign(value=default)]).sort_values("value")
    low, high = own["mean"].min(), own["mean"].max()
    figure = frame(
        mode, title=f"Reward between {low:+.3f} and {high:+.3f}", x=_SETTINGS[setting],
        y=AXES["reward"],
    )  # fmt: skip
    figure.add_scatter(
        x=[f"{value:g}" for value in own["value"]], y=own["mean"], mode="lines+markers",
        line={"color": METHODS[mode]["npo"], "width": 2}, showlegend=False,
        error_y={
            "array": (own["high"] - own["mean"]).fillna(0),
            "arrayminus": (own["mean"] - own["low"]).fillna(0), "thickness": 1.5, "width": 4,
        },
        customdata=own[["low", "high", "n"]],
        hovertemplate="%{x}: %{y:+.3f} [%{customdata[0]:+.3f}, %{customdata[1]:+.3f}], "
        "n = %{customdata[2]} seeds<extra></extra>",
    )  # fmt: skip
    return figure.update_layout(margin_t=40).update_xaxes(type="category")


def cost_against_reward(
    rows: Sequence[dict[str, Any]], mode: Mode, *, cost: str = "tokens"
) -> go.Figure:
    """The paper's Fig. 1: reward ↑ against what a method cost, one mark a method.

    Args:
        rows: method, metrics (reward: mean, low, high, n) and ledger, as `table.as_json` has them.
        mode: light or dark.
        cost: tokens or seconds, of the ledger.
    """
    drawn = [r for r in rows if "reward" in r["metrics"] and r["ledger"].get(cost)]
    drawn.sort(key=lambda row: len(row["method"]))  # short names find room first
    name = {"tokens": "tokens through the model", "seconds": "seconds"}[cost]
    figure = frame(mode, title="No method with a known cost yet", x=name, y="reward ↑", height=420)
    if not drawn:
        return figure
    places = label_places([_mark(row, cost) for row in drawn])
    for row, place in zip(drawn, places, strict=True):
        found, label = row["metrics"]["reward"], literal(row["method"])
        method = row["method"].partition(" (")[0]  # without the folder of its first run
        symbol, colour, _ = identity(method.replace(" + ", "-").replace(",", "-"), mode)
        known = found["low"] is not None
        figure.add_scatter(
            x=[row["ledger"][cost]], y=[found["mean"]], mode="markers+text", cliponaxis=False,
            name=label, showlegend=not place,  # a name without room stands in the legend
            text=[f"\u00a0\u00a0{label}\u00a0\u00a0" if place else ""],
            textposition=place or None,
            marker={"color": colour, "symbol": symbol, "size": 12},
            error_y={
                "array": [found["high"] - found["mean"] if known else 0],
                "arrayminus": [found["mean"] - found["low"] if known else 0],
                "color": colour, "thickness": 1.5, "width": 4,
            },
            hovertemplate=f"{label}<br>{name} %{{x:,.0f}}, reward %{{y:+.3f}}<extra></extra>",
        )  # fmt: skip
    _room(figure, [float(row["ledger"][cost]) for row in drawn])
    _original_line(figure, rows, mode)
    return figure.update_layout(
        title_text=_best(rows, drawn, cost), showlegend=True, margin_t=48,
        height=420 + 22 * sum(not place for place in places),  # the legend is below
        legend={"y": -0.2, "yanchor": "top"},
    )  # fmt: skip


def _best(rows: Sequence[dict[str, Any]], drawn: Sequence[dict[str, Any]], cost: str) -> str:
    """Which method has the highest reward, among how many."""
    rewarded = [
        r for r in rows if "reward" in r["metrics"] and not r["method"].startswith("Original")
    ]
    some = "" if len(drawn) >= len(rewarded) else f" of the {len(drawn)} with known {cost}"
    best = highest([(literal(r["method"]), float(r["metrics"]["reward"]["mean"])) for r in drawn])
    return f"Highest reward{some}: {best}"


def _mark(row: dict[str, Any], cost: str) -> Mark:
    found = row["metrics"]["reward"]
    mean = float(found["mean"])
    low, high = (mean if found[end] is None else float(found[end]) for end in ("low", "high"))
    return Mark(float(row["ledger"][cost]), mean, low, high, str(row["method"]))


def _room(figure: go.Figure, costs: Sequence[float]) -> None:
    """Room for names beside the outermost marks."""
    room = 0.15 * ((max(costs) - min(costs)) or max(costs))
    figure.update_xaxes(range=[max(0, min(costs) - room), max(costs) + room])


def _original_line(figure: go.Figure, rows: Sequence[dict[str, Any]], mode: Mode) -> None:
    """The reward before anything is unlearned; named in the legend, where it covers no mark."""
    for row in rows:
        if row["method"].startswith("Original") and "reward" in row["metrics"]:
            mean = row["metrics"]["reward"]["mean"]
            line = {"dash": "dash", "width": 1.5, "color": METHODS[mode][""]}
            told = f"{literal(row['method'].replace('Original', 'original model'))} {mean:+.3f}"
            figure.add_scatter(
                x=figure.layout.xaxis.range, y=[mean, mean], mode="lines", line=line, name=told,
                hoverinfo="skip",
            )  # fmt: skip
