"""Home: what this is, the demo, what is running, recent runs, the machine."""

import shutil
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import streamlit as st

from app import parts, runview
from u2a_core import jobs, table
from u2a_core.runs import Run

GIB = 2**30
MOST_RECENT = 8
PAGES = {
    "gains": "gains", "impact": "impact", "demo": "compare", "evaluate": "compare",
    "reproduce": "compare", "ablate": "ablation",
}  # fmt: skip
"""Where a run of a command is shown; the others on Unlearn."""


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
        st.session_state["project"] = "demo"
        st.switch_page("views/gains.py", query_params={"run": "demo-gains"})
    if row.button("Use my own data", icon=":material/upload:"):
        st.session_state["project"] = "own"
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
        parts.guarded(partial(_line, run))


def _recent() -> None:
    """The newest runs that are at rest."""
    st.subheader("Recent runs")
    runs = [run for run in parts.workspace().runs() if run.status().state not in jobs.ACTIVE]
    if not runs:
        st.caption(
            f"No ended runs in {parts.workspace().folder} yet. The demo's runs ship with the "
            "workbench: open it above, or launch one on the Unlearn page."
        )
    for run in runs[:MOST_RECENT]:
        parts.guarded(partial(_line, run))
    strange = parts.workspace().unreadable()
    if strange:
        st.caption(
            f"Not shown, because damaged or written by another version of u2a: "
            f"{parts.plain(', '.join(strange))}."
        )
    if len(runs) > MOST_RECENT:
        st.caption(
            f"And {len(runs) - MOST_RECENT} older ones: see Gains, Unlearn, Ablation and Compare."
        )


def _line(run: Run) -> None:
    """A run with its state, what is to be said of it, and a link to where it is shown."""
    said = _outcome(run)
    name = parts.workspace().identify(run)
    page = PAGES.get(run.config()["command"], "unlearn")
    link, state, words, age = st.columns([3, 1, 4, 1.4], vertical_alignment="center")
    link.page_link(f"views/{page}.py", label=parts.plain(name), query_params={"run": name})
    state.markdown(runview.MARKS[run.status().state])
    words.caption(said or " ")
    age.caption(parts.age(run.progress_time()))


def _outcome(run: Run) -> str:
    """What came out, or how far it is, in a few words."""
    status = run.status()
    if status.state == "running":
        lines = run.progress()
        return f"{lines[-1].stage} {lines[-1].step} of {lines[-1].total}" if lines else ""
    if status.state != "finished":
        return parts.plain(status.message[:160])
    report = run.report()
    told = _TOLD.get(report["command"])
    return told(report) if told else _rewarded(report)


def _rewarded(report: dict[str, Any]) -> str:
    """The reward of an unlearned or trained model."""
    reward = (report.get("reward") or {}).get("after")
    if reward is None:
        return ""
    return (
        f"reward ↑ {reward['mean']:+.3f} [{reward['low']:+.3f}, {reward['high']:+.3f}] "
        f"(95 %, n = {reward['n']})"
    )


def _gained(report: dict[str, Any]) -> str:
    return f"{report['helps']} of {report['data']['negatives']} samples help when unlearned"


def _reproduced(report: dict[str, Any]) -> str:
    return f"{report['task']}, {report['scale']} scale: {len(report['rows'])} methods measured"


def _ablated(report: dict[str, Any]) -> str:
    """Top-K against Random-K, at K*."""
    said = f"{report['arms']} runs, {report['seeds']} seed{'s' * (report['seeds'] > 1)}"
    for row in report["differences"]:
        wanted = row["ours"] == "top_k" and row["theirs"] == "random_k"
        if wanted and row["k"] == report["best_k"] and row["low"] is not None:
            return (
                f"{said}; Top-K minus Random-K at K = {row['k']}: {row['mean']:+.3f} "
                f"[{row['low']:+.3f}, {row['high']:+.3f}] (95 %)"
            )
    return said


def _evaluated(report: dict[str, Any]) -> str:
    """The first metric, and how many there are."""
    target = parts.plain(Path(report["target"]).name)
    for name, found in report["metrics"].items():
        if found["mean"] is not None and found["low"] is not None:
            return (
                f"{target}: {table.heading(name)} {table.cell(found, name)} "
                f"(95 %, n = {found['n']}); "
                f"{len(report['metrics'])} metrics"
            )
    return f"{target}: {len(report['metrics'])} metrics"


def _agreement(report: dict[str, Any]) -> str:
    """How well an impact run's predictions met its measurements, at the smallest weight."""
    found = report["per_omega"][0]["estimators"]["linear"]
    bounds = found["intervals"].get("spearman")
    if bounds is None:
        return f"impact of {report['samples']} samples"
    return (
        f"predicted vs measured ρ = {found['spearman']:.3f} "
        f"[{bounds[0]:.3f}, {bounds[1]:.3f}] (95 %, n = {found['n']})"
    )


_TOLD: dict[str, Callable[[dict[str, Any]], str]] = {
    "gains": _gained,
    "impact": _agreement,
    "ablate": _ablated,
    "evaluate": _evaluated,
    "reproduce": _reproduced,
}


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
        help=f"where the runs are kept: {folder}",
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
