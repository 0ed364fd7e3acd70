"""What every page uses: the folder of runs, errors as boxes, numbers in frames, downloads.

Pages read run directories and launch jobs; nothing is computed here that a model is needed for.
"""

import os
import re
import time
import traceback
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from u2a_core.errors import U2AError
from u2a_core.figures import Mode
from u2a_core.runs import Workspace

_CARD = 224
_FAILED = "_callback_failed"
_LINKED = re.compile(
    r"(?<=:)(?=//|material/|[\w+-]+:)|(?<=www)(?=\.)|(?<=@)|(?<=-)(?=>)", re.IGNORECASE
)
"""Places inside what Markdown would follow, or draw: addresses, icons, arrows."""
_JOINER = "\u2060"
"""Has no width."""


def workspace() -> Workspace:
    """The folder of runs that `u2a app --runs` names."""
    return Workspace(Path(os.environ.get("U2A_RUNS", "runs")).resolve())


def mode() -> Mode:
    """Whether the page is light or dark."""
    return "dark" if st.context.theme.type == "dark" else "light"


def guarded(page: Callable[[], None]) -> None:
    """Runs a page, or a part; what goes wrong is a box that says what to do."""
    if _FAILED in st.session_state:  # a click in a fragment, which draws itself alone
        st.rerun()
    try:
        page()
    except Exception as error:  # the boundary: what is left is a fault of ours, or a damaged run
        st.error(_sentence(error, "This part cannot be shown"))


def callback(write: Callable[..., object]) -> Callable[..., None]:
    """What a widget calls before the page is drawn; what goes wrong stands above that page."""

    @wraps(write)
    def call(*arguments: Any) -> None:
        try:
            write(*arguments)
        except Exception as error:  # as of `guarded`
            st.session_state[_FAILED] = _sentence(error, "This was not done")

    return call


def callback_told() -> None:
    """What went wrong in a callback: a box that stays until the next click."""
    if failed := st.session_state.pop(_FAILED, ""):
        st.error(failed)


def _sentence(error: Exception, what: str) -> str:
    if isinstance(error, U2AError):
        return plain(str(error))
    traceback.print_exc()
    return (
        f"{what}: {plain(f'{type(error).__name__}: {error}')}. The run may be damaged, or it is a "
        "fault of ours; the server's terminal has the details."
    )


def plain(text: str) -> str:
    """Text whose markup is shown, not followed, in Markdown."""
    safe = _LINKED.sub(_JOINER, text).replace("&", "&amp;")
    return "".join("\\" + c if c in r"\`*_{}[]()<>#+-!|~$:" else c for c in safe)


def number(place: Any, title: str, value: str, note: str = "", *, help: str = "") -> None:
    """A number in a frame, with its interval or n beneath."""
    place.metric(
        title, value, note or None, delta_color="off", delta_arrow="off", border=True, width=_CARD,
        help=help or None,
    )  # fmt: skip


def download(table: pd.DataFrame, name: str, *, key: str, title: str = "CSV") -> None:
    """A table as CSV."""
    st.download_button(
        title, table.to_csv(index=False), f"{name}.csv", "text/csv", key=key,
        icon=":material/download:",
    )  # fmt: skip


def age(seconds: float) -> str:
    """How long ago, in words."""
    passed = max(0.0, time.time() - seconds)
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if passed >= size:
            return f"{passed / size:.0f} {unit} ago"
    return "just now"
