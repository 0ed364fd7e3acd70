"""The draft of a job's form: what in it differs from the project's settings.

It survives a change of page, a reload and a restart, since it is kept with the runs, one for each
form and project; the browser's session holds what its own tab last filled in.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import streamlit as st

from app import configurations, parts, project
from app.configurations import Changes
from u2a_core.config import Settings
from u2a_core.errors import ConfigError, RunError
from u2a_core.runs import Run
from u2a_core.runs.files import read_json, write_json

FORMS = {
    "reweight": "unlearn", "unlearn": "unlearn", "baseline": "unlearn", "ablate": "ablation"
}  # fmt: skip
"""The page with a form for a command."""


@dataclass(frozen=True)
class Draft:
    """What a form's widgets begin with.

    Attributes:
        number: counts the fillings; widgets of another filling are others.
        command: what the job would be.
        changes: of the project's settings.
    """

    number: int
    command: str
    changes: Changes

    def settings(self, base: Settings) -> Settings:
        """Those of the project with the changes; the project's alone where they no longer fit."""
        try:
            return configurations.applied(base, self.changes, source="The draft of this form")
        except ConfigError as error:
            st.warning(parts.plain(f"{error} The form begins anew."))
            return base


First = Callable[[], tuple[str, Settings]]
"""Makes the first filling of a form: the command and the settings."""


def current(page: str, base: Settings, first: First) -> Draft:
    """The form's draft: this tab's, else the one that is kept, else the first filling."""
    state, key = st.session_state, _key(page)
    if key not in state:
        found = _read(page)
        if found is None:
            command, settings = first()
            found = Draft(0, command, configurations.differences(base, settings))
        state[key], state[f"{key}_kept"] = found, (found.command, found.changes)
    draft: Draft = state[key]
    return draft


def fill(page: str, command: str, base: Settings, settings: Settings) -> None:
    """Fills the form anew: a preset, a configuration, a run's settings."""
    state, key = st.session_state, _key(page)
    number = state[key].number + 1 if key in state else 0
    state[key] = Draft(number, command, configurations.differences(base, settings))
    keep(page, command, base, settings)


def keep(page: str, command: str, base: Settings, settings: Settings) -> None:
    """Keeps what the form says now, where that is news."""
    state, key = st.session_state, f"{_key(page)}_kept"
    content = command, configurations.differences(base, settings)
    if state.get(key) == content:
        return
    try:
        parts.workspace().check_writable()
        write_json(_file(page), {"command": command, "changes": content[1]})
        state[key] = content
    except RunError:
        st.caption("This form's draft could not be kept: a reload would lose it.")


def command(page: str) -> str:
    """What the form was last to launch."""
    return str(st.session_state[f"{_key(page)}_kept"][0])


def latest(page: str, base: Settings) -> Settings:
    """What the form said last, over the project's settings.

    Raises:
        ConfigError: if they no longer go together.
    """
    changes = st.session_state[f"{_key(page)}_kept"][1]
    return configurations.applied(base, changes, source="The draft of this form")


def duplicate(run: Run) -> str:
    """Fills the form of a run's command with the run's settings; returns the form's page.

    Raises:
        U2AError: if the run's or the project's settings cannot be read.
    """
    command = run.config()["command"]
    page, base = FORMS[command], project.settings()
    fill(page, command, base, run.settings())
    return page


def named(page: str) -> str:
    """What the keys of the form's widgets begin with, in this filling."""
    draft = st.session_state.get(_key(page))
    return f"{_key(page)}_{draft.number if draft else 0}"


def _key(page: str) -> str:
    return f"draft_{page}_{project.chosen()}"


def _file(page: str) -> Any:
    return parts.workspace().folder / ".forms" / f"{page}-{project.chosen()}.json"


def _read(page: str) -> Draft | None:
    """The kept one; None where there is none, or a damaged one."""
    try:
        content = read_json(_file(page))
    except RunError:
        return None
    command, changes = content.get("command"), content.get("changes")
    if FORMS.get(str(command)) != page or not isinstance(changes, dict):
        return None
    return Draft(0, str(command), changes)
