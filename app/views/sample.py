"""Sample: one negative sample of a run, for a link to it."""

import streamlit as st

from app import gain_table, parts, runview, sample, texts
from u2a_core.errors import RunError


def page() -> None:
    """The page."""
    st.title("Sample")
    state = st.session_state
    if state.get("run") is None or state.get("sample") is None:
        st.info("No sample is chosen. Select one on Gains.")
        st.page_link("views/gains.py", label="Gains", icon=":material/arrow_forward:")
        return
    name = str(state["run"])
    run = parts.workspace().find(name)
    if not run.finished:
        raise RunError(f"{name} must be a finished run; it is {run.status().state}.")
    if not (run.has_table("gains") or run.has_table("weights")):
        raise RunError(f"{name} must be a run with gains; it is of u2a {run.config()['command']}.")
    runview.stale_note(run)
    measure = gain_table.measures(run)[0]
    gains = gain_table.of(run, measure)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.page_link(
            "views/gains.py", label=f"All samples of {parts.plain(name)}",
            icon=":material/arrow_back:", query_params={"run": name, "sample": state["sample"]},
            width="stretch",
        )  # fmt: skip
        sha256 = str(run.report()["data"]["negatives_sha256"])
        blurred = texts.blur_switch(sha256, key="blur_sample")
    chosen = [i for i in state.get("chosen", []) if i in gains.places]
    if state["sample"] in chosen:
        sample.panel(run, gains, chosen, of="selected", blurred=blurred)
    else:
        sample.panel(run, gains, list(gains.places), of="by rank", blurred=blurred)


parts.guarded(page)
