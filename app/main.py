"""The workbench's entry: settings of the page, navigation, and the state kept in the address."""

import streamlit as st

from app import urlstate

PAGES = {
    "home": ("Home", "What is running, recent runs, the demo"),
    "data": ("Data", "Negatives, preference pairs and prompts: counts, faults, a preview"),
    "gains": ("Gains", "What unlearning each negative sample is worth"),
    "unlearn": ("Unlearn", "Launch an unlearning run and watch it"),
    "compare": ("Compare", "Rewards with intervals, replies before and after"),
}

st.set_page_config(page_title="U2A workbench", layout="wide")
st.html("<style>[data-testid=stMainBlockContainer]{padding-top:4rem}</style>")
urlstate.load()
chosen = st.navigation(
    [
        st.Page(
            f"views/{name}.py",
            title=title,
            help=about,
            default=name == "home",
            url_path=None if name == "home" else name,
        )
        for name, (title, about) in PAGES.items()
    ],
    position="top",  # the width is for pictures and tables
)
chosen.run()
urlstate.save()
