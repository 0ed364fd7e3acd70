"""What a link holds: the run, the sample, the slice, and the two sides of a comparison.

The session keeps them under the same names; `load` before the page, `save` after it. Only what the
user chose is written, so that the browser's Back goes to the page before; a missing key is no
choice.
"""

import time

import streamlit as st

KEYS = ("run", "sample", "slice", "a", "b")
_SEEN = "_url_seen"
_LEFT = "_url_left"
_WHOLE = "_url_whole_page"
_LATE_S = 2.0
"""A click made before the browser has our new address still brings the old one, for so long."""


def load() -> None:
    """Takes over what the address says where it has changed: a first load, a link, Back."""
    seen, left = st.session_state.get(_SEEN, {}), st.session_state.get(_LEFT, {})
    st.session_state[_WHOLE] = True
    for key in KEYS:
        value = st.query_params.get(key)
        if value == seen.get(key):
            continue
        old, since = left.get(key, (None, float("-inf")))
        if not (value == old and time.monotonic() - since < _LATE_S):
            st.session_state[key] = value


def save() -> None:
    """Puts the session's choices into the address."""
    left = st.session_state.setdefault(_LEFT, {})
    for key in KEYS:
        value, before = st.session_state.get(key), st.query_params.get(key)
        if value == before:
            continue
        left[key] = (before, time.monotonic())
        if value is None:
            del st.query_params[key]
        else:
            st.query_params[key] = value
    st.session_state[_SEEN] = choices()
    st.session_state[_WHOLE] = False


def choices() -> dict[str, str]:
    """What the session holds, for a link to another page."""
    found = {key: st.session_state.get(key) for key in KEYS}
    return {key: str(value) for key, value in found.items() if value is not None}


def unsaved() -> bool:
    """In a fragment that runs alone: whether a choice was made that the address does not say.

    A run of the whole page says it at its end, by `save`.
    """
    whole = st.session_state.get(_WHOLE, True)
    return not whole and bool(choices() != st.session_state.get(_SEEN, {}))
