"""Figures of samples: how their gains are distributed, and in which order they stand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from u2a_core.figures.style import HELPS, HURTS, METHODS, Mode, faded, frame, literal

MOST_MARKERS = 15_000
"""Of more samples the rank plot shows buckets, the extremes and the selection."""
_MOST_SVG = 2_000
_BINS = 41
_BUCKETS = 400
_EXTREMES = 100
_MOST_DRAWN = 500


def gain_histogram(table: pd.DataFrame, mode: Mode) -> go.Figure:
    """How many samples have which gain, in bins symmetric about 0; the ends hold what lies beyond.

    A bar's `customdata` holds the lowest and the highest gain of its samples.

    Args:
        table: gain, Δg in units of J per unit weight; also gain_low and gain_high where they are.
        mode: light or dark.
    """
    gains = table["gain"]
    half = float(np.quantile(gains.abs(), 0.99)) or 1.0
    edges = np.linspace(-half, half, _BINS + 1)
    beyond = int((gains.abs() > half).sum())
    more = f" ({beyond:,} beyond the ends)" if beyond else " (J per unit weight)"
    told = "when unlearned"
    if unsure := int(uncertain(table).sum()):
        told = f"(sign of {unsure:,} uncertain)"
    figure = frame(
        mode, title=f"{_share(gains)} help {told}", x=f"gain Δg → helps{more}", y="samples"
    )
    # a bin that holds 0 is split by sign, so that the colours count what the title counts
    for name, chosen, colour in (
        ("hurts", gains <= 0, HURTS[mode]),
        ("helps", gains > 0, HELPS[mode]),
    ):
        figure.add_bar(
            name=name,
            marker_color=colour,
            **_binned(gains[chosen].to_numpy(), edges),
            hovertemplate="%{y} samples<br>gain %{customdata[0]:+.3f} to "
            f"%{{customdata[1]:+.3f}} ({name})<extra></extra>",
        )
    return figure.update_layout(barmode="stack", xaxis={"range": [-half, half], "zeroline": True})


def _binned(values: np.ndarray, edges: np.ndarray) -> dict[str, Any]:
    """Bars of the bins that hold gains: place, height, width, and their lowest and highest gain."""
    bins = np.clip(np.digitize(values, edges) - 1, 0, _BINS - 1)
    counts = np.bincount(bins, minlength=_BINS)
    ends = np.full((_BINS, 2), np.nan)
    np.fmin.at(ends[:, 0], bins, values)
    np.fmax.at(ends[:, 1], bins, values)
    held = counts > 0  # an empty bar has no lowest gain
    return {
        "x": ((edges[:-1] + edges[1:]) / 2)[held],
        "y": counts[held],
        "width": 0.94 * (edges[1] - edges[0]),
        "customdata": ends[held].tolist(),
    }


def rank_plot(
    table: pd.DataFrame, mode: Mode, *, selected: Sequence[str] | None = None, top: int = 0
) -> go.Figure:
    """Gain against rank: a marker a sample, whose `customdata` begins with its id; many: buckets.

    The `customdata` of a bucket has an empty id, then the first and the last rank of it.

    Args:
        table: columns id, gain, response, of many also gain_low and gain_high where they are
            known; sorted by falling gain.
        mode: light or dark.
        selected: ids shown as chosen; None leaves that to the browser.
        top: so many samples of the highest gain are marked; 0: none.
    """
    figure = frame(
        mode,
        title=f"Gains from {table['gain'].max():+.2f} to {table['gain'].min():+.2f}",
        x="rank (1 = helps most)",
        y="marginal gain Δg → helps",
    )
    if len(table) > MOST_MARKERS:
        if "gain_low" in table:
            _interval_band(figure, table, mode)
        if selected:
            _selection(figure, table, mode, selected)
        _buckets(figure, table, mode)
        _marks(figure, table, mode, _extremes(len(table)), legend=False)
    else:
        _marks(figure, table, mode, np.arange(len(table)), selected=selected)
    if top:
        _top(figure, table, mode, top)
    return figure


def sample_weights(rounds: pd.DataFrame, count: int, mode: Mode) -> go.Figure:
    """One sample's weight in every round of the reweighting, beside the equal weight.

    Args:
        rounds: columns round, weight; of the one sample.
        count: samples of the set, whose equal weight is 1/count.
        mode: light or dark.
    """
    rounds = rounds.sort_values("round")
    first, last = rounds["weight"].iloc[0], rounds["weight"].iloc[-1]
    figure = frame(
        mode, title=f"Weight from {first:.5f} to {last:.5f}", x="round", y="weight ω", height=330
    )
    colour = HELPS[mode] if last > first else HURTS[mode]
    figure.add_scatter(
        x=rounds["round"], y=rounds["weight"], mode="lines+markers", name="this sample",
        line={"color": colour, "width": 2.5},
        hovertemplate="ω = %{y:.5f} after round %{x}<extra></extra>",
    )  # fmt: skip
    figure.add_scatter(
        x=rounds["round"], y=[1 / count] * len(rounds), mode="lines", name="equal weight, 1/n",
        line={"color": METHODS[mode][""], "width": 1.5, "dash": "dash"},
        hovertemplate="equal weight %{y:.5f}<extra></extra>",
    )  # fmt: skip
    return figure.update_yaxes(rangemode="tozero")


def _signs(gains: np.ndarray, mode: Mode) -> Iterator[tuple[str, np.ndarray, str]]:
    """Name, mask and colour of either sign."""
    yield "helps", gains > 0, HELPS[mode]
    yield "hurts", gains <= 0, HURTS[mode]


def _kinds(rows: pd.DataFrame, mode: Mode) -> Iterator[tuple[str, np.ndarray, str, str]]:
    """Name, mask, colour and symbol: either sign; apart those whose 95 % interval holds 0."""
    unsure = uncertain(rows)
    (helps, good, blue), (hurts, bad, orange) = _signs(rows["gain"].to_numpy(), mode)
    yield helps, good & ~unsure, blue, "circle"
    if unsure.any():
        yield f"{helps}, uncertain", good & unsure, blue, "circle-open"
        yield f"{hurts}, uncertain", bad & unsure, orange, "circle-open"
    yield hurts, bad & ~unsure, orange, "circle"


def _marks(
    figure: go.Figure,
    table: pd.DataFrame,
    mode: Mode,
    places: np.ndarray,
    *,
    selected: Sequence[str] | None = None,
    legend: bool = True,
) -> None:
    """A marker for each of the rows at these places; hollow where the sign is uncertain."""
    marks = go.Scattergl if len(places) > _MOST_SVG else go.Scatter
    rows = table.iloc[places]
    for sign, chosen, colour, symbol in _kinds(rows, mode):
        part, points = rows[chosen], None
        told = "<br>sign uncertain: its 95 % interval holds 0" if symbol != "circle" else ""
        if selected is not None:
            points = np.flatnonzero(part["id"].isin(selected)).tolist()
        figure.add_trace(
            marks(
                x=places[chosen] + 1,
                y=part["gain"],
                mode="markers",
                name=sign,
                showlegend=legend,
                marker={"color": colour, "size": 6, "symbol": symbol},
                customdata=np.column_stack([part["id"], _short(part["id"])]),
                text=_short(part["response"]),
                hovertemplate=f"%{{text}}<br>gain %{{y:+.3f}}, rank %{{x}}{told}"
                "<extra>%{customdata[1]}</extra>",
                selectedpoints=points,
                selected={"marker": {"size": 8}},
                unselected={"marker": {"opacity": 0.25}},
            )
        )


def _buckets(figure: go.Figure, table: pd.DataFrame, mode: Mode) -> None:
    """Ranks in buckets of one sign: the median gain, and a band from the lowest to the highest."""
    gains = table["gain"].to_numpy()
    for sign, chosen, colour in _signs(gains, mode):
        ranks = np.flatnonzero(chosen) + 1
        if not len(ranks):
            continue
        parts = np.array_split(ranks, min(len(ranks), -(-_BUCKETS * len(ranks) // len(gains))))
        ends = np.array([(part[0], part[-1]) for part in parts])
        high, low = gains[ends[:, 0] - 1], gains[ends[:, 1] - 1]  # gains fall with the rank
        middle = ends.mean(axis=1)
        figure.add_scatter(
            x=[*middle, *middle[::-1]], y=[*high, *low[::-1]], fill="toself", mode="lines",
            line_width=0, fillcolor=faded(colour), hoverinfo="skip", showlegend=False,
        )  # fmt: skip
        figure.add_scatter(
            x=middle,
            y=np.median([high, low], axis=0),
            mode="lines+markers",
            name=sign,
            line={"color": colour, "width": 1.5},
            marker={"size": 5},
            customdata=[["", int(a), int(b)] for a, b in ends],
            text=[f"{b:+.3f} to {a:+.3f}" for a, b in zip(high, low, strict=True)],
            hovertemplate="ranks %{customdata[1]:,} to %{customdata[2]:,}<br>gain %{text}"
            "<extra></extra>",
        )


def _interval_band(figure: go.Figure, table: pd.DataFrame, mode: Mode) -> None:
    """The median ends of the gains' intervals along the ranks: how sure such a gain is."""
    places = np.array_split(np.arange(len(table)), _BUCKETS // 4)
    bounds = table[["gain_low", "gain_high"]].to_numpy()
    low, high = np.array([np.median(bounds[part], axis=0) for part in places]).T
    middle = [float(part.mean()) + 1 for part in places]
    figure.add_scatter(
        x=[*middle, *middle[::-1]], y=[*high, *low[::-1]], fill="toself", mode="lines",
        line_width=0, fillcolor=faded(METHODS[mode][""]), hoverinfo="skip",
        name="median 95 % interval",
    )  # fmt: skip


def _extremes(count: int) -> np.ndarray:
    return np.concatenate([np.arange(_EXTREMES), np.arange(count - _EXTREMES, count)])


def _selection(figure: go.Figure, table: pd.DataFrame, mode: Mode, selected: Sequence[str]) -> None:
    """What is chosen of many: a halo behind the line; too many are evenly thinned out."""
    wanted = set(selected)  # pandas' isin takes twenty times as long for so many texts
    held = np.fromiter((i in wanted for i in table["id"].tolist()), bool, len(table))
    places = np.flatnonzero(held)
    drawn = places[np.unique(np.linspace(0, len(places) - 1, _MOST_DRAWN).astype(int))]
    rows = table.iloc[drawn]
    few = f", {len(drawn):,} drawn" if len(drawn) < len(places) else ""
    figure.add_scatter(
        x=drawn + 1, y=rows["gain"], mode="markers", name=f"selected ({len(places):,}{few})",
        marker={"color": METHODS[mode][""], "size": 14, "opacity": 0.35},
        customdata=np.column_stack([rows["id"], _short(rows["id"])]),
        hovertemplate="gain %{y:+.3f}, rank %{x}<extra>%{customdata[1]}</extra>",
    )  # fmt: skip


def _top(figure: go.Figure, table: pd.DataFrame, mode: Mode, top: int) -> None:
    """A shade over the ranks up to K, and the gain at which they end."""
    top = min(top, len(table))
    grey = METHODS[mode][""]
    figure.add_vrect(
        x0=0.5, x1=top + 0.5, line_width=0, fillcolor=faded(grey), layer="below", opacity=0.6
    )
    right = top > len(table) / 2
    figure.add_vline(
        x=top + 0.5, line={"color": grey, "dash": "dot", "width": 1.5},
        annotation={
            "text": f"K = {top:,}, gain {table['gain'].iloc[top - 1]:+.3f}",
            "xanchor": "right" if right else "left", "yanchor": "top", "y": 1, "yref": "paper",
        },
    )  # fmt: skip


def uncertain(table: pd.DataFrame) -> np.ndarray:
    """(n,) whether the 95 % interval of the gain holds 0; without intervals nowhere."""
    if "gain_low" not in table:
        return np.zeros(len(table), dtype=bool)
    return ((table["gain_low"] < 0) & (table["gain_high"] > 0)).to_numpy(dtype=bool)


def _share(gains: pd.Series) -> str:
    helping = int((gains > 0).sum())
    return f"{helping / len(gains):.1%} of {len(gains):,} negatives"


def _short(texts: pd.Series) -> list[str]:
    """For hover: one line, markup shown as it is written."""
    return [literal(text) for text in texts.str.slice(0, 90).str.replace("\n", " ")]
