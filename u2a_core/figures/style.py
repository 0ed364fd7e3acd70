"""How every figure looks: colours, marks and lines of methods, axes and margins."""

from __future__ import annotations

from typing import Literal, TypeAlias

import plotly.graph_objects as go

Mode: TypeAlias = Literal["light", "dark"]

HELPS = {"light": "#0072B2", "dark": "#56B4E9"}
HURTS = {"light": "#D55E00", "dark": "#F0883E"}
METHODS = {
    "light": {
        "ga": "#8A6D00", "graddiff": "#009E73", "npo": "#CC79A7", "simnpo": "#A6408C",
        "dpo": "#6A51A3", "ppo": "#1B7F8C", "retrain": "#7A4B3A", "": "#6B6B6B",
    },
    "dark": {
        "ga": "#E6C84B", "graddiff": "#3FC79A", "npo": "#E39CC4", "simnpo": "#D98CC6",
        "dpo": "#B3A2E0", "ppo": "#6CC5D1", "retrain": "#C79A86", "": "#B8B4AE",
    },
}  # fmt: skip
_SYMBOLS = {
    "ga": "triangle-up", "graddiff": "square", "npo": "diamond", "simnpo": "diamond-tall",
    "dpo": "hexagon", "ppo": "cross", "retrain": "x", "": "circle",
}  # fmt: skip
_INK = {
    "light": {"text": "#2f2d2b", "grid": "#E6E4E0", "zero": "#8A8580"},
    "dark": {"text": "#edebe8", "grid": "#34312D", "zero": "#8F8A84"},
}
_FONT = "Source Sans, system-ui, sans-serif"
_HEIGHT = 370


def frame(mode: Mode, *, title: str, x: str, y: str, height: int = _HEIGHT) -> go.Figure:
    """An empty figure with its title and axes; all others are drawn into one."""
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
            "margin": {"l": 60, "r": 16, "t": 66, "b": 48},
            "hoverlabel": {"font": {"size": 12}, "align": "left"},
            "legend": {"orientation": "h", "y": 1.01, "x": 0, "yanchor": "bottom"},
            "xaxis": axis | {"title": {"text": x}, "zeroline": False},
            "yaxis": axis | {"title": {"text": y}},
            "modebar": {
                "bgcolor": "rgba(0,0,0,0)",
                "color": ink["zero"],
                # the wheel and a double click do the same; so few leave the title to be read
                "remove": ["zoomIn2d", "zoomOut2d", "autoScale2d"],
            },
            "uirevision": "kept",
        }
    )  # fmt: skip


def identity(name: str, mode: Mode) -> tuple[str, str, str]:
    """Symbol, colour and dash of a run's method, the same on every page."""
    words = name.lower().replace("_", "-").split("-")
    method = next((m for m in _SYMBOLS if m and m in words), "")
    ours = "u2a" in words
    dash = "solid" if ours else ("dot" if "random" in words else "dash")
    symbol = _SYMBOLS[method] + ("" if ours or not method else "-open")
    return symbol, METHODS[mode][method], dash


def literal(text: str) -> str:
    """A text of the user's in plotly's titles, labels and hovers: shown as it is written."""
    return text.replace("&", "&amp;").replace("<", "&lt;")


def faded(colour: str) -> str:
    """The colour of a band around a line of this colour."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.18)"
