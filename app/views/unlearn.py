"""Unlearn: choose method and weights, launch, watch J, losses and weights, stop and resume."""

import shlex
from typing import Any

import pandas as pd
import streamlit as st

from app import forms, parts
from u2a_core import figures, jobs
from u2a_core.config import Settings, parse_settings
from u2a_core.errors import U2AError
from u2a_core.runs import Run, demo_assets

METHODS = {
    "npo": "NPO: bounded, the steadiest",
    "ga": "Gradient ascent: the simplest",
    "graddiff": "GradDiff: gradient ascent with a retain set",
}
WEIGHTS = {
    "u2a": "U2A: optimized by marginal gains",
    "uniform": "Uniform: every negative alike (the baseline)",
    "run": "Those of a finished U2A run, replayed",
}
NARROW = 340
PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "quick": {"inner": {"steps": 10}, "outer": {"steps_per_round": 2}},
    "balanced": {"inner": {"steps": 30}, "outer": {"steps_per_round": 2}},
    "paper": {
        "inner": {
            "optimizer": "adamw", "learning_rate": 1e-5, "lam": 0.1, "samples_per_step": 8,
            "steps": 60,
        },
        "outer": {"steps_per_round": 20, "sparsity": 0.0},
    },
}  # fmt: skip
PRESET_HELP = (
    "quick: 10 inner steps, to see whether it works at all. balanced: 30 inner steps, the demo's "
    "setting. paper: AdamW at 1e-5 in batches of 8, λ = 0.1, three rounds, as in the paper's "
    "released code; meant for models of billions of parameters, it hardly moves the demo's"
)


def page() -> None:
    """The page."""
    st.title("Unlearn")
    form, view = st.columns([2, 3], gap="large")
    with form:
        _configure()
    with view:
        _watch()


def _configure() -> None:
    """The settings of the next run, its command, and Launch."""
    own = parts.chosen_project() == "own"
    st.page_link(
        "views/data.py", label=f"Project: {parts.PROJECTS[parts.chosen_project()]}",
        icon=":material/folder_open:", help="Change it on Data",
    )  # fmt: skip
    base = parts.project()
    method = st.selectbox(
        "Method", list(METHODS), format_func=METHODS.__getitem__, key="method",
        persist_state="session",
    )  # fmt: skip
    weights = st.radio(
        "Weights", list(WEIGHTS), format_func=WEIGHTS.__getitem__, key="weights",
        persist_state="session",
    )  # fmt: skip
    source = _weights_run() if weights == "run" else "uniform"
    preset = st.segmented_control(
        "Preset", list(PRESETS), default="balanced", key="preset", help=PRESET_HELP
    ) or "balanced"  # fmt: skip
    raw = base.model_dump(mode="json") | {"weights": source}
    raw["inner"]["method"] = method
    for section, values in PRESETS[preset].items():
        raw[section] |= values
    try:
        settings = _all_settings(parse_settings(raw, source="the form"), f"{own}_{preset}")
    except U2AError as error:
        st.error(parts.plain(str(error)))
        return
    command = "reweight" if weights == "u2a" else "unlearn"
    if st.button(
        "Launch", type="primary", icon=":material/play_arrow:", width="stretch",
        disabled=weights == "run" and source == "uniform",
    ):  # fmt: skip
        parts.launch(command, settings)
        st.rerun()
    st.caption("The same as a command")
    st.code(_command(command, base, settings, own=own), language="bash", wrap_lines=True)


def _weights_run() -> str:
    """The run whose weights are replayed."""
    space = parts.workspace()
    runs = [r for r in space.runs() if r.config()["command"] == "reweight" and r.finished]
    if not runs:
        st.info("No finished U2A run yet. Launch one first, with weights U2A.")
        return "uniform"
    named = {str(run.path): space.identify(run) for run in runs}
    return str(st.selectbox("Run", list(named), format_func=named.__getitem__, key="weights_run"))


def _all_settings(settings: Settings, key: str) -> Settings:
    """Every other setting, folded away; what was changed is kept under the key."""
    raw = settings.model_dump(mode="json")
    with st.expander("All settings"):
        for name in ("inner", "outer", "objective", "evaluation"):
            section = getattr(settings, name)
            st.markdown(f"**{parts.plain(str(type(section).__doc__))}**")
            raw[name] |= forms.section_form(
                section, key=f"{key}_{name}", leave_out=("method", "kind", "reward")
            )
    return parse_settings(raw, source="All settings")


def _command(command: str, base: Settings, settings: Settings, *, own: bool) -> str:
    """The command line that launches the same run."""
    before, after = base.model_dump(mode="json"), settings.model_dump(mode="json")
    words = ["u2a", command, str(parts.draft_file() if own else demo_assets() / "demo.yaml")]
    for section, values in after.items():
        if not isinstance(values, dict):
            if values != before[section]:
                words += [f"--{section.replace('_', '-')}", str(values)]
            continue
        for name, value in values.items():
            if value != before[section][name]:
                words += [f"--{section}.{name.replace('_', '-')}", str(value)]
    return shlex.join(words)


def _watch() -> None:
    """A run's state and pictures."""
    space = parts.workspace()
    runs = [
        run
        for run in (*space.runs(), *space.shipped())
        if run.config()["command"] in ("reweight", "unlearn")
    ]
    run = parts.pick_run(
        runs, key="unlearn", empty="No runs yet. Launch one, or open the demo on Home."
    )
    if run is None:
        return
    name = space.identify(run)
    parts.live_state(name)
    if run.status().state in jobs.ACTIVE:
        _live_pictures(name)
        return
    if run.finished:
        parts.stale_note(run)
        parts.warnings(run)
        _outcome(run, name)
    _pictures(run, name)


def _outcome(run: Run, name: str) -> None:
    """What a finished run changed on the test prompts."""
    reward = (run.report().get("reward") or {}).get("difference")
    if reward:
        st.success(
            f"Reward on the test prompts changed by {reward['mean']:+.3f} "
            f"[{reward['low']:+.3f}, {reward['high']:+.3f}] (95 %, n = {reward['n']} prompts)."
        )
    st.page_link(
        "views/compare.py", label="Compare replies before and after", icon=":material/compare:",
        query_params={"a": "original", "b": name, "run": name},
    )  # fmt: skip


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
    rows = {p.values["step"]: dict(p.values) for p in run.progress() if "step" in p.values}
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
    pair.plotly_chart(
        figures.effective_samples(history, mode), theme=None, key=f"eff_{name}",
        width=NARROW, config=bare, alt="Effective number of samples against inner steps",
    )  # fmt: skip


parts.guarded(page)
