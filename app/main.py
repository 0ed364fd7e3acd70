"""The workbench's entry: settings of the page, navigation, and the state kept in the address."""

import streamlit as st

from app import crumb, launching, parts, runview, stages, texts, urlstate

PAGES = {
    "home": ("Home", "What is running, recent runs, the demo"),
    "data": ("Data", "Negatives, preference pairs and prompts: counts, faults, a preview"),
    "model": ("Model", "The model, what of it is trained, the reward, the memory it takes"),
    "gains": ("Gains", "What unlearning each negative sample is worth"),
    "impact": ("Impact", "Impact curves: predicted against measured, sample by sample"),
    "unlearn": ("Unlearn", "Launch an unlearning run and watch it"),
    "ablation": ("Ablation", "Does it matter which negatives are unlearned, and how many?"),
    "compare": ("Compare", "Rewards with intervals, replies before and after"),
}
HIDDEN = {"sample": ("Sample", "")}
# Streamlit's own captions and chosen segments are fainter than 4.5 : 1; and in a narrow window it
# cuts the names of runs and the labels of switches; a link in focus looks like the chosen page;
# in a narrow window a chart's buttons lie over its title: they come with the mouse, or a tap
STYLE = """
[data-testid=stMainBlockContainer]{padding-top:4rem}
[data-testid=stCaptionContainer]{opacity:1}
[data-testid=stCaptionContainer] p,[data-testid=stCaptionContainer]{color:inherit;opacity:.86}
[data-testid=stButtonGroup] button[aria-checked=true],[role=tab][aria-selected=true],
[role=tab][aria-selected=true] *{color:inherit!important}
[data-testid=stPageLink] p,[data-testid=stCheckbox] p{white-space:normal!important}
[data-testid=stPageLink] p,[data-testid=stPageLink] a{overflow-wrap:anywhere;white-space:normal}
[data-testid=stPageLink] a:focus-visible{outline:2px solid currentColor!important}
@media (max-width:1100px){
.js-plotly-plot .modebar{opacity:0}
.js-plotly-plot:hover .modebar,.js-plotly-plot:focus-within .modebar{opacity:1}}
"""

st.set_page_config(page_title="U2A workbench", layout="wide")
st.html(f"<style>{STYLE}{texts.STYLE}{crumb.STYLE}{stages.STYLE}{launching.STYLE}</style>")
urlstate.load()
pages = {
    name: st.Page(
        f"views/{name}.py",
        title=title,
        default=name == "home",
        url_path=None if name == "home" else name,
    )
    for name, (title, _) in (PAGES | HIDDEN).items()
}
# our own bar: its links carry the choices, so that one click is one step of the browser's history
chosen = st.navigation(list(pages.values()), position="hidden")
with st.container(horizontal=True, key="bar"):
    for name, (title, about) in PAGES.items():
        st.page_link(
            pages[name], label=f"**{title}**" if pages[name] == chosen else title, help=about,
            query_params=urlstate.choices(), width="content",
        )  # fmt: skip
line = st.container(key="crumb")
runview.show_none()
parts.callback_told()
chosen.run()
with line:
    parts.guarded(lambda: crumb.show(chosen.url_path))
urlstate.save()
