"""What several pages show: runs to choose from, a run's state with its buttons, texts, notes.

Pages read run directories and launch jobs; nothing is computed here that a model is needed for.
"""

import html
import os
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import streamlit as st

from u2a_core import jobs
from u2a_core.config import Settings, load_settings
from u2a_core.errors import U2AError
from u2a_core.figures import Mode
from u2a_core.runs import Run, Status, Workspace, demo_assets
from u2a_core.types import Progress

MARKS = {
    "queued": (":gray-badge[waiting]", "waiting"),
    "running": (":blue-badge[running]", "running"),
    "stopping": (":orange-badge[stopping]", "stopping"),
    "stopped": (":orange-badge[stopped]", "stopped"),
    "failed": (":red-badge[failed]", "failed"),
    "finished": (":green-badge[finished]", "finished"),
}
DRAFT = "draft.yaml"
_TICK_S = 2


def workspace() -> Workspace:
    """The folder of runs that `u2a app --runs` names."""
    return Workspace(Path(os.environ.get("U2A_RUNS", "runs")).resolve())


def mode() -> Mode:
    """Whether the page is light or dark."""
    return "dark" if st.context.theme.type == "dark" else "light"


def demo_settings() -> Settings:
    """The embedded scenario's settings."""
    return load_settings(demo_assets() / "demo.yaml")


def draft_file() -> Path:
    """Where the settings of the user's own project are kept."""
    return workspace().folder / f".{DRAFT}"


def chosen_project() -> str:
    """Demo or own: what the user chose, else their own data where they have put any."""
    default = "own" if draft_file().exists() else "demo"
    return str(st.session_state.get("project", default))


def project() -> Settings:
    """The settings that jobs are launched with: the user's own, else the demo's."""
    if chosen_project() == "own" and draft_file().exists():
        return load_settings(draft_file())
    return demo_settings()


def guarded(page: Callable[[], None]) -> None:
    """Runs a page; what goes wrong is a box that says what to do."""
    try:
        page()
    except U2AError as error:
        st.error(str(error))


def label(run: Run) -> str:
    """A run as lists show it: its id and, unless finished, its state."""
    state = run.status().state
    name = workspace().identify(run)
    return name if state == "finished" else f"{name} ({MARKS[state][1]})"


def pick_run(runs: list[Run], *, key: str, title: str) -> Run | None:
    """A choice among runs that follows and sets the address's `run`."""
    names = [workspace().identify(run) for run in runs]
    wanted = st.session_state.get("run")
    if wanted is not None and wanted not in names:
        found = workspace().find(wanted)  # a sentence if there is none
        st.info(f"{wanted} is a {found.config()['command']} run, which has nothing to show here.")
    if not names:
        return None
    chosen = wanted if wanted in names else names[0]
    labels = dict(zip(names, map(label, runs), strict=True))
    widget = f"{key}_run"
    st.session_state[widget] = chosen

    def follow() -> None:
        st.session_state["run"] = st.session_state[widget]
        st.session_state["sample"] = None

    st.selectbox(title, names, key=widget, format_func=labels.__getitem__, on_change=follow)
    if wanted in names or wanted is None:
        st.session_state["run"] = chosen
    return workspace().find(chosen)


def stale_note(run: Run) -> None:
    """A warning where the data is no longer what the run was computed from."""
    changed = run.changed_data()
    if changed:
        st.warning(
            f"Computed for other data: {', '.join(changed)} changed or went away since. "
            "The pictures show the data as it was; launch the job again for the current one."
        )


@st.fragment(run_every=_TICK_S)
def live_state(name: str) -> None:
    """A run's state with progress and buttons, every two seconds while it works."""
    try:
        run = workspace().find(name)
    except U2AError:
        st.warning("This run was deleted meanwhile. Choose another one.")
        return
    status = run.status()
    seen = f"_state_{name}"
    before, st.session_state[seen] = st.session_state.get(seen), status.state
    if before is not None and before != status.state and status.state not in jobs.ACTIVE:
        st.rerun()
    _state_line(run, status)
    if status.state in jobs.ACTIVE:
        _progress(run.progress(), status)
        if status.state != "stopping":
            st.button(
                "Stop", key=f"stop_{name}", icon=":material/stop:", on_click=jobs.stop, args=(run,)
            )
    elif status.state in ("stopped", "failed"):
        _at_rest(run, name, status)


def _state_line(run: Run, status: Status) -> None:
    said = f": {status.message}" if status.message and status.state != "failed" else ""
    st.markdown(f"**{workspace().identify(run)}** {MARKS[status.state][0]}{plain(said)}")


def _progress(lines: list[Progress], status: Status) -> None:
    if not lines:
        st.progress(0.0, text="starting" if status.state != "queued" else "waiting for its turn")
        return
    last = lines[-1]
    same = [line for line in lines if line.stage == last.stage]
    text = f"{last.stage} {last.step} of {last.total}, {last.seconds:.0f} s"
    if len(same) > 1 and last.step > same[0].step:
        pace = (last.seconds - same[0].seconds) / (last.step - same[0].step)
        text += f", about {max(0, last.total - last.step) * pace:.0f} s left"
    st.progress(min(1.0, last.step / max(1, last.total)), text=text)


def _at_rest(run: Run, name: str, status: Status) -> None:
    """A stopped or failed run: what happened, and what can be done."""
    if status.state == "failed":
        st.error(f"The run failed: {plain(status.message)}")
    log = run.log_tail()
    if log:
        with st.expander("Last lines of the log", expanded=status.state == "failed"):
            st.code(log, language=None)
    with st.container(horizontal=True):
        st.button(
            "Resume", key=f"resume_{name}", type="primary", on_click=_resume, args=(run, name)
        )
        if st.button("Delete", key=f"delete_{name}", help="Removes the run and its tables"):
            run.delete()
            st.session_state["run"] = None
            st.rerun()


def _resume(run: Run, name: str) -> None:
    """Continues a run; a second click finds it at work and changes nothing."""
    if not run.lock.alive and not run.finished:
        jobs.begin(run)
    st.session_state.pop(f"_state_{name}", None)


def launch(command: str, settings: Settings) -> None:
    """Starts a job and shows it."""
    run = jobs.launch(workspace().folder, command, settings)
    st.session_state["run"] = workspace().identify(run)
    st.session_state["sample"] = None


def plain(text: str) -> str:
    """Text whose markup is shown, not followed, in Markdown."""
    return "".join("\\" + c if c in r"\`*_{}[]()<>#+-!|~$:" else c for c in text)


def text_box(text: str) -> None:
    """A sample's text as it stands: nothing in it is markup."""
    safe = html.escape(text)
    st.html(f'<div style="white-space:pre-wrap;overflow-wrap:anywhere">{safe}</div>')


def download(table: pd.DataFrame, name: str, *, key: str) -> None:
    """A table as CSV."""
    st.download_button(
        "CSV", table.to_csv(index=False), f"{name}.csv", "text/csv", key=key,
        icon=":material/download:",
    )  # fmt: skip


def age(seconds: float) -> str:
    """How long ago, in words."""
    passed = max(0.0, time.time() - seconds)
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if passed >= size:
            return f"{passed / size:.0f} {unit} ago"
    return "just now"
