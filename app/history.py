"""The runs that are at rest, on Home: searched, filtered, opened, duplicated, deleted together."""

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import streamlit as st

from app import drafts, outcomes, parts, project, runview, urlstate
from u2a_core import jobs
from u2a_core.config import there
from u2a_core.errors import U2AError
from u2a_core.runs import Run

FEW = 8
"""Runs shown at first, and more with each press of the button."""
PAGES = {
    "gains": "gains", "impact": "impact", "demo": "compare", "evaluate": "compare",
    "reproduce": "compare", "ablate": "ablation",
}  # fmt: skip
"""Where a run of a command is shown; the others on Unlearn."""
_UNITS = ("B", "KiB", "MiB", "GiB")


def page_of(run: Run) -> str:
    """Where a run is shown."""
    return f"views/{PAGES.get(run.config()['command'], 'unlearn')}.py"


def show() -> None:
    """The list, newest first."""
    space = parts.workspace()
    st.subheader("Recent runs")
    runs = [run for run in space.runs() if run.status().state not in jobs.ACTIVE]
    if not runs:
        st.caption(
            f"No ended runs in {parts.plain(str(space.folder))} yet. The demo's runs ship with "
            "the workbench: open it above, or launch one on the Unlearn page."
        )
    else:
        _list(runs)
    strange = space.unreadable()
    if strange:
        st.caption(
            "Not shown, because damaged or written by another version of u2a: "
            f"{parts.plain(', '.join(strange))}."
        )


def _list(runs: list[Run]) -> None:
    row = st.container(horizontal=True, vertical_alignment="bottom")
    with row:
        found = _filtered(runs)
    if not found:
        st.caption("No run matches. Change the search or the filter.")
    many = int(st.session_state.setdefault("recent_many", FEW))
    listed = found[:many]
    with row:
        _delete_ticked(listed)
    for run in listed:
        parts.guarded(partial(_line, run))
    if len(found) > many:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.caption(f"{many} of {len(found)} runs", width="content")
            st.button("Show more", on_click=_more)


def _more() -> None:
    st.session_state["recent_many"] += 4 * FEW


def _filtered(runs: list[Run]) -> list[Run]:
    """Those that the search and the filters leave."""
    commands = sorted({run.config()["command"] for run in runs})
    words = st.text_input(
        "Search", key="recent_search", placeholder="name, model or outcome", width=260,
        icon=":material/search:",
    )  # fmt: skip
    chosen = st.pills(
        "Command", commands, selection_mode="multi", key="recent_commands", width="content",
        format_func=parts.plain,
    )  # fmt: skip
    found = [run for run in runs if not chosen or run.config()["command"] in chosen]
    if not words.strip():
        return found
    return [run for run in found if words.strip().lower() in _text(run)]


def _text(run: Run) -> str:
    """What a search looks through."""
    state = run.status().state
    told = f"{parts.workspace().identify(run)} {of(run)} {state} {_told(run)}"
    return told.replace("\\", "").lower()


def _told(run: Run) -> str:
    """What came out of a run; of a damaged one, that it is."""
    try:
        return outcomes.told(run)
    except (U2AError, KeyError, TypeError, AttributeError):
        return "its report is damaged"


def of(run: Run) -> str:
    """Which project and model a run is of, in a few words."""
    whose = project.of(run)
    try:
        model = run.settings().model.path
    except U2AError:  # told where the run is opened
        return parts.plain(whose)
    named = Path(model).name if there(Path(model)) else model
    return parts.plain(f"{whose} › {named[-40:] or 'no model'}")


def _line(run: Run) -> None:
    """A run with its state, what is to be said of it, and a link to where it is shown."""
    name = parts.workspace().identify(run)
    tick, link, whose, state, words, age, size, more = st.columns(
        [0.35, 2.6, 1.9, 1.2, 3.2, 1, 0.9, 0.7], vertical_alignment="center"
    )
    tick.checkbox(f"Select {parts.plain(name)}", key=_tick(name), label_visibility="collapsed")
    link.page_link(page_of(run), label=parts.plain(name), query_params={"run": name})
    whose.caption(of(run))
    state.markdown(runview.MARKS[run.status().state])
    age.caption(parts.age(run.progress_time()))
    size.caption(bytes_in_words(_size(str(run.path), run.progress_time())))
    if run.config()["command"] in drafts.FORMS and more.button(
        ":material/content_copy:", key=f"copy_{name}", type="tertiary",
        help=f"Duplicate {parts.plain(name)} with changes",
    ):  # fmt: skip
        page = drafts.duplicate(run)
        st.switch_page(f"views/{page}.py", query_params=urlstate.choices())
    words.caption(_told(run) or " ")


def _delete_ticked(listed: Sequence[Run]) -> None:
    """Deletes the runs that are ticked, once it is confirmed."""
    space = parts.workspace()
    ticked = [run for run in listed if st.session_state.get(_tick(space.identify(run)))]
    size = sum(_size(str(run.path), run.progress_time()) for run in ticked)
    told = f"Delete {len(ticked)} ({bytes_in_words(size)})" if ticked else "Delete"
    with st.popover(told, icon=":material/delete:", disabled=not ticked, width="content",
                    key="recent_delete"):  # fmt: skip
        st.markdown(
            "Delete 1 run with its tables and its model?"
            if len(ticked) == 1
            else f"Delete {len(ticked)} runs with their tables and models?"
        )
        for run in ticked:
            st.markdown(f"- {parts.plain(space.identify(run))}")
        if st.button("Delete for good", key="recent_delete_sure"):
            for run in ticked:
                run.delete()
            st.rerun()


def _tick(name: str) -> str:
    return f"tick_{name}"


@st.cache_data(ttl=600, max_entries=2000, show_spinner=False)
def _size(path: str, changed: float) -> int:
    """Bytes of a run's directory, counted again when its progress is of another time."""
    return Run(Path(path)).size()


def bytes_in_words(size: float) -> str:
    """A size on disk."""
    power = min(len(_UNITS) - 1, int(math.log(max(size, 1), 1024)))
    value = size / 1024**power
    return f"{value:.{int(power > 1 and value < 10)}f} {_UNITS[power]}"
