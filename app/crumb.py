"""The line under the bar: which project, model and run a page shows, and a link to this view."""

from urllib.parse import urlencode

import streamlit as st

from app import parts, project, runview, urlstate
from u2a_core.errors import RunError, U2AError
from u2a_core.runs import Run

LONGEST = 40
"""Characters of a model's name."""
STYLE = """
.st-key-crumb{min-height:2.2rem;margin:-.5rem 0 -1.2rem;font-variant-numeric:tabular-nums}
.st-key-crumb p{white-space:nowrap}
"""
"""Of the page's head; the height is there before the line is."""

_COPY = st.components.v2.component(
    "u2a_copy_link",
    html='<button type="button"></button>',
    css="""
    button{font:inherit;font-size:14px;line-height:1.6;padding:.1rem .6rem;cursor:pointer;
      color:var(--st-text-color);background:transparent;border-radius:var(--st-base-radius);
      border:1px solid var(--st-border-color);white-space:nowrap}
    button:hover,button:focus-visible{color:var(--st-primary-color);
      border-color:var(--st-primary-color)}
    """,
    js="""
    export default function ({ data, parentElement }) {
      const button = parentElement.querySelector("button")
      const say = (text) => { button.textContent = text }
      if (!button.textContent) say("Copy link")
      button.title = data.url
      button.onclick = async () => {
        try {
          await navigator.clipboard.writeText(data.url)
          say("Link copied")
        } catch {
          window.prompt("The link to this view", data.url)
        }
        setTimeout(() => say("Copy link"), 2000)
      }
    }
    """,
)


def show(page: str) -> None:
    """The line, after the page has said which run it shows.

    Args:
        page: its place in the address; empty for Home.
    """
    run, choices = _shown()
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.markdown(" › ".join([_project(run), _model(run), *_run(run)]))
        _COPY(data={"url": link(page, choices)}, key="copy_link", width="content")


def link(page: str, choices: dict[str, str]) -> str:
    """The address of a view; a page's name follows that of the server."""
    here = (st.context.url or "http://localhost").rstrip("/")
    if page and here.endswith(f"/{page}"):
        here = here.removesuffix(f"/{page}")
    query = f"?{urlencode(choices)}" if choices else ""
    return f"{here}/{page}{query}"


def _shown() -> tuple[Run | None, dict[str, str]]:
    """The run that the page shows, and the choices of a link to it."""
    choices = urlstate.choices()
    name = runview.shown()
    if name is None:
        return None, choices
    try:
        return parts.workspace().find(name), choices | {"run": name}
    except RunError:  # told by the page
        return None, choices


def _project(run: Run | None) -> str:
    return f":material/folder_open: {parts.plain(project.of(run))}"


def _model(run: Run | None) -> str:
    """The model of the run, else the one that a job would use."""
    try:
        path = (run.settings() if run else project.settings()).model.path
    except U2AError:
        path = ""
    name = path.rstrip("/").rpartition("/")[2] or "no model yet"
    return parts.plain(name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…")


def _run(run: Run | None) -> list[str]:
    """The run with its state and the number of its samples."""
    if run is None:
        return []
    state = run.status().state
    found = [f"**{parts.plain(parts.workspace().identify(run))}** {runview.MARKS[state]}"]
    if state == "finished":
        n = _samples(run)
        found[0] += f" {n:,} samples" if n else ""
    return found


def _samples(run: Run) -> int | None:
    """How many negatives a finished run was computed from."""
    try:
        report = run.report()
    except RunError:
        return None
    data = report.get("data")
    n = data.get("negatives") if isinstance(data, dict) else report.get("negatives")
    return n if isinstance(n, int) else None
