"""Gains: what unlearning each negative sample is worth; pictures, table and sample in step."""

from collections.abc import Callable

import pandas as pd
import streamlit as st

from app import launching, parts, project, runview, sample, urlstate
from u2a_core import figures
from u2a_core.runs import Run

MOST_ROWS = 1_000
MEASURES = {
    "gain": "at the original model",
    "gain_first_round": "first round, at the original model",
    "gain_accumulated": "summed over all rounds of the reweighting",
}


def page() -> None:
    """The page."""
    st.title("Gains")
    st.caption(
        "The marginal gain Δg of a negative sample is the rate at which the objective J rises as "
        "its unlearning weight grows. Positive: unlearning it helps alignment. Negative: it hurts."
    )
    space = parts.workspace()
    runs = [run for run in (*space.runs(), *space.shipped()) if _has_gains(run)]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        run = runview.pick(
            runs, key="gains",
            empty="No gains yet. Compute them with the button, or open the demo on Home.",
        )  # fmt: skip
        _recompute()
    if run is None:
        return
    if not run.finished:
        runview.live_state(space.identify(run))
        return
    runview.stale_note(run)
    _explore(run)
    st.page_link(
        "views/unlearn.py", label="Next: unlearn with weights", icon=":material/arrow_forward:"
    )


def _has_gains(run: Run) -> bool:
    return run.config()["command"] in ("gains", "reweight")


def _recompute() -> None:
    names = {"demo": "Recompute for the demo", "own": "Compute for my data"}
    launching.button(
        "gains", project.settings(), label=names[project.chosen()], primary=False,
        help="Starts a job; about 15 s for the demo on two cores",
    )  # fmt: skip


def _table(run: Run, measure: str) -> pd.DataFrame:
    """Samples by falling gain: id, gain, kind, prompt, response, and weight where there is one."""
    name = "gains" if run.config()["command"] == "gains" else "weights"
    table = run.table(name)
    for suffix in ("", "_se", "_low", "_high"):
        if f"{measure}{suffix}" in table:
            table[f"gain{suffix}"] = table[f"{measure}{suffix}"]
    table = table.sort_values("gain", ascending=False, ignore_index=True)
    table["rank"] = table.index + 1
    return table


def _explore(run: Run) -> None:
    """Numbers, pictures, table and sample panel of one run."""
    command = run.config()["command"]
    measures = ["gain"] if command == "gains" else ["gain_accumulated", "gain_first_round"]
    measure = measures[0]
    if len(measures) > 1:
        measure = st.segmented_control(
            "Gains", measures, default=measure, format_func=MEASURES.__getitem__, key="measure"
        ) or measure  # fmt: skip
    table = _table(run, measure)
    _numbers(run, table)
    runview.warnings(run)
    linked(parts.workspace().identify(run), measure)


def _numbers(run: Run, table: pd.DataFrame) -> None:
    """What the run says of all samples, each number with its n and its interval."""
    report, row = run.report(), st.container(horizontal=True)
    helps = int((table["gain"] > 0).sum())
    parts.number(row, "Negative samples", f"{len(table):,}", run.settings().inner.method.upper())
    parts.number(
        row, "Help when unlearned", f"{helps / len(table):.1%}", f"{helps} of {len(table)}",
        help="samples with a positive gain, at this model and with these prompts",
    )  # fmt: skip
    if "gain_low" in table:
        unsure = int(_uncertain(table).sum())
        parts.number(
            row, "Uncertain sign", f"{unsure / len(table):.1%}", f"{unsure} of {len(table)}",
            help="the 95 % interval of the gain, over parts of J's prompts, holds 0",
        )  # fmt: skip
    found = report["objective"]
    if "mean" in found:
        parts.number(
            row, "Objective J ↑", f"{found['mean']:+.3f}",
            f"[{found['low']:+.3f}, {found['high']:+.3f}], n = {found['n']}",
            help="at the original model: mean over n prompts, with its 95 % interval",
        )  # fmt: skip
    else:
        parts.number(
            row, "Objective J ↑", f"{found['after']:+.3f}", f"from {found['before']:+.3f}",
            help="at the kept step, on J's own prompts, by which that step was chosen; "
            "Compare has the test prompts, with intervals",
        )  # fmt: skip
    known = report.get("gains") or {}
    if known:
        key = "auc_accumulated" if "auc_accumulated" in known else "auc_first_round"
        low, high = known["intervals"][key]
        parts.number(
            row, "AUC for mislabels", f"{known[key]:.3f}",
            f"[{low:.3f}, {high:.3f}], n = {known['n']}",
            help="How well gains tell real negatives from good replies flagged by mistake: 0.5 = "
            "chance, 1 = perfect; with 95 % interval. The file of truth is read only for this",
        )  # fmt: skip


@st.fragment
def linked(name: str, measure: str) -> None:
    """Pictures ↔ table ↔ sample: the same samples selected, by id."""
    parts.guarded(lambda: _linked(name, measure))


def _linked(name: str, measure: str) -> None:
    run = parts.workspace().find(name)
    table = _table(run, measure)
    state = st.session_state
    if state.get("linked_of") != (name, measure):
        state.update(
            linked_of=(name, measure), chosen=[], ticked=False,
            generation=state.get("generation", 0) + 1,
        )  # fmt: skip
    if not state["chosen"] and state.get("sample") in set(table["id"]):  # a link to one sample
        state.update(chosen=[state["sample"]], ticked=True)
    left, right = st.columns(2)
    left.plotly_chart(
        figures.gain_histogram(table["gain"], parts.mode()), theme=None, key=f"bars_{measure}",
        alt="Histogram of marginal gains; positive helps",
    )  # fmt: skip
    plot = f"rank_{state['generation']}"
    # the browser dims what its own box leaves out; what was ticked elsewhere is told to it
    told = state["chosen"] if state["ticked"] else None
    right.plotly_chart(
        figures.rank_plot(table, parts.mode(), selected=told), theme=None, key=plot,
        on_select=lambda: _from_plot(plot), selection_mode=("points", "box", "lasso"),
        alt="Marginal gain of every sample by rank",
    )  # fmt: skip
    shown = _filtered(table)
    chosen = [i for i in state["chosen"] if i in set(table["id"])]
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(
            f"**Selected {len(chosen)}** of {len(table):,}; listed {len(shown):,}", width="stretch"
        )
        if st.button("Clear", disabled=not chosen, help="Selects none"):
            state.update(
                chosen=[], ticked=False, sample=None, generation=state["generation"] + 1
            )  # fmt: skip
            st.rerun(scope="fragment")
        listed = shown if shown["kind"].any() else shown.drop(columns=["kind"])
        title = f"CSV of {len(shown):,} listed"
        parts.download(listed, f"{name}-gains", key="gains_csv", title=title)
    _grid(shown, chosen)
    sample.panel(run, table, chosen)
    if urlstate.unsaved():  # a fragment runs without the entry, which tells the address
        st.rerun()


def _from_plot(key: str) -> None:
    """What a box, a lasso or a click on the rank plot selects."""
    ids = [point["customdata"][0] for point in st.session_state[key].selection.points]
    st.session_state.update(chosen=ids, sample=ids[0] if ids else None)


def _from_table(key: str, ids: list[str]) -> None:
    """What ticks in the table select; row numbers become ids at once."""
    rows = st.session_state[key].selection.rows
    chosen = [ids[row] for row in rows if row < len(ids)]
    st.session_state.update(chosen=chosen, ticked=True, sample=chosen[0] if chosen else None)


def _filtered(table: pd.DataFrame) -> pd.DataFrame:
    """The rows that the filters leave."""
    side = search = kind = st.container(horizontal=True, vertical_alignment="bottom")
    tests: dict[str, Callable[[pd.DataFrame], pd.Series]] = {
        "all": lambda rows: rows["gain"].notna(),
        "helps": lambda rows: rows["gain"] > 0,
        "hurts": lambda rows: rows["gain"] <= 0,
    }
    if "gain_low" in table:
        tests["uncertain sign"] = _uncertain
    which = side.segmented_control("Show", list(tests), default="all", key="side") or "all"
    words = search.text_input("Search in prompt and reply", key="search", width=320)
    shown = table[tests.get(which, tests["all"])(table)]
    if words:
        text = shown["prompt"].str.cat(shown["response"], sep=" ")
        shown = shown[text.str.contains(words, case=False, regex=False)]
    kinds = sorted(k for k in table["kind"].unique() if k)
    picked = kind.multiselect("Kind", kinds, key="kinds", width=320) if kinds else []
    return shown[shown["kind"].isin(picked)] if picked else shown


def _uncertain(table: pd.DataFrame) -> pd.Series:
    """Where the 95 % interval of the gain holds 0."""
    return (table["gain_low"] < 0) & (table["gain_high"] > 0)


def _grid(shown: pd.DataFrame, chosen: list[str]) -> None:
    """The table; what is selected stands first."""
    if shown.empty:
        st.info("No sample matches. Change the filter or the search.")
        return
    picked = shown["id"].isin(chosen)
    rows = pd.concat([shown[picked], shown[~picked]]).head(MOST_ROWS)
    if len(shown) > MOST_ROWS:
        st.caption(f"The first {MOST_ROWS:,} of {len(shown):,}; the CSV holds all.")
    titles = {"gain_se": "± se", "weight": "weight ω", "response": "negative reply"}
    order = ("rank", "gain", "gain_se", "weight", "kind", "response", "prompt", "id")
    columns = {name: titles.get(name, name) for name in order}
    present = {k: v for k, v in columns.items() if k in rows and (k != "kind" or rows[k].any())}
    view = rows[list(present)].rename(columns=present)
    for text in ("negative reply", "prompt"):
        view[text] = view[text].str.slice(0, 160)
    key = f"table_{st.session_state['generation']}_{hash(tuple(rows['id']))}"
    ids = rows["id"].tolist()
    st.session_state[key] = {
        "selection": {"rows": list(range(int(picked.sum()))), "columns": [], "cells": []}
    }
    st.dataframe(
        view, key=key, hide_index=True, height=320, selection_mode="multi-row",
        on_select=lambda: _from_table(key, ids),
        column_config={
            "gain": st.column_config.NumberColumn(format="%+.3f"),
            "± se": st.column_config.NumberColumn(
                format="%.3f", help="standard error over parts of J's prompts"
            ),
            "weight ω": st.column_config.NumberColumn(format="%.4f"),
        },
        alt="Samples with their gains",
    )  # fmt: skip


parts.guarded(page)
