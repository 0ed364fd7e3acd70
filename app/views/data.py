"""Data: the demo's files or the user's own; what is usable, faults by line, what J needs."""

import hashlib
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from app import parts, project
from u2a_core.config import DataSettings, Settings
from u2a_core.data import DataReport, inspect_data, is_hub_id, load_negatives, replace_file
from u2a_core.errors import U2AError
from u2a_core.runs.files import writing
from u2a_core.types import prompt_text

ROLES = {
    "negatives": ("Negatives", "replies to unlearn, with their prompts; needed"),
    "preferences": (
        "Preference pairs",
        "prompt, chosen, rejected. Needed where J compares pairs; else optional: J uses the prompts"
    ),
    "objective_prompts": (
        "Prompts for J",
        "optional: J samples replies to these; else to the prompts of the pairs or the negatives"
    ),
    "retain": ("Retain set", "replies whose skill must survive. Needed by GradDiff; else optional"),
    "prompts": (
        "Test prompts",
        "for the comparison before and after, never for a decision. Optional; Compare needs them"
    ),
}  # fmt: skip
KINDS = ("jsonl", "json", "csv", "parquet", "txt")
MOST_ROWS = 1_000
SHOWN_FAULTS = 10
NUMBER = 150


def page() -> None:
    """The page."""
    st.title("Data")
    project.choice()
    if project.chosen() == "own":
        _own()
        if not project.draft_file().exists():
            return
    _reports(project.settings())


def _own() -> None:
    """The files of a user's own project; saved as settings that the command line reads too."""
    draft = project.draft()
    with st.form("own", border=True):
        st.subheader("Files")
        st.caption(
            "JSONL, JSON, CSV or Parquet; prompts also as lines of text. Upload a file, or name it."
        )
        files = {role: _file_field(role, draft) for role in ROLES}
        if st.form_submit_button("Check and save", type="primary"):
            _save(draft, files)
    if project.draft_file().exists():
        st.download_button(
            "settings.yaml", project.draft_file().read_text("utf-8"), "settings.yaml",
            help="The same settings for the command line", icon=":material/download:",
        )  # fmt: skip


def _file_field(role: str, draft: Settings) -> tuple[Any, str]:
    """An upload or a path for one file."""
    title, about = ROLES[role]
    left, right = st.columns([3, 2], vertical_alignment="bottom")
    upload = left.file_uploader(
        f"**{title}**: {about}", type=list(KINDS), key=f"own_upload_{role}", max_upload_size=200
    )
    path = right.text_input(
        f"{title}: path or hub id", getattr(draft.data, role), key=f"own_path_{role}",
        help="On this machine; an upload takes its place",
    )  # fmt: skip
    return upload, path


def _save(draft: Settings, files: dict[str, tuple[Any, str]]) -> None:
    """Keeps the project's settings, or says what is missing; nothing typed is lost."""
    raw = draft.model_dump(mode="json")
    for role, (upload, typed) in files.items():
        raw["data"][role] = typed.strip() if upload is None else str(_stored(upload))
    try:
        settings = project.write_draft(raw)
        unread = _unreadable(settings)
    except U2AError as error:
        st.error(parts.plain(str(error)))
        return
    project.saved(settings, unread)


def _unreadable(settings: Settings) -> list[str]:
    """Files that are not there, or cannot be read."""
    return [
        f"{ROLES[report.role][0]}: {report.error}"
        for report in _inspections(settings)
        if report.error and getattr(settings.data, report.role)
    ]


def _stored(upload: Any) -> Path:
    """An upload, kept under its content's hash: a name from a user never becomes a path."""
    content = upload.getvalue()
    kind = Path(upload.name).suffix.lower().removeprefix(".")
    name = hashlib.sha256(content).hexdigest() + "." + (kind if kind in KINDS else "txt")
    target = parts.workspace().folder / ".uploads" / name
    with writing(target):
        replace_file(target, lambda beside: beside.write_bytes(content))
    return target


def _reports(settings: Settings) -> None:
    """Each file: what is usable, and what is not, line by line."""
    for report in _inspections(settings):
        with st.container(border=True):
            _report(report)
    for role in ROLES:
        if is_hub_id(getattr(settings.data, role)):
            st.info(
                f"{ROLES[role][0]}: {parts.plain(getattr(settings.data, role))} is a set on the "
                "hub. A job downloads and checks it; u2a data settings.yaml shows it."
            )


def _inspections(settings: Settings) -> list[DataReport]:
    """The files' reports; sets on the hub are left to jobs, which may wait for a network."""
    local = {role: "" for role in ROLES if is_hub_id(getattr(settings.data, role))}
    data = settings.data.model_copy(update=local)
    files = [
        Path(path) for name, path in settings.local_paths().items() if name.startswith("data.")
    ]
    state = tuple((str(file), file.stat().st_mtime_ns, file.stat().st_size) for file in files)
    reports = _inspected(data.model_dump_json(), state)
    return [report for report in reports if report.role not in local]


@st.cache_data(max_entries=4, show_spinner="Reading the files")
def _inspected(settings: str, state: tuple[object, ...]) -> list[DataReport]:
    """The files' reports, read anew when the settings or the files' state have changed."""
    return inspect_data(DataSettings.model_validate_json(settings))


def _report(report: DataReport) -> None:
    st.subheader(ROLES[report.role][0])
    st.caption(parts.plain(report.path or "no file"))
    if report.error:
        st.error(parts.plain(report.error))
        return
    row = st.container(horizontal=True)
    row.metric("Usable", f"{report.usable:,}", width=NUMBER)
    row.metric("Faults", f"{len(report.faults):,}", width=NUMBER)
    row.metric("Duplicates dropped", f"{report.duplicates:,}", width=NUMBER)
    row.metric(
        "Median characters", f"{report.median_length:.0f}", width=NUMBER,
        help=f"the longest has {report.longest:,}",
    )  # fmt: skip
    if report.faults:
        lines = [f"line {f.line}: {f.reason}" for f in report.faults[:SHOWN_FAULTS]]
        more = len(report.faults) - len(lines)
        lines += [f"and {more} more"] if more else []
        st.warning(
            "These lines cannot be used. A job leaves out and counts those that lack something; "
            "it refuses a file with a line that is no record at all until that is mended."
        )
        st.code("\n".join(lines), language=None)
        table = pd.DataFrame([(f.line, f.reason) for f in report.faults], columns=["line", "fault"])
        parts.download(table, f"{report.role}-faults", key=f"faults_{report.role}")
    if report.role == "negatives":
        _table(report.path)
    else:
        with st.expander("Preview"):
            st.code("\n".join(report.preview), language=None)


def _table(path: str) -> None:
    """The negatives themselves."""
    count, table = _negatives(path, Path(path).stat().st_mtime_ns)
    if count > MOST_ROWS:
        st.caption(f"The first {MOST_ROWS:,} of {count:,}.")
    hidden = ["kind"] if not table["kind"].any() else []
    st.dataframe(
        table.drop(columns=hidden), hide_index=True, height=300, alt="The negative samples"
    )


@st.cache_data(max_entries=4, show_spinner="Reading the negatives")
def _negatives(path: str, changed: int) -> tuple[int, pd.DataFrame]:
    """How many there are, and the first of them; read anew when the file has changed."""
    samples = load_negatives(path, on_fault="skip").samples
    rows = [
        {
            "id": sample.id,
            "kind": sample.kind,
            "prompt": prompt_text(sample.prompt)[:160],
            "reply": sample.response[:160],
        }
        for sample in samples[:MOST_ROWS]
    ]
    return len(samples), pd.DataFrame(rows)


parts.guarded(page)
