"""Home: what this is, the demo, what is running, recent runs, the machine."""

import shutil
import subprocess
from functools import partial

import psutil
import streamlit as st

from app import history, outcomes, parts, project, runview
from u2a_core import jobs
from u2a_core.runs import Run

GIB = 2**30


def page() -> None:
    """The page."""
    st.title("U2A workbench")
    st.markdown(
        "Some of the replies you want a model to unlearn help alignment when unlearned, some do "
        "nothing, some hurt. Unlearning to Align measures each one, weights them accordingly, "
        "unlearns with those weights, and shows the replies before and after."
    )
    row = st.container(horizontal=True)
    if row.button("Open the demo", type="primary", icon=":material/play_arrow:"):
        project.choose("demo")
        st.switch_page("views/gains.py", query_params={"run": "demo-gains"})
    if row.button("Use my own data", icon=":material/upload:"):
        project.choose("own")
        st.switch_page("views/data.py")
    _running()
    history.show()
    _machine()


@st.fragment(run_every=2)
def _running() -> None:
    """Jobs at work and in line, each with a link to watch it and its Stop or Cancel."""
    parts.guarded(_active_runs)


def _active_runs() -> None:
    space = parts.workspace()
    active = [run for run in space.runs() if run.status().state in jobs.ACTIVE]
    names = [space.identify(run) for run in active]
    if st.session_state.get("_active") not in (None, names):  # one has begun or ended
        st.session_state["_active"] = names
        st.rerun()
    st.session_state["_active"] = names
    st.subheader("Running")
    if not active:
        st.caption("Nothing is running.")
    # who works stays above who begins: no button moves under the mouse
    for run in sorted(active, key=lambda r: (r.status().state == "queued", len(jobs.ahead(r)))):
        parts.guarded(partial(_active, run))


def _active(run: Run) -> None:
    """A job at work or in line."""
    name, status = parts.workspace().identify(run), run.status()
    link, whose, state, words, buttons = st.columns(
        [2.6, 1.9, 1.2, 3.4, 1.6], vertical_alignment="center"
    )
    link.page_link(
        history.page_of(run), label=parts.plain(name), query_params={"run": name},
        icon=":material/visibility:",
    )  # fmt: skip
    whose.caption(history.of(run))
    state.markdown(runview.MARKS[status.state])
    words.caption(outcomes.told(run) or " ")
    if status.state != "stopping":
        with buttons:
            runview.stop_button(run, name, status)


def _machine() -> None:
    """What this machine has free."""
    st.subheader("This machine")
    memory = psutil.virtual_memory()
    folder = parts.workspace().folder
    disk = shutil.disk_usage(next(path for path in (folder, *folder.parents) if path.is_dir()))
    row = st.container(horizontal=True)
    parts.number(row, "CPU cores", str(psutil.cpu_count()), f"load {psutil.getloadavg()[0]:.1f}")
    parts.number(
        row, "Memory free", f"{memory.available / GIB:.1f} GiB", f"of {memory.total / GIB:.1f} GiB"
    )
    parts.number(
        row, "Disk free", f"{disk.free / GIB:.0f} GiB", f"of {disk.total / GIB:.0f} GiB",
        help=f"where the runs are kept: {parts.plain(str(folder))}",
    )  # fmt: skip
    parts.number(row, "GPU", _gpu(), "as nvidia-smi names it")


@st.cache_data(ttl=600)
def _gpu() -> str:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return "none"
    command = [tool, "--query-gpu=name", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    names = done.stdout.strip().splitlines()
    return f"{len(names)} × {names[0]}" if done.returncode == 0 and names else "none"


parts.guarded(page)
