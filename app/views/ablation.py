"""Ablation: which negatives to unlearn and how many, over seeds; live, arm by arm."""

from typing import Any

import pandas as pd
import streamlit as st

from app import ablation_form, ablation_view, parts, runview, urlstate
from u2a_core import ablation, jobs
from u2a_core.runs import Run


def page() -> None:
    """The page."""
    st.title("Ablation")
    st.caption(
        "Does it matter which negatives are unlearned? The K with the largest gains against K at "
        "random, the K smallest, the K that the reward likes least, all of them, and U2A's "
        "weights: the same budget and stopping rule for each, repeated over seeds."
    )
    form, view = st.columns([1, 2], gap="medium")
    with form:
        parts.guarded(ablation_form.configure)
    with view:
        _watch()


def _watch() -> None:
    """An ablation's state, its findings and its pictures."""
    space = parts.workspace()
    runs = [run for run in space.runs() if run.config()["command"] == "ablate"]
    run = runview.pick(
        runs, key="ablation",
        empty="No ablation yet. Launch one with the form: the picture fills in arm by arm.",
    )  # fmt: skip
    if run is None:
        return
    name = space.identify(run)
    runview.live_state(name)
    if run.status().state in jobs.ACTIVE:
        _live_pictures(name)
        return
    if run.finished:
        runview.stale_note(run)
        _numbers(run.report())
        ablation_view.notes(run.report())
    _pictures_at_rest(name)


def _numbers(report: dict[str, Any]) -> None:
    """K*, the original model, and how much was run."""
    row = st.container(horizontal=True)
    parts.number(
        row, "Runs", f"{report['arms']}",
        f"{report['method'].upper()}, {report['seeds']} seed{'s' * (report['seeds'] > 1)}, "
        f"{report['negatives']} negatives",
    )  # fmt: skip
    parts.number(
        row, "K*", str(report["best_k"] or "–"), "Top-K with the largest J",
        help="chosen by J on the preference prompts, never by the reward on the test prompts",
    )  # fmt: skip
    for metric, title in (("reward", "reward ↑"), ("objective", "J ↑")):
        original = report["original"].get(metric)
        if not original or original["mean"] is None:
            continue
        low, high = original["low"], original["high"]
        known = pd.notna(low)
        parts.number(
            row, f"Original model, {title}", f"{original['mean']:+.3f}",
            f"[{low:+.3f}, {high:+.3f}], n = {original['n']} seeds" if known else "one seed",
        )  # fmt: skip
        return


@st.fragment(run_every=3)
def _live_pictures(name: str) -> None:
    """The pictures of an ablation at work, redrawn when an arm has ended, unless paused."""
    parts.guarded(lambda: _live(name))
    if urlstate.unsaved():
        st.rerun()


def _live(name: str) -> None:
    state, run = st.session_state, parts.workspace().find(name)
    paused = st.toggle("Pause updates", key="ablation_pause")
    ended = _ended(run)
    if state.get("ablation_of") != name or (not paused and state.get("ablation_ended") != ended):
        state.update(ablation_of=name, ablation_ended=ended, ablation_rows=ablation.collect(run))
    rows = state["ablation_rows"]
    planned = len(run.table("plan")) if run.has_table("plan") else 0
    if rows.empty:
        st.caption("No arm is finished yet. Gains are scored first, once a seed.")
        return
    scored = int((run.table("plan")["arm"] == "gains").sum())
    st.caption(
        f"Partial: {len(rows)} of {planned - scored} arms are finished. Bands are over the seeds "
        "so far; lines and ranks will change."
    )
    ablation_view.show(name, rows)


def _ended(run: Run) -> int:
    """How many arms have ended; cheap, to tell whether anything is new."""
    failures = len(run.table("failures")) if run.has_table("failures") else 0
    return len(list(run.path.glob("arms/*/report.json"))) + failures


@st.fragment
def _pictures_at_rest(name: str) -> None:
    """The pictures; a click redraws them alone."""
    parts.guarded(lambda: _at_rest(name))
    if urlstate.unsaved():
        st.rerun()


def _at_rest(name: str) -> None:
    run = parts.workspace().find(name)
    rows = run.table("ablation") if run.has_table("ablation") else ablation.collect(run)
    if rows.empty:
        st.info("No arm of this ablation was finished. Resume it, or launch another.")
        return
    if not run.finished:
        st.caption(f"Partial: the {len(rows)} arms that were finished.")
    ablation_view.show(name, rows)


parts.guarded(page)
