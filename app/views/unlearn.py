"""Unlearn: choose method and weights, launch, watch J, losses and weights, stop and resume."""

from typing import Any

import pandas as pd
import streamlit as st

from app import forms, launching, parts, project, results, runview
from u2a_core import figures, jobs
from u2a_core.config import Settings, parse_settings
from u2a_core.errors import RunError, U2AError
from u2a_core.runs import Run

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
    launching.project_link()
    base = project.settings()
    method = st.selectbox(
        "Method", [*launching.METHODS, *launching.BASELINES],
        format_func=(launching.METHODS | launching.BASELINES).__getitem__, key="method",
        persist_state="session", help="The last three are baselines: no unlearning, no weights",
    )  # fmt: skip
    if method in launching.BASELINES:
        _launcher("baseline", base, _baseline_settings(base, method))
        return
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
    settings = _all_settings(raw, preset, ("inner", "outer", "objective", "evaluation"))
    lacking = "a finished U2A run" if weights == "run" and source == "uniform" else ""
    _launcher("reweight" if weights == "u2a" else "unlearn", base, settings, lacking)


def _baseline_settings(base: Settings, method: str) -> Settings | None:
    """Those of a baseline; for Retrain the base model and the mixture stand in the open."""
    raw = base.model_dump(mode="json")
    raw["baseline"]["method"] = method
    if method == "retrain":
        for name, title, about in (
            ("base", "Base model", "folder or hub id of the model before it was fine-tuned"),
            ("mixture", "Mixture", "file of the replies (prompt, response) of the fine-tuning"),
        ):
            raw["baseline"][name] = st.text_input(
                title, raw["baseline"][name], help=about, key=f"retrain_{name}",
                persist_state="session",
            ).strip()  # fmt: skip
    return _all_settings(raw, method, ("baseline", "objective", "evaluation"))


def _lacking(settings: Settings) -> str:
    """What a baseline needs and the settings do not name."""
    own, needed = settings.baseline, []
    if own.method == "retrain":
        needed += [] if own.base else ["the base model"]
        needed += [] if own.mixture else ["the mixture it was fine-tuned on"]
    if own.method == "dpo" and not settings.data.preferences:
        needed.append("preference pairs (on Data)")
    if own.method == "ppo" and not settings.objective.reward:
        needed.append("a reward (on Data)")
    return " and ".join(needed)


def _launcher(command: str, base: Settings, settings: Settings | None, lacking: str = "") -> None:
    """Launch, or what is missing for it; and the same as a command."""
    if settings is None:
        return
    lacking = lacking or (_lacking(settings) if command == "baseline" else "")
    if st.button(
        "Launch", type="primary", icon=":material/play_arrow:", width="stretch",
        disabled=bool(lacking),
    ):  # fmt: skip
        runview.launch(command, settings)
        st.rerun()
    if lacking:
        st.caption(f":material/info: Missing: {lacking}.")
        return
    launching.command_box(command, base, settings)


def _weights_run() -> str:
    """The run whose weights are replayed."""
    space = parts.workspace()
    runs = [r for r in space.runs() if r.config()["command"] == "reweight" and r.finished]
    if not runs:
        st.info("No finished U2A run yet. Launch one first, with weights U2A.")
        return "uniform"
    named = {str(run.path): space.identify(run) for run in runs}
    return str(st.selectbox("Run", list(named), format_func=named.__getitem__, key="weights_run"))


def _all_settings(raw: dict[str, Any], key: str, sections: tuple[str, ...]) -> Settings | None:
    """Every other setting, folded away, kept under the key; None, and why, if one is wrong."""
    key = f"{project.chosen() == 'own'}_{key}"
    out = ("method", "kind", "reward", "base", "mixture", "target")
    try:
        settings = parse_settings(raw, source="the form")
        raw = settings.model_dump(mode="json")
        with st.expander("All settings"):
            for name in sections:
                section = getattr(settings, name)
                st.markdown(f"**{parts.plain(str(type(section).__doc__))}**")
                raw[name] |= forms.section_form(section, key=f"{key}_{name}", leave_out=out)
        return parse_settings(raw, source="All settings")
    except U2AError as error:
        st.error(parts.plain(str(error)))
        return None


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
    results.report_button({name: run})


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
    if "effective_samples" not in history:  # a baseline's
        return
    pair.plotly_chart(
        figures.effective_samples(history, mode), theme=None, key=f"eff_{name}",
        width=NARROW, config=bare, alt="Effective number of samples against inner steps",
    )  # fmt: skip


parts.guarded(page)
