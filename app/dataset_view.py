"""One set of samples on the Data page: counts, faults, columns, pictures, table, versions."""

from pathlib import Path

import pandas as pd
import streamlit as st

from app import columns_view, datasets, parts, rendering, texts
from app.columns_view import Rename
from u2a_core import figures
from u2a_core.config import SetName, Settings
from u2a_core.data import DataReport, beginning
from u2a_core.errors import RunError

SHOWN_FAULTS = 10
_NUMBER = 150
_MOST_ROWS = 1_000
_SHORT = 8
"""Characters of a content hash on a page."""
TITLES = {
    "negatives": "Negatives",
    "preferences": "Preference pairs",
    "objective_prompts": "Prompts for J",
    "retain": "Retain set",
    "prompts": "Test prompts",
    "harmful": "Harmful prompts",
    "benign": "Benign prompts",
    "reference": "Reference replies",
    "questions": "Questions",
    "outsiders": "Outsiders",
}
_NARROW = {"line": 60, "id": 90, "kind": 90, "column": 140, "read as": 140}
_WIDTHS = {name: st.column_config.Column(width=width) for name, width in _NARROW.items()} | {
    name: st.column_config.TextColumn(width="large")
    for name in ("prompt", "reply", "chosen", "rejected")
}
_TEXTS = {
    "negatives": "replies", "preferences": "pairs", "retain": "replies", "reference": "replies",
    "questions": "pairs", "outsiders": "replies",
}  # fmt: skip


def card(report: DataReport, settings: Settings, *, blurred: bool, rename: Rename | None) -> None:
    """Everything about a set.

    Args:
        report: what its file holds.
        settings: that name it.
        blurred: whether texts are hidden until clicked.
        rename: keeps what the user says of the columns; None where nothing can be changed.
    """
    _identity(report)
    if report.error:
        _error(report, rename)
    else:
        _numbers(report)
        _told(report)
    if report.faults and not report.error:
        _faults(report, blurred=blurred)
    if report.columns:
        columns_view.show(report, settings, rename, blurred=blurred)
    if report.error:
        return
    if _look(report):
        rendering.panel(settings, report.role, blurred=blurred)
    elif report.rows:
        _table(report, blurred=blurred)
    else:
        st.caption("The first rows stand under its columns.")
    what = _TEXTS.get(report.role, "prompts")
    if len(report.lengths) > 1:
        st.plotly_chart(
            figures.length_histogram(report.lengths, parts.mode(), what=what), theme=None,
            key=f"lengths_{report.role}",
            alt=f"Histogram of the lengths of the {report.usable} {what} in characters; median "
            f"{report.median_length:.0f}, longest {report.longest}",
        )  # fmt: skip
    _repeats(report, blurred=blurred)


def far(
    settings: Settings, role: SetName, what: str, *, blurred: bool, rename: Rename | None
) -> None:
    """A set that is large or on the hub: checked by a process of its own, once it is asked for."""
    path = datasets.name(getattr(settings.data, role))
    told = f"{TITLES[role]}: {parts.plain(beginning(path))} is {what}."
    slot = f"far_{role}"
    if not st.session_state.get(slot):
        st.info(f"{told} A job reads it; to see what it holds now, check it here.")
        st.button("Check it now", key=f"{slot}_begin", on_click=_want, args=(slot,))
        return
    try:
        key = rendering.begin(settings, 0)
    except RunError as error:
        st.error(parts.plain(str(error)))
        return

    def show() -> None:
        if rendering.state(key) == "working":
            st.progress(0.0, f"{told} It is being read and checked.")
        elif rendering.state(key) == "failed":
            rendering.failure(key)

    rendering.polled(key, show)
    if rendering.state(key) == "done":
        facts = next(f for f in rendering.answer(key)["files"] if f["role"] == role)
        found = DataReport.from_dict(facts)
        card(found, settings, blurred=blurred or texts.blurred(found.sha256), rename=rename)


def _want(slot: str) -> None:
    st.session_state[slot] = True


def brief(report: DataReport, *, blurred: bool) -> None:
    """The counts of a set, and its faults."""
    _identity(report)
    if report.error:
        _error(report, None)
        return
    st.markdown(
        f"{report.usable:,} usable, {report.faulty:,} faults, {report.duplicates:,} "
        f"duplicates; characters: median {report.median_length:,.0f}, longest {report.longest:,}"
    )
    if report.faults:
        _faults(report, blurred=blurred)


def _error(report: DataReport, rename: Rename | None) -> None:
    st.error(parts.plain(datasets.explained(report) or report.error))
    if report.columns and rename is not None:
        st.info("If the file has the columns under other names, choose them here.")


def _identity(report: DataReport) -> None:
    """Which file it is, and the content that it has now."""
    if not report.path:
        return
    told = f"{parts.plain(beginning(datasets.name(report.path)))}"
    file_hash = datasets.content_hash(Path(report.path))
    if file_hash:
        told += f" · file {file_hash[:_SHORT]}"
    if report.sha256:
        told += f" · samples {report.sha256[:_SHORT]}"
    seen = [v.first_seen for v in datasets.versions(report.role) if v.sha256 == file_hash]
    if seen:
        told += f" · first seen {parts.age(min(seen))}"
    st.caption(told)


def _numbers(report: DataReport) -> None:
    row = st.container(horizontal=True)
    row.metric("Usable", f"{report.usable:,}", width=_NUMBER)
    row.metric("Faults", f"{report.faulty:,}", width=_NUMBER)
    if report.left_out:
        row.metric(
            "Left out", f"{report.left_out:,}", width=_NUMBER,
            help="Records that by a rule of their format give nothing to this set",
        )  # fmt: skip
    dropped = " dropped" if report.role == "negatives" else ""
    row.metric(
        f"Duplicates{dropped}", f"{report.duplicates:,}", width=_NUMBER + 30,
        help="Records that repeat an earlier one exactly"
        + (". Each counts once" if dropped else "; of this set they are kept"),
    )  # fmt: skip
    row.metric("Median characters", f"{report.median_length:,.0f}", width=_NUMBER + 10)
    row.metric("Most characters", f"{report.longest:,}", width=_NUMBER + 10)


def _told(report: DataReport) -> None:
    """What the file was read as, what is odd about it, and what was left out."""
    told = [f"Read as {report.title}" if report.title else "Read by the columns named"]
    told[0] += f" ({report.container}). " if report.container else ". "
    told += [f"Columns {report.beside}."] if report.beside else []
    told += [f"The file {note}." for note in report.notes]
    told += [
        f"{reason.records:,} {reason.outcome}: {reason.reason} (first: line {reason.line})."
        for reason in report.reasons
        if reason.outcome in ("left out", "kept")
    ]
    st.caption(parts.plain(" ".join(told)))


def _all(what: str, kept: int, there_are: int) -> str:
    return f"All {what} (CSV)" if kept == there_are else f"The first {kept:,} {what} (CSV)"


def _faults(report: DataReport, *, blurred: bool) -> None:
    lines = [f"line {f.line}: {f.reason}" for f in report.faults[:SHOWN_FAULTS]]
    more = report.faulty - len(lines)
    lines += [f"and {more:,} more"] if more else []
    st.warning(
        "These lines cannot be used. A job leaves out and counts those that lack something; "
        "it refuses a file with a line that is no record at all until that is mended."
    )
    st.code("\n".join(lines), language=None)
    rows = [(f.line, f.reason, f.text) for f in report.faults]
    table = pd.DataFrame(rows, columns=["line", "fault", "text"])
    with st.container(horizontal=True):
        parts.download(
            table,
            f"{report.role}-faults",
            key=f"faults_{report.role}",
            title=_all("faults", len(table), report.faulty),
        )
    with st.expander("The lines themselves"):
        shown = table.head(_MOST_ROWS)
        st.dataframe(
            shown.assign(text=texts.masked(shown["text"], blurred=blurred)), hide_index=True,
            alt="The faulty lines",
        )  # fmt: skip


def _look(report: DataReport) -> bool:
    """Whether the samples are shown as the model reads them."""
    if report.role not in rendering.SETS:
        return False
    ways = ("Table", "As the model reads them")
    picked = st.segmented_control(
        "Samples", ways, default=ways[0], required=True, key=f"look_{report.role}",
        persist_state="session",
        help="Through the model's chat template and tokenizer, with the tokens of the reply marked",
    )  # fmt: skip
    return picked == ways[1]


def _table(report: DataReport, *, blurred: bool) -> None:
    """The first usable records."""
    table = pd.DataFrame(report.rows)
    if report.usable > len(table):
        st.caption(f"The first {len(table):,} of {report.usable:,}.")
    for column in ("prompt", "reply", "rejected"):
        table[column] = texts.masked(table[column], blurred=blurred and bool(table[column].any()))
    names = {"reply": "chosen"} if report.role in ("preferences", "questions") else {}
    filled = [column for column in table if table[column].astype(bool).any()]
    st.dataframe(
        table[filled].rename(columns=names), hide_index=True, height=330, column_config=_WIDTHS,
        alt=f"The first records of: {TITLES[report.role]}",
    )  # fmt: skip


def _repeats(report: DataReport, *, blurred: bool) -> None:
    if not report.repeated:
        return
    table = pd.DataFrame(report.repeated).rename(columns={"first": "repeats line"})
    with st.expander(f"Duplicates ({report.duplicates:,})"):
        shown = table.head(_MOST_ROWS)
        st.dataframe(
            shown.assign(text=texts.masked(shown["text"], blurred=blurred)), hide_index=True,
            alt="Records that repeat an earlier one",
        )  # fmt: skip
        parts.download(
            table, f"{report.role}-duplicates", key=f"repeats_{report.role}",
            title=_all("duplicates", len(table), report.duplicates),
        )  # fmt: skip
