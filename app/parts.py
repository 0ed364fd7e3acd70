"""What every page uses: the folder of runs, errors as boxes, numbers in frames, downloads.

Pages read run directories and launch jobs; nothing is computed here that a model is needed for.
"""

import os
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from u2a_core.errors import U2AError
from u2a_core.figures import Mode
from u2a_core.runs import Workspace

_CARD = 224


def workspace() -> Workspace:
    """The folder of runs that `u2a app --runs` names."""
    return Workspace(Path(os.environ.get("U2A_RUNS", "runs")).resolve())


def mode() -> Mode:
    """Whether the page is light or dark."""
    return "dark" if st.context.theme.type == "dark" else "light"


def guarded(page: Callable[[], None]) -> None:
    """Runs a page, or a part; what goes wrong is a box that says what to do."""
    try:
        page()
    except U2AError as error:
        st.error(plain(str(error)))
    except (
        Exception
    ) as error:  # the boundary: whatever is left is a fault of ours, or a damaged run
        traceback.print_exc()
        st.error(
            f"This part cannot be shown: {plain(f'{type(error).__name__}: {error}')}. The run may "
            "be damaged, or it is a fault of ours; the server's terminal has the details."
        )


def plain(text: str) -> str:
    """Text whose markup is shown, not followed, in Markdown."""
    return "".join("\\" + c if c in r"\`*_{}[]()<>#+-!|~$:" else c for c in text)


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
