"""Home: what this is, the demo, what is running, recent runs, the machine."""

import shutil
import subprocess

import pandas as pd
import psutil
import streamlit as st

from app import parts
from u2a_core import jobs
from u2a_core.runs import Run

GIB = 2**30
_CARD = 200


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
        st.session_state.update(run="demo-gains", project="demo", sample=None)
        st.switch_page("views/gains.py")
    if row.button("Use my own data", icon=":material/upload:"):
        st.switch_page("views/data.py")
    _running()
    _recent()
    _machine()


@st.fragment(run_every=3)
def _running() -> None:
    """Jobs at work, with a link to watch each."""
    active = [run for run in parts.workspace().runs() if run.status().state in jobs.ACTIVE]
    st.subheader("Running")
    if not active:
        st.caption("Nothing is running.")
    for run in active:
        name = parts.workspace().identify(run)
        state, link = st.columns([4, 1])
        lines = run.progress()
        step = f"{lines[-1].stage} {lines[-1].step} of {lines[-1].total}" if lines else ""
        state.markdown(f"**{name}** {parts.MARKS[run.status().state][0]} {step}")
        link.page_link("views/unlearn.py", label="Watch", query_params={"run": name})


def _recent() -> None:
    """The newest runs; the demo's where there are none."""
    st.subheader("Recent runs")
    runs = parts.workspace().runs()[:50]
    if not runs:
        st.caption(
            f"No runs in {parts.workspace().folder} yet. The demo's runs ship with the workbench: "
            "open it above, or launch one on the Unlearn page."
        )
        return
    st.dataframe(
        pd.DataFrame([_row(run) for run in runs]),
        hide_index=True,
        column_config={"reward ↑": st.column_config.NumberColumn(format="%+.3f")},
        alt="Recent runs with their state and their reward on the test prompts",
    )


def _row(run: Run) -> dict[str, object]:
    state = run.status().state
    reward = (run.report().get("reward") or {}).get("after") if state == "finished" else None
    return {
        "run": parts.workspace().identify(run),
        "state": state,
        "what": run.config()["command"],
        "reward ↑": reward["mean"] if reward else None,
        "95 % interval": f"[{reward['low']:+.3f}, {reward['high']:+.3f}]" if reward else "",
        "n": reward["n"] if reward else None,
        "begun": parts.age((run.path / "config.json").stat().st_mtime),
    }


def _machine() -> None:
    """What this machine has free."""
    st.subheader("This machine")
    memory = psutil.virtual_memory()
    folder = parts.workspace().folder
    disk = shutil.disk_usage(folder if folder.exists() else folder.parent)
    row = st.container(horizontal=True)
    row.metric("CPU cores", psutil.cpu_count(), border=True, width=_CARD)
    row.metric(
        "Memory free", f"{memory.available / GIB:.1f} GiB", border=True, width=_CARD,
        help=f"of {memory.total / GIB:.1f} GiB",
    )  # fmt: skip
    row.metric(
        "Disk free", f"{disk.free / GIB:.0f} GiB", border=True, width=_CARD, help=str(folder)
    )
    row.metric("GPU", _gpu(), border=True, width=_CARD, help="as nvidia-smi names it")


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
