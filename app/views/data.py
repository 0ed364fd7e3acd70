"""Data: the demo's files or the user's own; what is usable, faults by line, what J needs."""

import hashlib
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st
import yaml

from app import forms, parts
from u2a_core.config import DataSettings, Settings, parse_settings, resolved
from u2a_core.data import DataReport, inspect_data, load_negatives, replace_file
from u2a_core.errors import U2AError
from u2a_core.runs.files import writing
from u2a_core.types import prompt_text

ROLES = {
    "negatives": ("Negatives", "replies to unlearn, with their prompts; needed"),
    "preferences": ("Preference pairs", "prompt, chosen, rejected; J compares them or asks them"),
    "objective_prompts": (
        "Prompts for J", "whose sampled replies are rewarded; else those of the pairs or negatives"
    ),
    "retain": ("Retain set", "replies whose skill must survive; needed by GradDiff"),
    "prompts": ("Test prompts", "for the comparison before and after, never for a decision"),
}  # fmt: skip
WAYS = {
    "model": "By a reward model: a sequence classifier scores sampled replies",
    "function": "By a reward function of mine: file.py:function scores sampled replies",
    "pairs": "By preference pairs alone: no reward is needed",
}
KINDS = ("jsonl", "json", "csv", "parquet", "txt")
MOST_ROWS = 1_000
SHOWN_FAULTS = 10
NUMBER = 150


def page() -> None:
    """The page."""
    st.title("Data")
    chosen = st.segmented_control(
        "Project", list(parts.PROJECTS), default=parts.chosen_project(), key="project_choice",
        format_func=lambda name: parts.PROJECTS[name].capitalize(),
        help="Jobs are launched with this project's model and files",
    )  # fmt: skip
    st.session_state["project"] = chosen or parts.chosen_project()
    if st.session_state["project"] == "own":
        _own()
        if not parts.draft_file().exists():
            return
    _reports(parts.project())


def _own() -> None:
    """The form of a user's own project; saved as settings that the command line reads too."""
    draft = parts.project() if parts.draft_file().exists() else Settings()
    with st.form("own", border=True):
        st.subheader("Model")
        path = st.text_input(
            "Model folder or hub id", draft.model.path, key="own_model",
            help="A causal language model with a chat template, in safetensors",
        )  # fmt: skip
        with st.expander("What is trained, number format, device"):
            model = forms.section_form(draft.model, key="own_model", leave_out=("path",))
        st.subheader("Files")
        st.caption("JSONL, JSON, CSV or Parquet. Upload a file, or name it by its path.")
        files = {role: _file_field(role, draft) for role in ROLES}
        st.subheader("Objective J: how is alignment measured?")
        ways = list(WAYS)
        way = st.radio(
            "How J is measured", ways, format_func=WAYS.__getitem__, index=ways.index(_way(draft)),
            key="own_way", label_visibility="collapsed",
        )  # fmt: skip
        reward = st.text_input(
            "Reward model's folder or hub id, or file.py:function",
            draft.objective.reward,
            key="own_reward",
            help="function(prompts, replies) returns a score for each reply, higher = better. "
            "Unused where J compares preference pairs alone",
        )
        if st.form_submit_button("Check and save", type="primary"):
            _save(draft, {**model, "path": path.strip()}, files, str(way), reward)
    if parts.draft_file().exists():
        st.download_button(
            "settings.yaml", parts.draft_file().read_text("utf-8"), "settings.yaml",
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
        f"or path or hub id ({title.lower()})", getattr(draft.data, role), key=f"own_path_{role}",
        help="On this machine; an upload takes its place",
    )  # fmt: skip
    return upload, path


def _way(draft: Settings) -> str:
    if draft.objective.kind == "preference":
        return "pairs"
    return "function" if ":" in draft.objective.reward else "model"


def _save(
    draft: Settings,
    model: dict[str, Any],
    files: dict[str, tuple[Any, str]],
    way: str,
    reward: str,
) -> None:
    """Keeps the project's settings, or says what is missing; nothing typed is lost."""
    raw = draft.model_dump(mode="json") | {"model": model}
    for role, (upload, typed) in files.items():
        raw["data"][role] = typed.strip() if upload is None else str(_stored(upload))
    raw["objective"]["kind"] = "preference" if way == "pairs" else "sampled_reward"
    raw["objective"]["reward"] = "" if way == "pairs" else reward.strip()
    try:
        settings = parse_settings(resolved(raw, Path()), source="the form")
        missing = _missing(settings, way)
        text = yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False)
        with writing(parts.draft_file()):
            replace_file(parts.draft_file(), lambda beside: beside.write_text(text, "utf-8"))
    except U2AError as error:
        st.error(parts.plain(str(error)))
        return
    if missing:
        st.warning(f"Saved. Before a job can run: {'; '.join(missing)}.")
    else:
        st.success("Saved. The counts are below; next, launch on Gains or Unlearn.")


def _missing(settings: Settings, way: str) -> list[str]:
    """What a job will ask for."""
    needed = {
        "name a model": settings.model.path,
        "upload or name the negatives": settings.data.negatives,
    }
    if way == "pairs":
        needed["upload or name preference pairs, which J compares"] = settings.data.preferences
    else:
        needed["name the reward that scores replies"] = settings.objective.reward
    return [what for what, given in needed.items() if not given]


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
    files = [
        Path(path) for name, path in settings.local_paths().items() if name.startswith("data.")
    ]
    state = tuple((str(file), file.stat().st_mtime_ns, file.stat().st_size) for file in files)
    for report in _inspected(settings.data.model_dump_json(), state):
        with st.container(border=True):
            _report(report)


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
    if len(samples) > MOST_ROWS:
        st.caption(f"The first {MOST_ROWS:,} of {len(samples):,}.")
    table = pd.DataFrame(rows)
    hidden = ["kind"] if not table["kind"].any() else []
    st.dataframe(
        table.drop(columns=hidden), hide_index=True, height=300, alt="The negative samples"
    )


parts.guarded(page)
