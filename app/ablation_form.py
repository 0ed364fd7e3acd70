"""The form of an ablation: method, preset, arms, K and seeds; what it takes."""

import os
from collections import Counter
from pathlib import Path

import streamlit as st

from app import configurations, drafts, durations, forms, launching, parts, project, unlearn_form
from u2a_core import ablation, figures
from u2a_core.config import Part, Settings, there
from u2a_core.data import load_negatives
from u2a_core.errors import U2AError

PAGE = "ablation"
NAMES = {
    **figures.ARMS,
    "step_size": "step size η",
    "sparsity": "sparsity β",
    "lam": "damping λ",
    "omega": "concentration of ω",
}
_ALL_ARMS = [
    "top_k", "one_shot", "random_k", "bottom_k", "reward_filter", "all", "u2a", "u2a_support",
]  # fmt: skip
PRESETS: dict[str, configurations.Changes] = {
    "quick": {"ablation": {"seeds": 1, "arms": ["top_k", "random_k", "all"], "sensitivity": []}},
    "balanced": {
        "ablation": {
            "seeds": 3, "arms": ["top_k", "random_k", "bottom_k", "all", "u2a"], "sensitivity": []
        }
    },
    "full": {"ablation": {"seeds": 5, "arms": _ALL_ARMS, "sensitivity": []}},
}  # fmt: skip
PRESET_HELP = (
    "quick: Top-K, random and all, one seed, without bands. balanced: also the smallest gains and "
    "U2A, three seeds. full: every arm, five seeds. K is left as it is; none is marked once you "
    "change one"
)


def configure() -> None:
    """The settings of the next ablation, what it takes, its command, and Launch."""
    launching.project_link()
    base = project.settings()
    draft = drafts.current(PAGE, base, lambda: ("ablate", base))
    seed = draft.settings(base)
    state, filling = st.session_state, drafts.named(PAGE)
    if state.get("ablation_filling") != filling:
        state.update(ablation_filling=filling, ablation_method=seed.inner.method)
    method = st.selectbox(
        "Method", list(launching.METHODS), format_func=launching.METHODS.__getitem__,
        key="ablation_method", persist_state="session",
    )  # fmt: skip
    raw, place = seed.model_dump(mode="json"), st.container()
    raw["inner"]["method"] = method
    raw["ablation"] |= forms.section_form(seed.ablation, key=f"{filling}_ablation", names=NAMES)
    settings = unlearn_form.all_settings(raw, PAGE, ("inner", "outer", "objective", "evaluation"))
    if settings is None:
        launching.button("ablate", base, [("set what is told above", "")])
        return
    with place:
        unlearn_form.preset_choice(
            PAGE, PRESETS, about=PRESET_HELP, base=base, command="ablate", settings=settings
        )
    lacking = launching.NOTHING
    try:
        st.caption(_size(settings))
    except U2AError as error:
        st.error(parts.plain(str(error)))
        lacking = [("set what is told above", "")]
    launching.launcher(PAGE, "ablate", base, settings, lacking)


def _size(settings: Settings) -> str:
    """How many runs the settings make; of a set on the hub the number of samples is not known.

    Raises:
        U2AError: if a K is larger than the number of negatives, or there is nothing to do.
    """
    source, seeds = settings.data.negatives, settings.ablation.seeds
    if not source:
        return ""
    if not there(Path(source)):
        return "The number of runs is known once the negatives are downloaded."
    columns = settings.data.columns_of("negatives")
    n = _count(source, dict(columns), Path(source).stat().st_mtime)
    planned, ks = ablation.plan(settings, n), ablation.grid(settings, n)
    workers = settings.ablation.workers or os.cpu_count() or 1
    takes = durations.many(Counter(map(_command, planned)), settings, workers)
    return (
        f"Makes **{len(planned)} runs** on {n} negatives, K = {', '.join(map(str, ks))}, "
        f"{seeds} seed{'s' * (seeds > 1)}. Each seed begins with a run that scores the gains. "
        f"{'One seed gives no band.' if seeds == 1 else 'It can be stopped and resumed.'} {takes}"
    )


def _command(arm: ablation.Arm) -> str:
    """The command that an arm is a run of."""
    if arm.arm == "gains":
        return "gains"
    chosen = ("u2a", "top_k", "bottom_k", "step_size", "sparsity", "lam")
    return "reweight" if arm.arm in chosen else "unlearn"


@st.cache_data(max_entries=8, show_spinner=False)
def _count(source: str, columns: dict[Part, str], changed: float) -> int:
    return len(load_negatives(source, columns=columns))
