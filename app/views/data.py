"""Data: the demo's files or the user's own; what is usable, faults by line, what J needs."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from app import columns_view, dataset_view, datasets, parts, project, texts
from app.dataset_view import TITLES
from u2a_core import figures
from u2a_core.config import DataSettings, EvaluationSettings, Part, SetName, Settings, there
from u2a_core.data import EVALUATED, DataReport, Inspection, inspect_data, is_hub_id
from u2a_core.errors import U2AError

ROLES: dict[SetName, str] = {
    "negatives": "replies to unlearn, with their prompts; needed",
    "preferences":
        "prompt, chosen, rejected. Needed where J compares pairs; else optional, for their prompts",
    "objective_prompts":
        "optional: J samples replies to these; else to the prompts of the pairs or the negatives",
    "retain": "replies whose skill must survive. Needed by GradDiff; else optional",
    "prompts":
        "for the comparison before and after, never for a decision. Optional; Compare needs them",
}  # fmt: skip
_SAVED, _TOLD = "data_saved", "data_told"


def page() -> None:
    """The page."""
    st.title("Data")
    project.choice()
    own = project.chosen() == "own"
    if own:
        _own()
        if not project.draft_file().exists():
            return
    settings = project.settings()
    inspection = _inspection(settings)
    if own and st.session_state.pop(_SAVED, False):
        project.saved(settings, _unreadable(inspection, settings))
    _sets(inspection, settings, own=own)
    _evaluation(inspection)


def _own() -> None:
    """The files of a user's own project; saved as settings that the command line reads too."""
    draft = project.draft()
    with st.form("own", border=True):
        st.subheader("Files")
        st.caption(
            "JSONL, JSON, CSV or Parquet; prompts also as lines of text. Upload a file of at most "
            f"{datasets.LIMIT_MB} MB, or name a path on this machine or a set on the hub. Columns "
            "with other names are chosen once the file is there."
        )
        for role in ROLES:
            _file_field(role, draft)
        st.form_submit_button("Check and save", type="primary", on_click=_save, args=(draft,))
    if told := st.session_state.pop(_TOLD, ""):
        st.error(parts.plain(told))
    if project.draft_file().exists():
        st.download_button(
            "settings.yaml", project.draft_file().read_text("utf-8"), "settings.yaml",
            help="The same settings for the command line", icon=":material/download:",
        )  # fmt: skip


def _upload_key(role: str) -> str:
    """Of the uploader, which begins anew once its file is kept."""
    return f"own_upload_{role}_{st.session_state.get('own_uploads', 0)}"


def _file_field(role: SetName, draft: Settings) -> None:
    """An upload or a path for one file."""
    state, key, kept = st.session_state, f"own_path_{role}", getattr(draft.data, role)
    if state.get(f"{key}_kept") != kept:  # a first visit, or it was changed elsewhere
        state[key], state[f"{key}_kept"] = datasets.name(kept), kept
    title = TITLES[role]
    left, right = st.columns([3, 2], vertical_alignment="bottom")
    left.file_uploader(
        f"**{title}**: {ROLES[role]}", type=list(datasets.KINDS), key=_upload_key(role),
        max_upload_size=datasets.LIMIT_MB,
    )  # fmt: skip
    right.text_input(
        f"{title}: path or hub id", key=key, persist_state="session",
        help="On this machine; an upload takes its place",
    )  # fmt: skip


def _save(draft: Settings) -> None:
    """Keeps the project's settings, or says what is missing; nothing typed is lost."""
    state, files = st.session_state, dict[str, str]()
    try:
        for role in ROLES:
            upload, typed = state.get(_upload_key(role)), state.get(f"own_path_{role}") or ""
            kept = getattr(draft.data, role)
            same = kept if typed == datasets.name(kept) else typed.strip()  # an upload's own name
            files[role] = same if upload is None else str(datasets.store(upload))
        _keep(draft, files, {})
    except U2AError as error:
        state[_TOLD] = str(error)
        return
    state["own_uploads"] = state.get("own_uploads", 0) + 1
    state[_SAVED] = True


def _keep(draft: Settings, files: dict[str, str], columns: dict[str, dict[Part, str]]) -> None:
    """Writes files and columns into the user's own settings.

    Raises:
        U2AError: if a setting is wrong, or the folder of runs cannot be written.
    """
    raw = draft.model_dump(mode="json")
    raw["data"] |= files
    for role, named in columns.items():
        raw["data"]["columns"][role] = {p: c for p, c in named.items() if p != "format"}
        raw["data"]["formats"].pop(role, None)
        if named.get("format"):
            raw["data"]["formats"][role] = named["format"]
    project.write_draft(raw)


def _rename(role: SetName, part: Part, column: str) -> None:
    """What the user says of a column, or of the format."""
    draft = project.draft()  # as it is now: another choice may have been made meanwhile
    named = columns_view.changed(draft.data.columns_of(role), role, part, column)
    try:
        _keep(draft, {}, {role: named})
        st.session_state[_SAVED] = True
    except U2AError as error:
        st.session_state[_TOLD] = str(error)


def _unreadable(inspection: Inspection, settings: Settings) -> list[str]:
    """Files that are not there, or cannot be read."""
    return [
        f"{TITLES[report.role]}: {datasets.explained(report)}"
        for report in inspection.files
        if report.error and report.role in ROLES and getattr(settings.data, report.role)
    ]


def _inspection(settings: Settings) -> Inspection:
    """The reports of the files that are near; the others are left to processes of their own."""
    hub: dict[str, Any] = dict.fromkeys(_far(settings), "")
    asked: dict[str, Any] = {r: "" for r in EVALUATED if is_hub_id(getattr(settings.evaluation, r))}
    files = settings.local_paths()
    read = [files[name] for name in sorted(files) if name.startswith(("data.", "evaluation."))]
    state = tuple((str(f), f.stat().st_mtime_ns, f.stat().st_size) for f in read if f.is_file())
    found = _inspected(
        settings.data.model_copy(update=hub).model_dump_json(),
        settings.evaluation.model_copy(update=asked).model_dump_json(),
        state,
    )
    near = tuple(report for report in found.files if report.role not in hub)
    return Inspection(near, found.overlaps)


def _far(settings: Settings) -> dict[SetName, str]:
    """Sets that this server does not read itself, and what they are.

    One on the hub may wait for a network; a large one takes its time, and memory.
    """
    paths = {role: getattr(settings.data, role) for role in ROLES}
    found = {role: "a set on the hub" for role, path in paths.items() if is_hub_id(path)}
    for role, path in paths.items():
        if there(Path(path)) and (size := Path(path).stat().st_size) > datasets.LARGE:
            found[role] = f"a large file ({size / 2**20:,.0f} MB)"
    return found


@st.cache_resource(max_entries=4, show_spinner="Reading the files")
def _inspected(data: str, evaluation: str, state: tuple[object, ...]) -> Inspection:
    """The files' reports, read anew when the settings or the files' state have changed."""
    asked = EvaluationSettings.model_validate_json(evaluation)
    return inspect_data(DataSettings.model_validate_json(data), asked)


def _sets(inspection: Inspection, settings: Settings, *, own: bool) -> None:
    """All sets in one picture, what they share, and one of them in full."""
    reports = {report.role: report for report in inspection.files if report.role in ROLES}
    if own:
        _remember(reports.values(), settings)
    far = _far(settings)
    st.subheader("Sets")
    _sizes(list(reports.values()))
    for overlap in inspection.overlaps:
        st.warning(parts.plain(overlap.sentence), icon=":material/join_inner:")
    names = [role for role in ROLES if role in reports or role in far]
    sha256 = reports["negatives"].sha256 if "negatives" in reports else ""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        role = st.segmented_control(
            "Set", names, default=names[0], format_func=TITLES.__getitem__, required=True,
            key="data_set", persist_state="session", width="stretch",
        )  # fmt: skip
        blurred = texts.blur_switch(sha256, key="data_blur") if sha256 else False
    role = role if role in names else names[0]
    unread = [TITLES[r.role] for r in reports.values() if r.error and r.role != role]
    if unread:
        st.error(f"Cannot be read, choose it below to see why: {', '.join(unread)}.")
    with st.container(border=True):
        if role in far:
            dataset_view.far(
                settings, role, far[role], blurred=blurred, rename=_rename if own else None
            )
            return
        dataset_view.card(reports[role], settings, blurred=blurred, rename=_rename if own else None)
    if own:
        _versions(reports[role], settings)


def _sizes(found: list[DataReport]) -> None:
    """The picture of those that can be read."""
    reports = [report for report in found if not report.error]
    if not reports:
        return
    rows = [
        (
            TITLES[report.role],
            # of negatives a repetition is dropped; of other sets it is read, too
            report.usable - (0 if report.role == "negatives" else report.duplicates),
            report.duplicates,
            report.left_out,
            report.faulty,
        )
        for report in reports
    ]
    table = pd.DataFrame(rows, columns=["name", "used", "repeated", "left_out", "faulty"])
    told = "; ".join(f"{name} {used:,}" for name, used, *_ in rows)
    st.plotly_chart(
        figures.set_sizes(table, parts.mode(), unread=len(reports) < len(found)), theme=None,
        key="sizes", alt=f"Records of each set: {told}",
    )  # fmt: skip


def _remember(reports: Iterable[DataReport], settings: Settings) -> None:
    """Keeps what contents the sets have now."""
    try:
        for report in reports:
            if not report.error:
                datasets.remember(report, settings.data.columns_of(report.role))
    except U2AError as error:
        st.caption(parts.plain(f"Versions are not kept: {error}"))


def _versions(report: DataReport, settings: Settings) -> None:
    """Earlier contents of a set, and the way back to one."""
    role, columns = report.role, settings.data.columns_of(report.role)
    current = datasets.content_hash(Path(report.path)) if report.path else ""
    known = datasets.versions(role)
    if not known:
        return
    with st.expander(f"Versions ({len(known)})"):
        for place, version in enumerate(known):
            shown = (version.sha256, version.path, version.columns) == (
                current, report.path, columns
            )  # fmt: skip
            _version(role, place, version, current=shown)


def _version(role: str, place: int, version: datasets.Version, *, current: bool) -> None:
    named = ", ".join(f"{part} = {column}" for part, column in version.columns.items())
    faults = f", {version.faults:,} faults" if version.faults else ""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(
            f"**{version.sha256[:8]}** {parts.plain(version.name[-80:])}: {version.usable:,} usable"
            f"{faults}, first seen {parts.age(version.first_seen)}"
            + (f" ({parts.plain(named)})" if named else ""),
            width="stretch",
        )
        usable = current or version.there
        st.button(
            "in use" if current else "Use this", key=f"version_{role}_{place}",
            disabled=current or not usable, on_click=_go_back, args=(role, version),
            help=None if usable else "The file has changed or gone since; an upload would be kept",
        )  # fmt: skip


def _go_back(role: str, version: datasets.Version) -> None:
    try:
        _keep(project.draft(), {role: version.path}, {role: version.columns})
    except U2AError as error:
        st.session_state[_TOLD] = str(error)


def _evaluation(inspection: Inspection) -> None:
    """Files that only an evaluation reads: reported, folded away."""
    reports = [report for report in inspection.files if report.role in EVALUATED]
    blurred = any(report.sha256 and texts.blurred(report.sha256) for report in inspection.files)
    if not reports:
        return
    with st.expander(f"Evaluation ({len(reports)} files)"):
        st.caption("Read by u2a evaluate alone; named in the settings under evaluation.")
        for report in reports:
            st.markdown(f"**{TITLES[report.role]}**")
            dataset_view.brief(report, blurred=blurred)


parts.guarded(page)
