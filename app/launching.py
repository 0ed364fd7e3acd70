"""What the forms of several pages share: methods by name, Launch, the same as command and file."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import streamlit as st

from app import configurations, drafts, durations, parts, project, runview
from u2a_core.config import Settings
from u2a_core.errors import U2AError
from u2a_core.runs import demo_assets

METHODS = {
    "npo": "NPO: bounded, the steadiest",
    "ga": "Gradient ascent: the simplest",
    "graddiff": "GradDiff: gradient ascent with a retain set",
    "simnpo": "SimNPO: NPO without a reference model",
}
"""Losses of unlearning, the steadiest first."""
BASELINES = {
    "dpo": "DPO: on the preference pairs",
    "ppo": "PPO: on sampled rewards",
    "retrain": "Retrain: fine-tune the base model without the negatives",
    "sft": "SFT: fine-tune the base model on the whole mixture",
}
"""What unlearning is compared with."""

Lacking = Sequence[tuple[str, str]]
"""Each thing that a job lacks, as an order, and the page that makes it."""
NOTHING: Lacking = ()
_POPOVER = 420
"""Width; what is told inside makes it no wider."""
STYLE = ".st-key-missing a *{white-space:normal;overflow:visible}"
"""Of the page's head."""


Source = Callable[[], tuple[str | None, Settings]]
"""Gives the settings that a form is filled with, and their command where it is told."""


def project_link() -> None:
    """Which model and data a job is launched with."""
    st.page_link(
        "views/data.py", label=f"Project: {project.NAMES[project.chosen()]}",
        icon=":material/folder_open:", help="Change it on Data",
    )  # fmt: skip


def project_file() -> Path:
    """The settings file of the project, for a command."""
    return project.draft_file() if project.chosen() == "own" else demo_assets() / "demo.yaml"


def button(
    command: str,
    settings: Settings,
    lacking: Lacking = (),
    *,
    label: str = "Launch",
    help: str = "",
    primary: bool = True,
) -> bool:
    """A launch button, which shows the new job; where something is missing, what and where.

    Args:
        command: the job's.
        settings: the job's.
        lacking: what the page itself finds missing; the project's own is looked for here.
        label: of the button.
        help: for the pointer over it.
        primary: whether it is the page's main button.

    Returns:
        Whether the job can be launched.
    """
    lacking = [*lacking, *(project.missing(settings) if project.chosen() == "own" else ())]
    problem = _folder_problem()
    pressed = st.button(
        label, type="primary" if primary else "secondary", icon=":material/play_arrow:",
        width="stretch" if primary else "content", disabled=bool(lacking or problem),
        help=help or None, key=f"launch_{command}",
    )  # fmt: skip
    if problem:
        st.error(parts.plain(problem), icon=":material/folder_off:")
    if pressed:
        runview.launch(command, settings)
        st.rerun()
    missing(lacking)
    return not (lacking or problem)


def missing(lacking: Lacking) -> None:
    """What must be done before a job can run, each with a link to the page for it."""
    if not lacking:
        return
    with st.container(border=True, gap="xsmall", key="missing"):
        st.markdown(":material/info: **Before this can run**")
        for what, page in lacking:
            if page:
                label = f"{what[:1].upper()}{what[1:]}"
                st.page_link(
                    f"views/{page}.py", label=parts.plain(label), icon=":material/arrow_forward:",
                )  # fmt: skip
            else:
                st.markdown(parts.plain(what))


def _folder_problem() -> str:
    try:
        parts.workspace().check_writable()
    except U2AError as error:
        return str(error)
    return ""


def launcher(
    page: str, command: str, base: Settings, settings: Settings, lacking: Lacking = ()
) -> None:
    """Launch; and the same as a command, as a file, as differences, and as a named configuration.

    Args:
        page: whose form it is.
        command: the job's.
        base: the project's settings.
        settings: the job's.
        lacking: what the page itself finds missing.
    """
    button(command, settings, lacking)
    takes = durations.single(command, settings)
    if takes:
        st.caption(takes)
    drafts.keep(page, command, base, settings)
    _keeping(page, command, base, settings)
    command_box(command, base, settings)


def command_box(command: str, base: Settings, settings: Settings) -> None:
    """The command line and the settings file that launch the same run, to copy."""
    found = configurations.rows(base, settings)
    st.caption("The same as a command")
    line, file, changed = st.tabs(["Command", "YAML", f"Differences ({len(found)})"])
    text = configurations.command_line(command, project_file(), base, settings)
    line.code(text, language="bash", wrap_lines=True)
    written = configurations.as_yaml(command, settings)
    file.download_button(
        "Download", written, f"{command}.yaml", "application/yaml", icon=":material/download:",
        key=f"yaml_{command}",
    )  # fmt: skip
    file.code(written, language="yaml", height=320)
    if not found:
        changed.caption("None: these are the project's own settings.")
        return
    table = pd.DataFrame(found, columns=["setting", "project", "this form"]).astype(str)
    changed.dataframe(
        table, hide_index=True, alt="Settings of this form that differ from the project's"
    )


def _keeping(page: str, command: str, base: Settings, settings: Settings) -> None:
    """Save and load: named configurations, and settings files."""
    with st.container(horizontal=True):
        with (
            st.popover("Save", icon=":material/bookmark_add:", width="content"),
            st.container(width=_POPOVER),
        ):
            parts.guarded(lambda: _save(page, command, settings))
        with (
            st.popover("Load", icon=":material/folder_open:", width="content"),
            st.container(width=_POPOVER),
        ):
            parts.guarded(lambda: _load(page, base))


def _save(page: str, command: str, settings: Settings) -> None:
    """Keeps the form under a name."""
    state, key = st.session_state, f"save_name_{page}"

    def save() -> None:
        try:
            configurations.keep(parts.workspace().folder, state[key], command, settings)
            state[f"{key}_told"] = True, f"Saved as {state[key].strip()}."
        except U2AError as error:
            state[f"{key}_told"] = False, str(error)

    st.text_input("Name", key=key, max_chars=configurations.LONGEST_NAME)
    st.button("Save this configuration", key=f"save_{page}", on_click=save)
    good, told = state.pop(f"{key}_told", (True, ""))
    if told:
        (st.success if good else st.error)(parts.plain(told))


def _load(page: str, base: Settings) -> None:
    """Fills the form from a named configuration, a file, or pasted text."""
    state, folder = st.session_state, parts.workspace().folder
    commands = tuple(name for name, form in drafts.FORMS.items() if form == page)
    known = configurations.names(folder, commands)
    if known:
        name = st.selectbox("Saved configurations", known, key=f"load_name_{page}")
        with st.container(horizontal=True):
            st.button(
                "Load", key=f"load_{page}", on_click=_filled,
                args=(page, base, lambda: configurations.kept(folder, name)),
            )  # fmt: skip
            if st.button("Forget", key=f"forget_{page}"):
                configurations.drop(folder, name)
                st.rerun()
    given = st.file_uploader("Settings file (YAML)", key=f"load_file_{page}", max_upload_size=1)
    pasted = st.text_area("Or paste settings", key=f"load_text_{page}", height=120)

    def taken() -> tuple[str | None, Settings]:
        text = given.getvalue().decode("utf-8", errors="replace") if given else pasted
        return configurations.read(text, base, commands)

    st.button(
        "Fill the form", key=f"fill_{page}", disabled=not (given or pasted.strip()),
        on_click=_filled, args=(page, base, taken),
        help="A setting that the text does not name stays the project's",
    )  # fmt: skip
    good, told = state.pop(f"load_told_{page}", (True, ""))
    if told:
        (st.success if good else st.error)(parts.plain(told))


def _filled(page: str, base: Settings, source: Source) -> None:
    """Fills a form from what the source gives, or tells what is wrong with it."""
    state, told = st.session_state, f"load_told_{page}"
    try:
        command, settings = source()
        if command is None:
            command = "unlearn" if settings.weights != "uniform" else drafts.command(page)
        drafts.fill(page, command, base, settings)
        state[told] = True, f"Filled: {len(configurations.rows(base, settings))} differences."
    except U2AError as error:
        state[told] = False, str(error)[:1000]
