"""Samples' texts on a page: as they stand, never as markup, and blurred where they may harm.

Whether a set is blurred is remembered with the runs, by the content hash of the set, so that it
holds in every tab and after a restart.
"""

import html
from pathlib import Path

import pandas as pd
import streamlit as st

from app import parts
from u2a_core.errors import RunError
from u2a_core.runs.files import read_json, write_json

MASK = "hidden: open the sample to read it"
_UNKEPT = "_blurred_here"
STYLE = """
.u2a-text{white-space:pre-wrap;overflow-wrap:anywhere;max-height:28rem;overflow-y:auto}
.u2a-blur{filter:blur(7px);cursor:pointer;user-select:none}
.u2a-blur:focus,.u2a-blur:focus-within{filter:none;cursor:auto;user-select:text;outline:none}
.st-key-top_slider [data-testid=stSliderThumbValue]{display:none!important}
button:enabled kbd{color:inherit!important;opacity:1!important}
"""
"""Of the page's head: a blurred text is read while it has the focus, by click or by Tab; the number
field beside the slider of K tells its value; names of keys are as legible as their buttons."""


def box(text: str, *, blurred: bool = False) -> None:
    """A text as it stands: nothing in it is markup."""
    st.html(boxed(html.escape(text), blurred=blurred))


def boxed(safe: str, *, blurred: bool) -> str:
    """Escaped HTML in the frame of a text."""
    more = ' u2a-blur" tabindex="0" title="Click to read' if blurred else ""
    return f'<div class="u2a-text{more}">{safe}</div>'


def prompt_and_reply(table: pd.DataFrame, sample: str, *, blurred: bool = False) -> None:
    """Prompt and reply of a sample, side by side."""
    found = table[table["id"] == sample]
    if found.empty:
        return
    asked, replied = st.columns(2)
    with asked:
        st.caption("Prompt")
        box(found.iloc[0]["prompt"], blurred=blurred)
    with replied:
        st.caption("Negative reply")
        box(found.iloc[0]["response"], blurred=blurred)


def blurred(sha256: str) -> bool:
    """Whether the texts of a set are blurred."""
    unkept = st.session_state.get(_UNKEPT, {})
    return bool(unkept.get(sha256, _kept().get(sha256, False)))


def blur_switch(sha256: str, *, key: str) -> bool:
    """The switch of a set, and what it says."""
    state = st.session_state
    state[key] = blurred(sha256)

    def keep() -> None:
        said = {sha256: bool(state[key])}
        state[_UNKEPT] = state.get(_UNKEPT, {}) | said  # in this tab also where no file can be
        write_json(_file(), _kept() | said)
        del state[_UNKEPT][sha256]

    return st.toggle(
        "Blur texts", key=key, on_change=parts.callback(keep),
        help="For harmful sets: a text is read by clicking it. Remembered for this set",
    )  # fmt: skip


def masked(column: pd.Series, *, blurred: bool) -> pd.Series:
    """A column of texts for a table or a hover, which cannot be blurred."""
    return pd.Series(MASK, index=column.index) if blurred else column


def _file() -> Path:
    return parts.workspace().folder / ".blurred.json"


def _kept() -> dict[str, bool]:
    try:
        return read_json(_file())
    except RunError:  # none yet, or damaged: nothing is blurred that was not asked for
        return {}
