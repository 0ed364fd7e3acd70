"""The form of an unlearning job: method, weights, preset, everything else folded away."""

from pathlib import Path
from typing import Any

import streamlit as st

from app import configurations, drafts, forms, launching, parts, project
from u2a_core.config import Settings, parse_settings, there
from u2a_core.errors import U2AError
from u2a_core.runs import slices

PAGE = "unlearn"
WEIGHTS = {
    "u2a": "U2A: optimized by marginal gains",
    "uniform": "Uniform: every negative alike (the baseline)",
    "run": "Those of a finished U2A run, replayed",
    "slice": "A saved slice: its samples alone, every one alike",
}
_SOURCES = {
    "run": ("launch a U2A run first (weights U2A), and let it finish", ""),
    "slice": ("save a selection as a slice", "gains"),
}
"""Weights that are kept somewhere, and what makes them."""
PRESETS: dict[str, configurations.Changes] = {
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
    "released code; meant for models of billions of parameters, it hardly moves the demo's. A "
    "preset sets the inner and the outer problem; none is marked once you change them"
)


def configure() -> None:
    """The settings of the next run, its command, and Launch."""
    launching.project_link()
    base = project.settings()
    first: drafts.First = lambda: ("reweight", preset(base, "balanced"))  # noqa: E731
    drafts.current(PAGE, base, first)
    handed = st.session_state.pop("weights_slice", None)  # Gains: unlearn these
    if handed is not None:
        latest = drafts.latest(PAGE, base).model_copy(update={"weights": handed})
        drafts.fill(PAGE, "unlearn", base, latest)
    draft = drafts.current(PAGE, base, first)
    seed = draft.settings(base)
    _seed(draft, seed)
    method = st.selectbox(
        "Method", [*launching.METHODS, *launching.BASELINES],
        format_func=(launching.METHODS | launching.BASELINES).__getitem__, key="method",
        persist_state="session", help="The last four are baselines: no unlearning, no weights",
    )  # fmt: skip
    raw, lacking = seed.model_dump(mode="json"), launching.NOTHING
    if method in launching.BASELINES:
        command = "baseline"
        raw["baseline"]["method"] = method
        _trained_from(raw["baseline"])
    else:
        command, lacking = _weights(raw)
        raw["inner"]["method"] = method
    place = st.container()
    own = ("baseline",) if command == "baseline" else ("inner", "outer")
    settings = all_settings(raw, PAGE, (*own, "objective", "evaluation"))
    if settings is None:
        return
    if command == "baseline":
        lacking = _baseline_lacks(settings)
    else:
        with place:
            preset_choice(
                PAGE, PRESETS, about=PRESET_HELP, base=base, command=command, settings=settings
            )
    launching.launcher(PAGE, command, base, settings, lacking)


def preset(base: Settings, name: str) -> Settings:
    """The project's settings with those of a preset."""
    return configurations.applied(base, PRESETS[name], source=name)


def preset_choice(
    page: str,
    presets: dict[str, configurations.Changes],
    *,
    about: str,
    base: Settings,
    command: str,
    settings: Settings,
) -> None:
    """The control that shows which preset the settings are, and sets them to another."""
    sections = {section for values in presets.values() for section in values}
    key = f"preset_{page}" if page != PAGE else "preset"
    kept = settings.model_dump(mode="json")

    def with_preset(name: str) -> Settings:
        """The settings with the preset's sections as the project has them, but for its own."""
        raw = kept | {s: getattr(base, s).model_dump(mode="json") for s in sections}
        if "inner" in sections:
            raw["inner"]["method"] = settings.inner.method
        raw = {s: v | presets[name].get(s, {}) if s in sections else v for s, v in raw.items()}
        return parse_settings(raw, source=name)

    def take() -> None:
        name = st.session_state[key]
        if name is not None:
            drafts.fill(page, command, base, with_preset(name))

    st.session_state[key] = next((n for n in presets if with_preset(n) == settings), None)
    st.segmented_control("Preset", list(presets), key=key, help=about, on_change=take)


def all_settings(raw: dict[str, Any], page: str, sections: tuple[str, ...]) -> Settings | None:
    """Every other setting, folded away; None, and why, if one is wrong."""
    out = ("method", "kind", "reward", "base", "mixture", "target")
    key = drafts.named(page)
    try:
        settings = parse_settings(raw, source="Cannot be launched")
        raw = settings.model_dump(mode="json")
        with st.expander("All settings"):
            tabs = st.tabs([name.capitalize() for name in sections])
            for name, tab in zip(sections, tabs, strict=True):
                section = getattr(settings, name)
                with tab:
                    st.caption(forms.readable(str(type(section).__doc__)))
                    raw[name] |= forms.section_form(section, key=f"{key}_{name}", leave_out=out)
        return parse_settings(raw, source="All settings")
    except U2AError as error:
        st.error(parts.plain(str(error)))
        return None


def _seed(draft: drafts.Draft, settings: Settings) -> None:
    """Puts a new filling into the widgets that are the same in every filling."""
    state, filling = st.session_state, drafts.named(PAGE)
    if state.get("unlearn_filling") == filling and "method" in state:
        return
    state["unlearn_filling"] = filling
    baseline = draft.command == "baseline"
    state["method"] = settings.baseline.method if baseline else settings.inner.method
    state["weights"] = _kind(settings.weights) if draft.command == "unlearn" else "u2a"
    if state["weights"] in _SOURCES:
        state[f"source_{state['weights']}"] = settings.weights
    for name in ("base", "mixture"):
        state[f"retrain_{name}"] = getattr(settings.baseline, name)


def _kind(weights: str) -> str:
    """Which of `WEIGHTS` a setting is."""
    if weights == "uniform":
        return "uniform"
    return "slice" if slices.is_slice(Path(weights)) else "run"


def _weights(raw: dict[str, Any]) -> tuple[str, launching.Lacking]:
    """Which weights; returns the command, and what is missing."""
    chosen = st.radio(
        "Weights", list(WEIGHTS), format_func=WEIGHTS.__getitem__, key="weights",
        persist_state="session",
    )  # fmt: skip
    raw["weights"] = "uniform"
    if chosen not in _SOURCES:
        return ("reweight" if chosen == "u2a" else "unlearn"), launching.NOTHING
    source = _source(chosen)
    if source is None:
        return "unlearn", [_SOURCES[chosen]]
    raw["weights"] = source
    return "unlearn", launching.NOTHING


def _source(kind: str) -> str | None:
    """The run or the slice that gives the weights; None where there is none to choose."""
    state, key = st.session_state, f"source_{kind}"
    named, wanted = (_runs() if kind == "run" else _slices()), state.get(key)
    if wanted and wanted not in named and there(Path(wanted)):  # of another folder of runs
        named[wanted] = wanted
    if not named:
        return None
    if wanted not in named:  # the slice of the address is the one that was just looked at
        looked_at = (path for path in named if Path(path).stem == state.get("slice"))
        state[key] = next(looked_at, next(iter(named)))
    return str(
        st.selectbox(
            "Slice" if kind == "slice" else "Run", list(named), key=key, persist_state="session",
            format_func=named.__getitem__,
        )
    )  # fmt: skip


def _runs() -> dict[str, str]:
    """Path → name of the runs whose weights can be replayed."""
    space = parts.workspace()
    return {
        str(run.path): space.identify(run)
        for run in space.runs()
        if run.config()["command"] == "reweight" and run.finished
    }


def _slices() -> dict[str, str]:
    """Path → name of every saved slice."""
    space = parts.workspace()
    return {
        str(one.path): f"{one.name} ({len(one.ids):,} samples, {space.identify(run)})"
        for run in (*space.runs(), *space.shipped())
        for one in slices.all_slices(space, run)
    }


def _trained_from(raw: dict[str, Any]) -> None:
    """For Retrain and SFT the base model and the mixture stand in the open."""
    if raw["method"] not in ("retrain", "sft"):
        return
    for name, title, about in (
        ("base", "Base model", "folder or hub id of the model before it was fine-tuned"),
        ("mixture", "Mixture", "file of the replies (prompt, response) of the fine-tuning"),
    ):
        raw[name] = st.text_input(
            title, help=about, key=f"retrain_{name}", persist_state="session"
        ).strip()


def _baseline_lacks(settings: Settings) -> list[tuple[str, str]]:
    """What a baseline needs and the settings do not name."""
    own, needed = settings.baseline, []
    if own.method in ("retrain", "sft"):
        needed += [] if own.base else [("name the base model", "")]
        needed += [] if own.mixture else [("name the mixture it was fine-tuned on", "")]
    if own.method == "dpo" and not settings.data.preferences:
        needed.append(("upload or name preference pairs", "data"))
    if own.method == "ppo" and not settings.objective.reward:
        needed.append(("name a reward", "model"))
    return needed
