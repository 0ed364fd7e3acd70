"""The project that jobs are launched with: the embedded demo, or the user's own model and files.

The user's own is kept as a settings file in the folder of runs, which the command line reads too.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import streamlit as st
import yaml

from app import parts
from u2a_core.config import Settings, load_settings, parse_settings, resolved, there
from u2a_core.data import replace_file
from u2a_core.errors import U2AError
from u2a_core.runs import Run, demo_assets
from u2a_core.runs.files import writing

NAMES = {"demo": "embedded demo", "own": "my own model and data"}


def demo_settings() -> Settings:
    """The embedded scenario's settings."""
    return load_settings(demo_assets() / "demo.yaml")


def draft_file() -> Path:
    """Where the settings of the user's own project are kept."""
    return parts.workspace().folder / ".draft.yaml"


def chosen() -> str:
    """Demo or own: what the user chose, else their own data where they have put any."""
    default = "own" if draft_file().exists() else "demo"
    return str(st.session_state.get("project", default))


def choice() -> None:
    """The control that chooses the project."""
    picked = st.segmented_control(
        "Project", list(NAMES), default=chosen(), key="project_choice", required=True,
        format_func=lambda name: NAMES[name].capitalize(),
        help="Jobs are launched with this project's model and files",
    )  # fmt: skip
    choose(str(picked))


def choose(name: str) -> None:
    """Another project begins with none of the runs that were looked at before."""
    if name != chosen():
        st.session_state.update(run=None, sample=None, slice=None, a=None, b=None)
    st.session_state["project"] = name


def settings() -> Settings:
    """The settings that jobs are launched with: the user's own, else the demo's."""
    if chosen() == "own" and draft_file().exists():
        return load_settings(draft_file())
    return demo_settings()


def has(run: Run) -> bool:
    """Whether a run is of the model and the negatives of the chosen project."""
    if run.path.is_relative_to(demo_assets()):
        return chosen() == "demo"
    try:
        own, theirs = settings(), run.settings()
    except U2AError:  # told where the settings, or the run, are shown
        return False
    alike = own.data.negatives == theirs.data.negatives
    return alike and own.model.path == theirs.model.path


def of(run: Run | None) -> str:
    """What the project of a run is called; without a run the chosen one."""
    if run is None or has(run):
        return NAMES[chosen()]
    return NAMES["demo"] if run.path.is_relative_to(demo_assets()) else "another project"


def draft() -> Settings:
    """The user's own settings as saved; a damaged file is told, and the form begins anew."""
    try:
        return load_settings(draft_file()) if draft_file().exists() else Settings()
    except U2AError as error:
        st.warning(parts.plain(f"{error} The form begins anew."))
        return Settings()


def write_draft(raw: dict[str, Any]) -> Settings:
    """Keeps the user's own settings.

    Raises:
        ConfigError: if one is wrong; what was kept before stays.
        RunError: if the folder of runs cannot be written.
    """
    found = parse_settings(resolved(raw, Path()), source="Cannot be saved")
    text = yaml.safe_dump(found.model_dump(mode="json"), sort_keys=False)
    with writing(draft_file()):
        replace_file(draft_file(), lambda beside: beside.write_text(text, "utf-8"))
    return found


def missing(own: Settings) -> list[tuple[str, str]]:
    """What a job needs and is not named, or named wrongly: a sentence, and the page to mend it."""
    pairs = own.objective.kind == "preference"
    needed = {
        "name a model": (own.model.path, "model"),
        "upload or name the negatives": (own.data.negatives, "data"),
    }
    if pairs:
        needed["upload or name preference pairs, which J compares"] = (own.data.preferences, "data")
    else:
        needed["name the reward that scores replies"] = (own.objective.reward, "model")
    found = [(what, page) for what, (given, page) in needed.items() if not given]
    reward = own.objective.reward or own.evaluation.reward
    for title, place in (("model", own.model.path), ("reward", reward)):
        here = place.rpartition(":")[0] if ".py:" in place else place
        local = place.startswith((".", "/", "~")) or ".py:" in place
        if here and local and not there(Path(here)):
            found.append((f"the {title} is not at {here[:200]}: check the path", "model"))
    return found


def saved(own: Settings, also: Sequence[str] = ()) -> None:
    """After a save: what is still missing, each with its page, or where to go next.

    Args:
        own: what was saved.
        also: what the page itself found wrong.
    """
    lacking = [*missing(own), *((text, "") for text in also)]
    if not lacking:
        st.success("Saved; nothing is missing. Next:")
        st.page_link("views/gains.py", label="Compute gains", icon=":material/arrow_forward:")
        st.page_link("views/unlearn.py", label="Unlearn", icon=":material/arrow_forward:")
        return
    told = "".join(f"\n- {parts.plain(text)}" for text, _ in lacking)
    st.warning(f"Saved. Before a job can run:{told}")
    for page in dict.fromkeys(page for _, page in lacking if page):
        st.page_link(f"views/{page}.py", label=page.capitalize(), icon=":material/arrow_forward:")
