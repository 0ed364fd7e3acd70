"""What a job needs of the memory, part by part, against what is free."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from u2a_core.figures.style import HURTS, Mode, frame

PARTS = {
    "light": {
        "program": "#A9A49E", "weights": "#0072B2", "adapter": "#00507D",
        "reward model": "#56B4E9", "copies of the weights": "#CC79A7", "optimizer": "#8F4A75",
        "gain directions": "#E3B23C", "gradients": "#8A6D00", "activations": "#009E73",
        "logits": "#6FCBAE", "generation cache": "#6A51A3", "allocator": "#D3CFC9",
        "dequantized weights": "#7FA8C9",
    },
    "dark": {
        "program": "#6F6A65", "weights": "#56B4E9", "adapter": "#A5D8F5",
        "reward model": "#1B7CB5", "copies of the weights": "#E39CC4", "optimizer": "#A6608A",
        "gain directions": "#E6C84B", "gradients": "#A08A2E", "activations": "#3FC79A",
        "logits": "#1E7F61", "generation cache": "#B3A2E0", "allocator": "#4A4642",
        "dequantized weights": "#2F5D80",
    },
}  # fmt: skip
_GIB = 2**30
_ROW, _REST = 46, 170


def memory_bars(
    needs: Mapping[str, Sequence[tuple[str, int]]],
    *,
    free: int,
    margin: float,
    title: str,
    mode: Mode,
) -> go.Figure:
    """One stacked bar a command, with the margin of its sum, and a line where memory ends.

    Args:
        needs: command → parts by name with their bytes.
        free: bytes that a job can have.
        margin: share by which a sum may differ.
        title: the finding.
        mode: light or dark.
    """
    figure = frame(mode, title=title, x="", y="", height=_REST + _ROW * len(needs))
    sums = {name: sum(size for _, size in parts) / _GIB for name, parts in needs.items()}
    _bars(figure, needs, mode)
    _margins(figure, sums, margin)
    largest = max(sums.values(), default=0.0) * (1 + margin)
    limit = free / _GIB
    shown = limit <= 2.5 * largest  # farther away the bars would be slivers
    if shown:
        _limit(figure, limit, HURTS[mode], right=limit < 0.5 * largest)
    span = 1.04 * max(largest, limit if shown else 0.0)
    return figure.update_layout(
        barmode="stack",
        xaxis={"range": [0, span], "zeroline": False, "ticksuffix": " GiB", "nticks": 6},
        yaxis={"autorange": "reversed", "showgrid": False, "ticks": ""},
        legend={"y": -0.3, "yanchor": "top", "traceorder": "normal"},
        margin={"l": 80, "t": 62, "b": 104},
        hovermode="closest",
    )


def _bars(figure: go.Figure, needs: Mapping[str, Sequence[tuple[str, int]]], mode: Mode) -> None:
    names = list(needs)
    for part, colour in PARTS[mode].items():
        values = [dict(needs[name]).get(part, 0) / _GIB for name in names]
        if any(values):
            figure.add_bar(
                y=names, x=values, name=part, orientation="h", marker_color=colour,
                marker_line_width=0, width=0.56,
                hovertemplate="%{y}: " + part + " %{x:.2f} GiB<extra></extra>",
            )  # fmt: skip


def _margins(figure: go.Figure, sums: Mapping[str, float], margin: float) -> None:
    """How far each sum may be off."""
    ink = figure.layout.font.color
    figure.add_scatter(
        y=list(sums), x=list(sums.values()), mode="markers", showlegend=False,
        marker={"size": 1, "color": ink},
        error_x={
            "type": "data", "array": [margin * value for value in sums.values()],
            "thickness": 1.5, "width": 5, "color": ink,
        },
        hovertemplate="%{y}: %{x:.2f} GiB" + f" ±{margin:.0%}<extra></extra>",
    )  # fmt: skip


def _limit(figure: go.Figure, limit: float, colour: str, *, right: bool) -> None:
    """The line where the memory ends."""
    figure.add_vline(x=limit, line={"color": colour, "width": 2, "dash": "dash"})
    figure.add_annotation(
        x=limit, y=1, yref="paper", yanchor="bottom", showarrow=False,
        xanchor="left" if right else "right", text=f"free: {limit:.1f} GiB", font={"color": colour},
    )  # fmt: skip
