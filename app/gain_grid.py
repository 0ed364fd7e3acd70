"""The samples as a table: filters, pages of a thousand, ticks that select; and what is exported."""

import hashlib
from collections.abc import Callable

import numpy as np
import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from app import selection, texts
from app.gain_table import Gains
from u2a_core.runs import reviews

PAGE = 1_000
FLAGGED = "flagged by mistake?"
_CUT = 160
_TITLES = {
    "rank": "rank", "gain": "gain", "sign": "sign", "gain_se": "± se",
    "gain_low": "95 % from", "gain_high": "to",
    "weight": "weight ω", "mark": "your mark", "kind": "kind", "response": "negative reply",
    "prompt": "prompt", "id": "id",
}  # fmt: skip


def listed(gains: Gains, row: DeltaGenerator) -> np.ndarray:
    """The filters' widgets, and the places of the samples that they leave, in order."""
    gain = gains.frame["gain"].to_numpy()
    sides: dict[str, Callable[[], np.ndarray]] = {
        "all": lambda: np.arange(len(gains)),
        "helps": lambda: np.flatnonzero(gain > 0),
        "hurts": lambda: np.flatnonzero(gain <= 0),
    }
    if "gain_low" in gains.frame:
        sides["uncertain sign"] = lambda: np.flatnonzero(gains.uncertain)
    sides[FLAGGED] = lambda: gains.flagged
    side = row.segmented_control("Show", list(sides), default="all", key="side") or "all"
    rows = sides.get(side, sides["all"])()
    words = row.text_input("Search in prompt and reply", key="search", width=240)
    kinds = sorted(kind for kind in gains.frame["kind"].unique() if kind)
    picked = row.multiselect("Kind", kinds, key="kinds", width=200) if kinds else []
    return _matching(gains, rows, words, picked)


def _matching(gains: Gains, rows: np.ndarray, words: str, kinds: list[str]) -> np.ndarray:
    """Those of the rows that hold the words and are of the kinds; all without any."""
    frame = gains.frame
    if words:
        held = frame["prompt"].str.contains(words, case=False, regex=False)
        held |= frame["response"].str.contains(words, case=False, regex=False)
        rows = rows[held.to_numpy()[rows]]
    return rows[frame["kind"].isin(kinds).to_numpy()[rows]] if kinds else rows


def grid(gains: Gains, rows: np.ndarray, marks: dict[str, str], *, blurred: bool) -> None:
    """A page of the table; what was selected elsewhere stands first."""
    if not len(rows):
        st.info("No sample matches. Change the filter or the search.")
        return
    page = _page(gains, _in_front(gains, rows))
    ids = gains.ids(page)
    view = _view(gains, page, marks, blurred=blurred)
    order = hashlib.sha256("\n".join(ids).encode()).hexdigest()[:12]
    key = f"table_{order}"
    chosen = set(st.session_state["chosen"])
    ticked = [place for place, i in enumerate(ids) if i in chosen]
    st.session_state[key] = {"selection": {"rows": ticked, "columns": [], "cells": []}}
    number = st.column_config.NumberColumn
    st.dataframe(
        view, key=key, hide_index=True, height=355, selection_mode="multi-row",
        on_select=lambda: selection.from_table(st.session_state[key].selection.rows, ids),
        column_config={
            "gain": number(format="%+.3f", help="positive: unlearning the sample helps"),
            "sign": st.column_config.TextColumn(
                width=90, help="uncertain: the 95 % interval of the gain holds 0"
            ),
            "± se": number(format="%.3f", help="standard error over parts of J's prompts"),
            "95 % from": number(format="%+.3f", help="lower end of the gain's 95 % interval"),
            "to": number(format="%+.3f", help="upper end of the gain's 95 % interval"),
            "weight ω": number(format="%.5f"),
        },
        alt="Samples with their gains; tick rows to select them",
    )  # fmt: skip


def exported(gains: Gains, rows: np.ndarray, marks: dict[str, str]) -> pd.DataFrame:
    """The whole rows, for a file: texts in full, gain with its interval, the mark where one is."""
    table = gains.frame.iloc[rows]
    return table.assign(mark=table["id"].map(marks).fillna("")) if marks else table


def _in_front(gains: Gains, rows: np.ndarray) -> np.ndarray:
    """The rows, those selected in a picture or by a slice first; ticks move no row."""
    state = st.session_state
    if state["origin"] != "table":
        state["front"] = state["chosen"]
    front = np.zeros(len(gains), dtype=bool)
    front[gains.rows(state.get("front", []))] = True
    return np.concatenate([rows[front[rows]], rows[~front[rows]]])


def _page(gains: Gains, rows: np.ndarray) -> np.ndarray:
    """One page of the rows, by its control where there are several."""
    pages = -(-len(rows) // PAGE)
    if pages == 1:
        return rows
    with st.container(horizontal=True, vertical_alignment="center"):
        # another filter has another key, and begins at its first page
        key = f"page_{len(rows)}_{rows[0]}_{hash(gains.key)}"
        number = st.number_input(
            f"Page of {pages}", 1, pages, key=key, width=150, label_visibility="collapsed"
        )
        first = (int(number) - 1) * PAGE
        last = min(first + PAGE, len(rows))
        st.caption(
            f"Page {number} of {pages}: samples {first + 1:,} to {last:,} of {len(rows):,}. "
            "A click on a column's title sorts this page."
        )
    return rows[first:last]


def _view(gains: Gains, page: np.ndarray, marks: dict[str, str], *, blurred: bool) -> pd.DataFrame:
    """The columns of a page as they are read, with texts cut short."""
    table = gains.frame.iloc[page]
    table = table.assign(sign=np.where(table["gain"] > 0, "helps", "hurts"))
    table.loc[gains.uncertain[page], "sign"] = "uncertain"
    if marks:
        table = table.assign(mark=table["id"].map(marks).map(reviews.MARKS).fillna(""))
    bounds = st.session_state.get("side") == FLAGGED  # there they decide the order
    hidden = set() if bounds else {"gain_low", "gain_high"}
    if not table["kind"].any():
        hidden.add("kind")
    names = {name: title for name, title in _TITLES.items() if name in table}
    view = table[[name for name in names if name not in hidden]].rename(columns=names)
    for text in ("negative reply", "prompt"):
        view[text] = texts.masked(view[text].str.slice(0, _CUT), blurred=blurred)
    return view


def export_menu(name: str, gains: Gains, rows: np.ndarray, marks: dict[str, str]) -> None:
    """Files of what is listed and of what is selected."""
    chosen = gains.rows(st.session_state["chosen"])
    with st.popover("Export", icon=":material/download:"):
        for title, part in (("listed", rows), ("selected", chosen)):
            st.caption(f"{len(part):,} {title}, with texts, gain, interval and your marks")
            with st.container(horizontal=True):
                for kind, mime in (("CSV", "text/csv"), ("JSONL", "application/jsonl")):
                    st.download_button(
                        kind, _file(kind, gains, part, marks), f"{name}-{title}.{kind.lower()}",
                        mime, key=f"export_{title}_{kind}", disabled=not len(part),
                        on_click="ignore",
                    )  # fmt: skip
        st.caption("A picture: the camera above it saves a PNG")


def _file(kind: str, gains: Gains, rows: np.ndarray, marks: dict[str, str]) -> Callable[[], str]:
    """Writes the file when it is asked for, not before: it may be large."""

    def write() -> str:
        table = exported(gains, rows, marks)
        if kind == "CSV":
            return str(table.to_csv(index=False))
        return str(table.to_json(orient="records", lines=True, force_ascii=False))

    return write
