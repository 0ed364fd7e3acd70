"""Which samples are selected: by id, the same for the pictures, the table, Sample and Impact.

The session holds `chosen` (ids), `sample` (the one read in full), `slice` (the saved selection it
is, if it is one) and `origin` (where it was made). The browser draws its own box; what was chosen
elsewhere is told to the rank plot as `told`, which a selection in that plot leaves as it was:
a changed figure would lose the box and the zoom.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import streamlit as st

from app.gain_table import Gains

_PICTURES = ("rank", "bars")


def begin(sha256: str) -> None:
    """Before a page: a selection of another set of negatives is none here."""
    state = st.session_state
    if state.get("chosen_of") != sha256:
        state.update(chosen_of=sha256, chosen=[], told=[], origin="")


def settle(name: str, measure: str, gains: Gains) -> None:
    """After `begin`, for the pictures of a run; a link to a sample selects it.

    What was selected on the same set stays, and is told to the new pictures.
    """
    state = st.session_state
    if state.get("linked_of") != (name, measure):
        for picture in _PICTURES:
            state[f"{picture}_drawn"] = state.get(f"{picture}_drawn", 0) + 1
        origin = "" if state["origin"] in _PICTURES else state["origin"]
        state.update(linked_of=(name, measure), told=state["chosen"], origin=origin)
    if not state["chosen"] and state.get("sample") in gains.places:
        state.update(chosen=[state["sample"]], told=[state["sample"]], origin="link")
    if state.get("sample") is None:
        state["sample"] = next(iter(state["chosen"]), None)


def choose(ids: Sequence[str], origin: str, *, key: str | None = None) -> None:
    """Selects these.

    Args:
        ids: in the order in which the arrows go through them.
        origin: rank, bars, table, top, listed or slice.
        key: of the slice that they are.
    """
    state = st.session_state
    before = state["origin"]
    if before in _PICTURES and before != origin:  # its box no longer tells what is selected
        state[f"{before}_drawn"] += 1
    state.update(chosen=list(ids), origin=origin, slice=key, sample=next(iter(ids), None))
    if origin != "rank":
        state["told"] = list(ids)


def leading(gains: Gains) -> int:
    """K, the samples of the highest gain that are shaded: as chosen, at first all that help."""
    helping = int((gains.frame["gain"] > 0).sum())
    return int(st.session_state.get("leading", {}).get(gains.key, max(1, helping)))


def lead(gains: Gains, count: int) -> None:
    """Shades so many; what a box in the rank plot had selected is told to the new figure."""
    state = st.session_state
    state["leading"] = {gains.key: count}
    if state.get("origin") == "rank":
        state.update(origin="", told=state["chosen"], rank_drawn=state["rank_drawn"] + 1)


def top(gains: Gains) -> None:
    """Selects those that are shaded."""
    choose(gains.ids(np.arange(leading(gains))), "top")


def picture_key(picture: str) -> str:
    """The key of a picture, new whenever its own selection is to be forgotten."""
    return f"{picture}_{st.session_state[f'{picture}_drawn']}"


def from_rank(event: Any, gains: Gains, *, aggregated: bool) -> None:
    """What a box, a lasso or a click on the rank plot selects."""
    areas = [*event.get("box", []), *event.get("lasso", [])]
    if aggregated and areas:  # its marks stand for many: the samples themselves are asked
        held = np.zeros(len(gains), dtype=bool)
        for area in areas:
            held |= within(gains, area)
        choose(gains.ids(np.flatnonzero(held)), "rank")
        return
    found: list[str] = []
    for point in event["points"]:
        sample, *ranks = point["customdata"]
        found += [sample] if sample else gains.ids(np.arange(int(ranks[0]) - 1, int(ranks[1])))
    choose(gains.ids(np.unique(gains.rows(found))), "rank")  # by rank, not by colour


def from_bars(event: Any, gains: Gains) -> None:
    """What bars of the histogram select: the samples between the ends of each."""
    gain = gains.frame["gain"].to_numpy()
    held = np.zeros(len(gains), dtype=bool)
    for point in event["points"]:
        low, high = map(float, point["customdata"])
        held |= (gain >= low) & (gain <= high)
    choose(gains.ids(np.flatnonzero(held)), "bars")


def from_table(rows: Sequence[int], shown: Sequence[str]) -> None:
    """What ticks in a page of the table select; what is selected on other pages stays.

    Args:
        rows: those ticked, of the page.
        shown: the ids of the page.
    """
    ticked, here = [shown[row] for row in rows if row < len(shown)], set(shown)
    before = st.session_state["chosen"]
    kept = [i for i in before if i not in here or i in ticked]
    added = [i for i in ticked if i not in set(before)]
    read = st.session_state.get("sample")
    choose([*kept, *added], "table")
    if added or read in kept:  # the newest is read
        st.session_state["sample"] = added[-1] if added else read


def within(gains: Gains, area: dict[str, Any]) -> np.ndarray:
    """(n,) which samples lie in a box or a lasso, over rank and gain."""
    xs, ys = np.asarray(area["x"], float), np.asarray(area["y"], float)
    rank, gain = gains.frame["rank"].to_numpy(), gains.frame["gain"].to_numpy()
    inside = (rank >= xs.min()) & (rank <= xs.max()) & (gain >= ys.min()) & (gain <= ys.max())
    if len(xs) == 2:
        return np.asarray(inside)
    crossed = np.zeros(len(gains), dtype=bool)  # even-odd rule: a ray to the right, side by side
    for x0, y0, x1, y1 in zip(xs, ys, np.roll(xs, -1), np.roll(ys, -1), strict=True):
        if y0 != y1:
            crossed ^= ((y0 > gain) != (y1 > gain)) & (
                rank < (x1 - x0) * (gain - y0) / (y1 - y0) + x0
            )
    return np.asarray(inside & crossed)
