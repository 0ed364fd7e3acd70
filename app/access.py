"""The hub's token: entered on the Model page and kept in the session's memory, nowhere else.

Or else from the server's environment, or Streamlit's secrets. A job gets it by its environment; it
is never in a file, a log, an address or an argument.
"""

import os

import streamlit as st
from streamlit.errors import StreamlitSecretNotFoundError

VARIABLE = "HF_TOKEN"
_FIELD = "hub_token_field"
_KEPT = "_hub_token"


def environment() -> dict[str, str]:
    """What a job's environment must hold beside the server's."""
    token = _typed() or _secret()
    return {VARIABLE: token} if token else {}


def field(*, wanted: bool) -> None:
    """The field for a token, or where the one in use comes from.

    Args:
        wanted: whether the hub has just asked for one.
    """
    with st.expander("Access to gated and private models", expanded=wanted):
        if _typed():
            kept, forget = st.columns([3, 1], vertical_alignment="center")
            kept.markdown(
                "A token was entered. It is kept in memory until the page is reloaded or closed."
            )
            forget.button("Forget", on_click=_forget, width="stretch")
            return
        if os.environ.get(VARIABLE) or _secret():
            st.caption("A token comes with the server (HF_TOKEN); another may take its place here.")
        st.text_input(
            "Hugging Face token", type="password", key=_FIELD, on_change=_keep,
            autocomplete="off", placeholder="hf_…",
            help="Kept in memory only, never written to a file, a log or an address; jobs get it "
            "by their environment. Made at huggingface.co under Settings, Access Tokens",
        )  # fmt: skip


def _typed() -> str:
    return str(st.session_state.get(_KEPT, ""))


def _secret() -> str:
    try:
        return str(st.secrets.get(VARIABLE, ""))
    except StreamlitSecretNotFoundError:  # the server has no file of secrets
        return ""


def _keep() -> None:
    state = st.session_state
    state[_KEPT] = str(state[_FIELD]).strip()
    state[_FIELD] = ""


def _forget() -> None:
    st.session_state.pop(_KEPT, None)
