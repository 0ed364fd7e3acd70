"""Gains: what unlearning each negative sample is worth; pictures, table and sample in step."""

from collections.abc import Callable

import pandas as pd
import streamlit as st

from app import parts, urlstate
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
    top, button = st.columns([4, 1], vertical_alignment="bottom")
    with top:
        run = parts.pick_run(runs, key="gains", title="Run")
    with button:
        _recompute()
    if run is None:
        st.info("No gains yet. Compute them with the button above, or open the demo on Home.")
        return
    if not run.finished:
        parts.live_state(space.identify(run))
        return
    parts.stale_note(run)
    _explore(run)


def _has_gains(run: Run) -> bool:
    return run.config()["command"] in ("gains", "reweight")


def _recompute() -> None:
    project = parts.chosen_project()
    names = {"demo": "Recompute for the demo", "own": "Compute for my data"}
    if st.button(names[project], help="Starts a job; about 15 s for the demo on two cores"):
        parts.launch("gains", parts.project())
        st.rerun()


def _table(run: Run, measure: str) -> pd.DataFrame:
    """Samples by falling gain: id, gain, kind, prompt, response, and weight where there is one."""
    name = "gains" if run.config()["command"] == "gains" else "weights"
    table = run.table(name)
    table["gain"] = table[measure]
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
    linked(parts.workspace().identify(run), measure)


def _numbers(run: Run, table: pd.DataFrame) -> None:
    report = run.report()
    helps = int((table["gain"] > 0).sum())
    count = share = objective = auc = st.container(horizontal=True)
    count.metric("Negative samples", f"{len(table):,}", border=True, width=212)
    share.metric(
        "Help when unlearned", f"{helps / len(table):.0%}", border=True, width=212,
        help=f"{helps} of {len(table)} have a positive gain, at this model and with these prompts",
    )  # fmt: skip
    found = report["objective"]
    if "mean" in found:
        half = (found["high"] - found["low"]) / 2
        objective.metric(
            "J before", f"{found['mean']:+.3f} ± {half:.3f}", border=True, width=212,
            help=f"mean and 95 % interval over n = {found['n']} prompts",
        )  # fmt: skip
    else:
        objective.metric(
            "J at the kept step", f"{found['after']:+.3f}", border=True, width=212,
            help=f"before: {found['before']:+.3f}; on J's own prompts, by which the step was "
            "chosen. For the test prompts see Compare",
        )  # fmt: skip
    known = report.get("gains") or {}
    if known:
        key = "auc_accumulated" if "auc_accumulated" in known else "auc_first_round"
        low, high = known["intervals"][key]
        auc.metric(
            "Finds the mislabelled (AUC)", f"{known[key]:.3f}", border=True, width=212,
            help=f"95 % [{low:.3f}, {high:.3f}], n = {known['n']}; from the demo's file of truth, "
            "which no gain has seen; 0.5 = chance, 1 = perfect",
        )  # fmt: skip


@st.fragment
def linked(name: str, measure: str) -> None:
    """Pictures ↔ table ↔ sample: the same samples selected, by id."""
    run = parts.workspace().find(name)
    table = _table(run, measure)
    state = st.session_state
    if state.get("linked_of") != (name, measure):
        state.update(
            linked_of=(name, measure), chosen=[], generation=state.get("generation", 0) + 1
        )
    left, right = st.columns(2)
    left.plotly_chart(
        figures.gain_histogram(table["gain"], parts.mode()), theme=None, key=f"bars_{measure}",
        alt="Histogram of marginal gains; positive helps",
    )  # fmt: skip
    plot = f"rank_{state['generation']}"
    right.plotly_chart(
        figures.rank_plot(table, parts.mode()), theme=None, key=plot,
        on_select=lambda: _from_plot(plot), selection_mode=("points", "box", "lasso"),
        alt="Marginal gain of every sample by rank",
    )  # fmt: skip
    shown = _filtered(table)
    chosen = [i for i in state["chosen"] if i in set(table["id"])]
    say, clear, save = st.columns([6, 1, 1], vertical_alignment="center")
    say.markdown(f"**Selected {len(chosen)}** of {len(table):,}; listed {len(shown):,}")
    if clear.button("Clear", disabled=not chosen, width="stretch"):
        state.update(chosen=[], sample=None, generation=state["generation"] + 1)
        st.rerun(scope="fragment")
    with save:
        parts.download(shown.drop(columns=["rank"]), f"{name}-gains", key="gains_csv")
    _grid(shown, chosen)
    _sample(table, chosen)
    urlstate.save()  # a fragment runs without the entry, which saves else


def _from_plot(key: str) -> None:
    """What a box, a lasso or a click on the rank plot selects."""
    ids = [point["customdata"][0] for point in st.session_state[key].selection.points]
    st.session_state.update(chosen=ids, sample=ids[0] if ids else None)


def _from_table(key: str, ids: list[str]) -> None:
    """What ticks in the table select; row numbers become ids at once."""
    rows = st.session_state[key].selection.rows
    chosen = [ids[row] for row in rows if row < len(ids)]
    st.session_state.update(chosen=chosen, sample=chosen[0] if chosen else None)


def _filtered(table: pd.DataFrame) -> pd.DataFrame:
    """The rows that the filters leave."""
    side, search, kind = st.columns([2, 3, 2], vertical_alignment="bottom")
    tests: dict[str, Callable[[pd.Series], pd.Series]] = {
        "all": lambda gain: gain.notna(),
        "helps": lambda gain: gain > 0,
        "hurts": lambda gain: gain <= 0,
    }
    which = side.segmented_control("Show", list(tests), default="all", key="side") or "all"
    words = search.text_input("Search in prompt and reply", key="search")
    shown = table[tests[which](table["gain"])]
    if words:
        text = shown["prompt"].str.cat(shown["response"], sep=" ")
        shown = shown[text.str.contains(words, case=False, regex=False)]
    kinds = sorted(k for k in table["kind"].unique() if k)
    picked = kind.multiselect("Kind", kinds, key="kinds") if kinds else []
    return shown[shown["kind"].isin(picked)] if picked else shown


def _grid(shown: pd.DataFrame, chosen: list[str]) -> None:
    """The table; what is selected stands first."""
    if shown.empty:
        st.info("No sample matches. Change the filter or the search.")
        return
    picked = shown["id"].isin(chosen)
    rows = pd.concat([shown[picked], shown[~picked]]).head(MOST_ROWS)
    if len(shown) > MOST_ROWS:
        st.caption(f"The first {MOST_ROWS:,} of {len(shown):,}; the CSV holds all.")
    columns = {"rank": "rank", "gain": "gain", "weight": "weight ω", "kind": "kind",
               "response": "negative reply", "prompt": "prompt", "id": "id"}  # fmt: skip
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
            "weight ω": st.column_config.NumberColumn(format="%.4f"),
        },
        alt="Samples with their gains",
    )  # fmt: skip


def _sample(table: pd.DataFrame, chosen: list[str]) -> None:
    """One sample in full, with arrows through the selection."""
    state = st.session_state
    if state.get("sample") is None:
        st.caption(
            "Select samples by box or click in the plot, or tick rows, to read them in full."
        )
        return
    found = table[table["id"] == state["sample"]]
    if found.empty:
        st.warning(f"No sample {str(state['sample'])[:40]!r} in this run. Select one above.")
        return
    row = found.iloc[0]
    among = chosen if state["sample"] in chosen else [state["sample"]]
    place = among.index(state["sample"])
    with st.container(border=True, width=212):
        title, back, on = st.columns([8, 1, 1], vertical_alignment="center")
        title.markdown(
            f"**Sample {parts.plain(str(row['id']))}**: gain {row['gain']:+.3f}, "
            f"rank {row['rank']} of {len(table)}, {place + 1} of {len(among)} selected"
        )
        if back.button("←", disabled=place == 0, key="back", help="previous", width="stretch"):
            state["sample"] = among[place - 1]
            st.rerun()
        if on.button("→", disabled=place + 1 == len(among), key="on", help="next", width="stretch"):
            state["sample"] = among[place + 1]
            st.rerun()
        asked, replied, facts = st.columns([4, 4, 2])
        with asked:
            st.caption("Prompt")
            parts.text_box(row["prompt"])
        with replied:
            st.caption("Negative reply")
            parts.text_box(row["response"])
        with facts:
            st.caption("Measured")
            lines = [f"gain {row['gain']:+.4f}", f"helps: {'yes' if row['gain'] > 0 else 'no'}"]
            lines += [f"NLL {row['nll']:.3f} nat per token"] if "nll" in row else []
            lines += [f"weight ω {row['weight']:.5f}"] if "weight" in row else []
            st.markdown("  \n".join(lines))


parts.guarded(page)
