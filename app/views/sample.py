"""Sample: one negative sample of a run, for a link to it."""

import streamlit as st

from app import parts, runview, sample
from u2a_core.errors import RunError


def page() -> None:
    """The page."""
    st.title("Sample")
    name = st.session_state.get("run")
    if name is None or st.session_state.get("sample") is None:
        st.info("No sample is chosen. Select one on Gains.")
        st.page_link("views/gains.py", label="Gains", icon=":material/arrow_forward:")
        return
    run = parts.workspace().find(str(name))
    if not run.finished:
        raise RunError(f"{name} must be a finished run; it is {run.status().state}.")
    runview.stale_note(run)
    table = run.table("gains" if run.has_table("gains") else "weights")
    table = table.sort_values("gain", ascending=False, ignore_index=True)
    table["rank"] = table.index + 1
    sample.panel(run, table, [])


parts.guarded(page)
