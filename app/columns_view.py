"""What the columns of a set's file are read as, and where that is changed: format and columns."""

from collections.abc import Callable
from functools import partial

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from app import texts
from u2a_core.config import BESIDE, PARTS, Part, SetName, Settings
from u2a_core.data import CHOICES, FORMATS, DataReport

_PARTS: dict[str, str] = {
    "prompt": "Prompt",
    "response": "Reply",
    "messages": "Whole conversation",
    "chosen": "Chosen reply",
    "rejected": "Rejected reply",
    "id": "Id",
    "kind": "Kind",
}
_ABOUT = {
    "id": "names the sample in tables and links; without one it is made of the sample's texts",
    "kind": "optional: a label such as rude or false, by which Gains can be filtered",
}
Rename = Callable[[SetName, Part, str], None]
"""Takes a set, a part, and the column that the user says it is in; or format, and its name. Empty:
as it is recognized."""


def show(report: DataReport, settings: Settings, rename: Rename | None, *, blurred: bool) -> None:
    """The file's first rows, what each column is read as, and where that can be changed."""
    state, kept = st.session_state, f"columns_open_{report.role}"
    # once there was something to choose it stays open, while one column after the other is chosen
    state[kept] = state.get(kept, False) or (bool(report.error) and rename is not None)
    with st.expander("Columns and first rows", expanded=state[kept]):
        if rename is not None:
            _mapping(report, settings, rename)
        read_as = {column: _words(read) for column, read in report.reads.items()}
        rows = {
            f"row {place}": texts.masked(
                pd.Series([record.get(column, "") for column in report.columns]), blurred=blurred
            )
            for place, record in enumerate(report.head, start=1)
        }
        facts = {
            "column": list(report.columns),
            "read as": [read_as.get(column, "not read") for column in report.columns],
        }
        st.dataframe(
            pd.DataFrame(facts | rows), hide_index=True, alt="Columns and the file's first rows"
        )


def _mapping(report: DataReport, settings: Settings, rename: Rename) -> None:
    """A choice of the format, and of a column for each part that the set has."""
    role, state = report.role, st.session_state
    named = settings.data.columns_of(role)
    row = st.container(horizontal=True)
    _format(row, report, named, rename)
    for part in PARTS[role]:
        key = f"column_{role}_{part}"
        state[key] = named.get(part, "")
        by_name = "" if part in named else report.recognized.get(part, "")
        how = "by format" if report.format and "format" in named else "by name"
        known: list[str] = ["", *report.columns, *{named.get(part, "")} - {"", *report.columns}]

        def take(part: Part = part, key: str = key) -> None:
            rename(role, part, state[key] or "")

        row.selectbox(
            _PARTS[part], known, key=key, on_change=take, width=210, help=_ABOUT.get(part),
            format_func=partial(_choice, how, by_name),
        )  # fmt: skip


def _choice(how: str, by_name: str, column: str) -> str:
    return column or f"{how}: {by_name or 'none'}"


def _format(
    row: DeltaGenerator, report: DataReport, named: dict[Part, str], rename: Rename
) -> None:
    """A choice of the format of the whole file."""
    key, state = f"format_{report.role}", st.session_state
    state[key] = named.get("format", "")
    by_columns = set(named) - {"format", *BESIDE}
    found = "" if "format" in named or by_columns else report.title
    row.selectbox(
        "Format", ["", *CHOICES], key=key, width=300,
        on_change=lambda: rename(report.role, "format", state[key] or ""),
        format_func=lambda name: FORMATS[name].title if name
        else "by the columns chosen" if by_columns else f"recognized: {found or 'none'}",
        help="What the file's records hold. A column chosen beside it takes its place",
    )  # fmt: skip


def changed(named: dict[Part, str], role: SetName, part: Part, column: str) -> dict[Part, str]:
    """What is named of a set's columns, after one more was.

    A conversation holds its prompt and its reply: it takes their place, and they take its. A format
    takes the place of all columns but id and kind, and one of these that of a format.
    """
    clash: tuple[Part, ...] = ()
    if part == "format":
        clash = PARTS[role]
    elif column and part not in BESIDE:
        apart: tuple[Part, ...] = ("prompt", "response") if part == "messages" else ("messages",)
        clash = ("format", *(apart if part in ("messages", "prompt", "response") else ()))
    kept = {p: c for p, c in named.items() if p in BESIDE or p not in clash}
    return {**kept, part: column}


def _words(read: str) -> str:
    """What a column is read as: a part of the set, or words for it."""
    return _PARTS.get(read, read[:1].upper() + read[1:])
