"""Compare: two models side by side. Results, settings that differ, replies, votes, own prompts."""

from collections.abc import Callable
from typing import Any

import pandas as pd
import streamlit as st

from app import parts, project, replies, results, tryout, vote
from u2a_core import figures, table
from u2a_core.errors import RunError
from u2a_core.runs import Run

ORIGINAL = "original"
MOST_DRAWN = 20
COLUMNS = {
    "name": "run", "mean": "reward ↑", "steps": "steps kept",
    "effective_samples": "effective samples",
}  # fmt: skip
VIEWS: dict[str, Callable[[replies.Pair], None]] = {
    "Replies side by side": replies.page,
    "Blind vote": vote.page,
    "Your own prompt": tryout.page,
}


def page() -> None:
    """The page."""
    st.title("Compare")
    runs, faults = _finished()
    if not runs:
        st.info("No finished run yet. Launch one on Unlearn, or open the demo on Home.")
        return
    pair = _pair(runs)
    results.left_out(faults)
    alike = table.measured_alike({name: run.report() for name, run in runs.items()}, pair.b)
    parts.guarded(lambda: _results(pair, {name: runs[name] for name in alike}))
    parts.guarded(lambda: _settings(pair))
    _view(pair)
    st.subheader("Rewards")
    parts.guarded(lambda: _rewards(alike, len(runs)))
    parts.guarded(results.costs)


def _finished() -> tuple[dict[str, Run], dict[str, str]]:
    """The finished descents by name; and of those that are damaged, why."""
    space = parts.workspace()
    found = {
        space.identify(run): run
        for run in (*space.runs(), *space.shipped())
        if run.config()["command"] in table.DESCENTS and run.finished
    }
    faults = {name: why for name, run in found.items() if (why := table.fault(run))}
    return {name: run for name, run in found.items() if name not in faults}, faults


def _pair(runs: dict[str, Run]) -> replies.Pair:
    """The two sides, kept in the address; the original model stands on A alone."""
    named = st.session_state.get("run")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        a = _side("A", "a", [ORIGINAL, *runs], ORIGINAL)
        st.button(
            "Swap", icon=":material/swap_horiz:", key="swap", on_click=_swap,
            disabled=a == ORIGINAL,
            help="The original model can stand on side A only" if a == ORIGINAL else "A becomes B",
        )  # fmt: skip
        ours = next((name for name, run in runs.items() if project.has(run)), next(iter(runs)))
        b = _side("B", "b", list(runs), named if named in runs else ours)
        st.session_state["_shown_run"] = b
    if a == b:
        st.info("A and B are the same run: choose another one to see a difference.")
    return replies.Pair(a, b, None if a == ORIGINAL else runs[a], runs[b])


def _swap() -> None:
    """A becomes B, and B becomes A."""
    state = st.session_state
    state["a"], state["b"] = state["side_b"], state["side_a"]


def _side(title: str, key: str, names: list[str], fallback: str) -> str:
    """One side of the comparison, kept in the address."""
    state = st.session_state
    wanted = state.get(key) or fallback
    if wanted not in names:
        _absent(str(wanted), fallback)
        wanted = fallback
    state[f"side_{key}"] = wanted

    def follow() -> None:
        state[key] = state[f"side_{key}"]

    st.selectbox(title, names, key=f"side_{key}", on_change=follow, width="stretch")
    return str(wanted)


def _absent(wanted: str, instead: str) -> None:
    """Why a run of the address is not shown."""
    try:
        run = parts.workspace().find(wanted)
        state = run.status().state
    except RunError:
        why = "is no run of this workspace"
    else:
        finished = "is damaged" if table.fault(run) else "has no model to compare"
        why = finished if run.finished else f"has nothing to compare yet: it is {state}"
    st.warning(f"{parts.plain(wanted[:60])} {why}. {parts.plain(instead)} is shown instead.")


def _results(pair: replies.Pair, alike: dict[str, Run]) -> None:
    """The table with its exports, and the report of both runs as one file."""
    own = {pair.b: pair.ours} if pair.theirs is None else {pair.a: pair.theirs, pair.b: pair.ours}
    with results.page(alike, pair.ours, pair.theirs):
        results.report_button(own)


def _settings(pair: replies.Pair) -> None:
    """The settings in which A and B differ; all of them one click away."""
    if pair.theirs is None or pair.a == pair.b:
        whole = table.settings_table({"B": pair.ours})
        title, some = f"Settings of B ({len(whole)})", whole
    else:
        whole = table.settings_table({"A": pair.theirs, "B": pair.ours})
        some = table.differing(whole)
        differ = "1 setting differs" if len(some) == 1 else f"{len(some)} settings differ"
        title = f"{differ} between A and B, of {len(whole)}"
    with st.expander(title, icon=":material/tune:"):
        if pair.theirs is None:
            st.caption("A is the original model: nothing was set to make it.")
        elif not st.toggle("Only differences", value=True, key="only_differences"):
            some = whole
        if some.empty:
            st.caption("The two were made with the same settings, from the same files.")
            return
        st.dataframe(some, hide_index=True, alt="Settings of A and B")
        parts.download(whole, "settings", key="settings_csv", title="CSV of all settings")


def _view(pair: replies.Pair) -> None:
    """Replies, the vote, or an own prompt."""
    names = list(VIEWS)
    shown = st.segmented_control(
        "View", names, default=names[0], required=True, key="view", bind="query-params",
        label_visibility="collapsed",
    )  # fmt: skip
    VIEWS[str(shown or names[0])](pair)


def _rewards(reports: dict[str, dict[str, Any]], runs: int) -> None:
    """The picture and the table of mean rewards."""
    found = table.rewards_table(reports)
    if found.empty:
        st.info("B had no rewards on test prompts, so there is nothing to rank.")
        return
    st.caption(
        "Filled marks: weights by U2A; hollow: others. Diamond: NPO, triangle: GA, square: "
        "GradDiff, hexagon: DPO, cross: PPO."
        + (f" {runs - len(reports)} runs were measured with another model, other prompts or "
           "another reward: choose one of them as B." if runs > len(reports) else "")
    )  # fmt: skip
    st.plotly_chart(
        figures.rewards(found.head(MOST_DRAWN), parts.mode()), theme=None, key="rewards",
        alt="Mean reward of every run with its 95 % interval",
    )  # fmt: skip
    if len(found) > MOST_DRAWN:
        st.caption(f"The best {MOST_DRAWN} of {len(found)}; the table holds all.")
    with st.expander("Table with intervals, CSV"):
        _rewards_table(found.drop(columns="look").rename(columns=COLUMNS))


def _rewards_table(shown: pd.DataFrame) -> None:
    number = st.column_config.NumberColumn
    st.dataframe(
        shown, hide_index=True, alt="Rewards",
        column_config={
            **{c: number(format="%+.3f") for c in ("reward ↑", "low", "high")},
            **{c: number(format="%.1f") for c in ("effective samples", "seconds")},
            "n": number(help="sampled replies; the interval is a bootstrap over prompts"),
        },
    )  # fmt: skip
    parts.download(shown, "rewards", key="rewards_csv")


parts.guarded(page)
