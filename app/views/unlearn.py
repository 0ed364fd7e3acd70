"""Unlearn: choose method and weights, launch, watch J, losses and weights, stop and resume."""

import math

import pandas as pd
import streamlit as st

from app import export_menu, parts, results, runview, unlearn_form
from u2a_core import figures, jobs, table
from u2a_core.errors import RunError
from u2a_core.report.sections import kept
from u2a_core.runs import Run

NARROW = 340
# of a line of progress that does not tell them; no docstring: Streamlit writes one on the page
_UNMEASURED = dict.fromkeys(("objective", "objective_low", "objective_high"), math.nan)


def page() -> None:
    """The page."""
    st.title("Unlearn")
    form, view = st.columns([2, 3], gap="large")
    with form:
        parts.guarded(unlearn_form.configure)
    with view:
        _watch()


def _watch() -> None:
    """A run's state and pictures."""
    space = parts.workspace()
    runs = [run for run in (*space.runs(), *space.shipped()) if _shown(run)]
    arm = _arm()
    if arm is not None:
        runs.append(arm)
    run = runview.pick(
        runs, key="unlearn", empty="No runs yet. Launch one, or open the demo on Home."
    )
    if run is None:
        return
    name = space.identify(run)
    runview.live_state(name)
    if run.status().state in jobs.ACTIVE:
        _live_pictures(name)
        return
    if run.finished:
        runview.stale_note(run)
        runview.warnings(run)
        _outcome(run, name)
    _pictures(run, name)


def _shown(run: Run) -> bool:
    return run.config()["command"] in ("reweight", "unlearn", "baseline")


def _arm() -> Run | None:
    """The run of an ablation that the address names: those are in no list."""
    space = parts.workspace()
    try:
        run = space.find(str(st.session_state.get("run") or ""))
    except RunError:  # told by the list of runs
        return None
    parent = space.parent(run)
    if parent is None or not _shown(run):
        return None
    if parent.config()["command"] == "ablate":
        st.page_link(
            "views/ablation.py", label="Back to its ablation", icon=":material/arrow_back:",
            query_params={"run": space.identify(parent)},
        )  # fmt: skip
    return run


def _outcome(run: Run, name: str) -> None:
    """What a finished run changed on the test prompts, which step it kept, and why it ended."""
    report = run.report()
    reward = (report.get("reward") or {}).get("difference")
    if reward:
        rose = reward["low"] is not None and reward["low"] > 0
        (st.success if rose else st.info)(
            f"Reward on the test prompts changed by {reward['mean']:+.3f} "
            f"{table.bounds(reward)} (95 %, n = {reward['n']} prompts)."
        )
    told = kept(report)
    st.caption(parts.plain(f"{told[0].upper()}{told[1:]}; ended: {report['ended']}."))
    st.page_link(
        "views/compare.py", label="Compare replies before and after", icon=":material/compare:",
        query_params={"a": "original", "b": name, "run": name},
    )  # fmt: skip
    with st.container(horizontal=True):
        results.report_button({name: run})
        export_menu.menu(run)


@st.fragment(run_every=3)
def _live_pictures(name: str) -> None:
    """The pictures of a run at work, redrawn every three seconds unless paused."""
    parts.guarded(lambda: _live(name))


def _live(name: str) -> None:
    state = st.session_state
    if not st.toggle("Pause updates", key="pause") or state.get("paused_of") != name:
        run = parts.workspace().find(name)
        state.update(paused_of=name, paused=(_history(run), _path(run)))
    history, path = state["paused"]
    _curves(history, name)
    _weights(path, name)


def _history(run: Run) -> pd.DataFrame:
    """Measurements so far: from the table, or while there is none from the progress."""
    rows = {p.values["step"]: {**_UNMEASURED, **p.values}
            for p in run.progress() if math.isfinite(p.values.get("step", math.nan))}  # fmt: skip
    return pd.DataFrame(list(rows.values()))


def _path(run: Run) -> pd.DataFrame | None:
    """The weights of each round so far, where the run chooses them."""
    if run.config()["command"] != "reweight" or not run.has_table("weight_path"):
        return None
    return run.table("weight_path")


def _pictures(run: Run, name: str) -> None:
    """The pictures of a run at rest, with the path of its weights."""
    _curves(run.table("history") if run.finished else _history(run), name)
    _weights(_path(run), name)


def _weights(path: pd.DataFrame | None, name: str) -> None:
    if path is not None:
        st.plotly_chart(
            figures.weight_path(path, parts.mode()), theme=None, key=f"path_{name}",
            alt="Path of the weights over the rounds",
        )  # fmt: skip


def _curves(history: pd.DataFrame, name: str) -> None:
    if history.empty:
        st.caption("The first measurement of J is not there yet.")
        return
    mode = parts.mode()
    st.plotly_chart(
        figures.objective_curves({name: history}, mode), theme=None, key=f"j_{name}",
        alt="Objective J against inner steps, with its 95 % band",
    )  # fmt: skip
    pair, bare = st.container(horizontal=True), {"displayModeBar": False}
    pair.plotly_chart(
        figures.loss_curves(history, mode), theme=None, key=f"loss_{name}", width=NARROW,
        config=bare, alt="Loss of the negatives and of the retain set against inner steps",
    )  # fmt: skip
    if "effective_samples" not in history:  # a baseline's
        return
    pair.plotly_chart(
        figures.effective_samples(history, mode), theme=None, key=f"eff_{name}",
        width=NARROW, config=bare, alt="Effective number of samples against inner steps",
    )  # fmt: skip
    if history["effective_samples"].nunique() > 1:
        st.caption(
            "The NLL of the negatives is weighted by ω, which moves: it also falls where weight "
            "goes to replies that the model finds likelier."
        )


parts.guarded(page)
