"""What a link holds: the run, the sample, and the two sides of a comparison.

The session keeps them under the same names; `load` before the page, `save` after it.
"""

import time

import streamlit as st

KEYS = ("run", "sample", "a", "b")
_SEEN = "_url_seen"
_LEFT = "_url_left"
_LATE_S = 3.0
"""A click made before the browser has our new address still brings the old one, for so long."""


def load() -> None:
    """Takes over what the address says where it has changed: a first load, a link, back."""
    seen, left = st.session_state.get(_SEEN, {}), st.session_state.get(_LEFT, {})
    for key in KEYS:
        value = st.query_params.get(key)
        old, since = left.get(key, (None, 0.0))
        late = value == old and time.monotonic() - since < _LATE_S
        if value is not None and seen.get(key) != value and not late:
            st.session_state[key] = value


def save() -> None:
    """Puts the session's choices into the address."""
    seen, left = {}, st.session_state.setdefault(_LEFT, {})
    for key in KEYS:
        value, before = st.session_state.get(key), st.query_params.get(key)
        if value is not None:
            seen[key] = value
        if value == before:
            continue
        left[key] = (before, time.monotonic())
        if value is None:
            del st.query_params[key]
        else:
            st.query_params[key] = value
    st.session_state[_SEEN] = seen
