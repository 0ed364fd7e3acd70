"""Data: the demo's files or the user's own; what is usable, faults by line, what J needs."""

import hashlib
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st
import yaml

from app import forms, parts
from u2a_core.config import DataSettings, Settings, parse_settings, resolved, there
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
    draft = _draft()
    with st.form("own", border=True):
        st.subheader("Model")
        path = st.text_input(
            "Model folder or hub id", draft.model.path, key="own_model",
            help="A causal language model with a chat template, in safetensors",
        )  # fmt: skip
        with st.expander("What is trained, number format, device"):
            model = forms.section_form(draft.model, key="own_model", leave_out=("path",))
        st.subheader("Files")
        st.caption(
            "JSONL, JSON, CSV or Parquet; prompts also as lines of text. Upload a file, or name it."
        )
        files = {role: _file_field(role, draft) for role in ROLES}
        st.subheader("Objective J: how is alignment measured?")
        ways = list(WAYS)
        way = st.radio(
            "How J is measured", ways, format_func=WAYS.__getitem__, index=ways.index(_way(draft)),
            key="own_way", label_visibility="collapsed",
        )  # fmt: skip
        reward = st.text_input(
            "Reward: a model's folder or hub id, or file.py:function (with pairs alone optional)",
            draft.objective.reward or draft.evaluation.reward,
            key="own_reward",
            help="function(prompts, replies) returns a score for each reply, higher = better. "
            "Where J compares preference pairs alone, it only measures the comparison afterwards",
        )
        if st.form_submit_button("Check and save", type="primary"):
            _save(draft, {**model, "path": path.strip()}, files, str(way), reward)
    if parts.draft_file().exists():
        st.download_button(
            "settings.yaml", parts.draft_file().read_text("utf-8"), "settings.yaml",
            help="The same settings for the command line", icon=":material/download:",
        )  # fmt: skip


def _draft() -> Settings:
    """What was saved before; a damaged file is told, and the form begins anew."""
    try:
        return parts.project() if parts.draft_file().exists() else Settings()
    except U2AError as error:
        st.warning(parts.plain(f"{error} The form begins anew."))
        return Settings()


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
    raw["evaluation"]["reward"] = reward.strip() if way == "pairs" else ""
    try:
        settings = parse_settings(resolved(raw, Path()), source="the form")
        problems = _problems(settings, way)
        text = yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False)
        with writing(parts.draft_file()):
            replace_file(parts.draft_file(), lambda beside: beside.write_text(text, "utf-8"))
    except U2AError as error:
        st.error(parts.plain(str(error)))
        return
    if problems:
        told = "".join(f"\n- {parts.plain(problem)}" for problem in problems)
        st.warning(f"Saved. Before a job can run:{told}")
        return
    st.success("Saved, and every file can be read. The counts are below; next:")
    st.page_link("views/gains.py", label="Compute gains", icon=":material/arrow_forward:")
    st.page_link("views/unlearn.py", label="Unlearn", icon=":material/arrow_forward:")


def _problems(settings: Settings, way: str) -> list[str]:
    """What is missing, is not there, or cannot be read."""
    needed = {
        "name a model": settings.model.path,
        "upload or name the negatives": settings.data.negatives,
    }
    if way == "pairs":
        needed["upload or name preference pairs, which J compares"] = settings.data.preferences
    else:
        needed["name the reward that scores replies"] = settings.objective.reward
    found = [what for what, given in needed.items() if not given]
    for title, place in (
        ("model", settings.model.path),
        ("reward", settings.objective.reward or settings.evaluation.reward),
    ):
        here = place.rpartition(":")[0] if ".py:" in place else place
        if (
            here
            and (place.startswith((".", "/", "~")) or ".py:" in place)
            and not there(Path(here))
        ):
            found.append(f"the {title} is not at {here[:200]}: check the path")
    reports = _inspections(settings)
    return found + [
        f"{ROLES[report.role][0]}: {report.error}"
        for report in reports
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
