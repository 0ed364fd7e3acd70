"""Gains: what unlearning each negative sample is worth; pictures, table and sample in step."""

import numpy as np
import streamlit as st

from app import (
    flagged,
    gain_grid,
    gain_table,
    launching,
    parts,
    project,
    runview,
    sample,
    selection,
    slice_bar,
    texts,
    urlstate,
)
from app.gain_table import Gains
from u2a_core import figures, table
from u2a_core.runs import Run, reviews, slices


def page() -> None:
    """The page."""
    st.title("Gains")
    st.caption(
        "The marginal gain Δg of a negative sample is the rate at which the objective J rises as "
        "its unlearning weight grows. Positive: unlearning it helps alignment. Negative: it hurts."
    )
    space = parts.workspace()
    runs = [run for run in (*space.runs(), *space.shipped()) if _has_gains(run)]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        run = runview.pick(
            runs, key="gains",
            empty="No gains yet. Compute them with the button, or open the demo on Home.",
        )  # fmt: skip
        _recompute()
    if run is None:
        return
    if not run.finished:
        runview.live_state(space.identify(run))
        return
    runview.stale_note(run)
    _explore(run)
    st.page_link(
        "views/unlearn.py", label="Next: unlearn with weights", icon=":material/arrow_forward:"
    )


def _has_gains(run: Run) -> bool:
    return run.config()["command"] in ("gains", "reweight")


def _recompute() -> None:
    names = {"demo": "Recompute for the demo", "own": "Compute for my data"}
    launching.button(
        "gains", project.settings(), label=names[project.chosen()], primary=False,
        help="Starts a job" + ("; about 15 s on two cores" if project.chosen() == "demo" else ""),
    )  # fmt: skip


def _explore(run: Run) -> None:
    """Numbers, pictures, table and sample panel of one run."""
    choices = gain_table.measures(run)
    measure = choices[0]
    if len(choices) > 1:
        measure = st.segmented_control(
            "Gains", choices, default=measure, format_func=gain_table.MEASURES.__getitem__,
            key="measure",
        ) or measure  # fmt: skip
    _numbers(run, gain_table.of(run, measure))
    runview.warnings(run)
    linked(parts.workspace().identify(run), measure)


def _numbers(run: Run, gains: Gains) -> None:
    """What the run says of all samples, each number with its n and its interval."""
    report, row, count = run.report(), st.container(horizontal=True), len(gains)
    helps = int((gains.frame["gain"] > 0).sum())
    parts.number(row, "Negative samples", f"{count:,}", run.settings().inner.method.upper())
    parts.number(
        row, "Help when unlearned", f"{helps / count:.1%}", f"{helps:,} of {count:,}",
        help="samples with a positive gain, at this model and with these prompts",
    )  # fmt: skip
    if "gain_low" in gains.frame:
        unsure = int(gains.uncertain.sum())
        parts.number(
            row, "Uncertain sign", f"{unsure / count:.1%}", f"{unsure:,} of {count:,}",
            help="the 95 % interval of the gain, over parts of J's prompts, holds 0",
        )  # fmt: skip
    found = report["objective"]
    if "mean" in found:
        parts.number(
            row, "Objective J ↑", f"{found['mean']:+.3f}",
            f"{table.bounds(found)}, n = {found['n']}",
            help="at the original model: mean over n prompts, with its 95 % interval",
        )  # fmt: skip
    else:
        parts.number(
            row, "Objective J ↑", f"{found['after']:+.3f}", f"from {found['before']:+.3f}",
            help="at the kept step, on J's own prompts, by which that step was chosen; "
            "Compare has the test prompts, with intervals",
        )  # fmt: skip
    known = report.get("gains") or {}
    if known:
        key = "auc_accumulated" if "auc_accumulated" in known else "auc_first_round"
        low, high = known["intervals"][key]
        parts.number(
            row, "AUC for mislabels", f"{known[key]:.3f}",
            f"[{low:.3f}, {high:.3f}], n = {known['n']}",
            help="How well gains tell real negatives from good replies flagged by mistake: 0.5 = "
            "chance, 1 = perfect; with 95 % interval. The file of truth is read only for this",
        )  # fmt: skip


@st.fragment
def linked(name: str, measure: str) -> None:
    """Pictures ↔ table ↔ sample: the same samples selected, by id."""
    parts.guarded(lambda: _linked(name, measure))
    if urlstate.unsaved():  # a fragment runs without the entry, which tells the address
        st.rerun()


def _linked(name: str, measure: str) -> None:
    run = parts.workspace().find(name)
    gains = gain_table.of(run, measure)
    sha256 = str(run.report()["data"]["negatives_sha256"])
    kept = slices.of_set(parts.workspace(), sha256)
    selection.begin(sha256)
    selection.settle(name, measure, gains)
    slice_bar.follow(kept)
    blurred, marks = texts.blurred(sha256), reviews.marks(parts.workspace(), sha256)
    _pictures(gains, blurred=blurred)
    tools = st.container(horizontal=True, vertical_alignment="bottom")
    rows = gain_grid.listed(gains, tools)
    with tools:
        st.space("stretch")
        texts.blur_switch(sha256, key="blur_gains")
        gain_grid.export_menu(name.replace("/", "-"), gains, rows, marks)
    _selected(run, gains, rows, kept)
    flags = st.session_state["side"] == gain_grid.FLAGGED
    if flags:
        flagged.told(gains, marks)
    gain_grid.grid(gains, rows, marks, blurred=blurred)
    if flags:
        flagged.evaluation(run, gains)
    chosen = st.session_state["chosen"]
    if st.session_state.get("sample") in chosen:
        sample.panel(run, gains, chosen, of="selected", blurred=blurred)
    else:
        sample.panel(run, gains, gains.ids(rows), of="listed", blurred=blurred)


def _pictures(gains: Gains, *, blurred: bool) -> None:
    """The histogram and the rank plot, each of which selects; under them, how many lead."""
    state, mode = st.session_state, parts.mode()
    left, right = st.columns(2)
    bars, rank = selection.picture_key("bars"), selection.picture_key("rank")
    left.plotly_chart(
        figures.gain_histogram(gains.frame, mode), theme=None, key=bars,
        on_select=lambda: selection.from_bars(state[bars].selection, gains),
        selection_mode=("points", "box"), alt="Histogram of marginal gains; positive helps",
    )  # fmt: skip
    table = gains.frame
    if blurred:
        table = table.assign(response=texts.masked(table["response"], blurred=True))
    many = len(gains) > figures.MOST_MARKERS
    right.plotly_chart(
        figures.rank_plot(
            table, mode, selected=state["told"] or None, top=selection.leading(gains)
        ),
        theme=None, key=rank, selection_mode=("points", "box", "lasso"),
        on_select=lambda: selection.from_rank(state[rank].selection, gains, aggregated=many),
        alt="Marginal gain of every sample by rank; a box or a click selects",
    )  # fmt: skip
    _leading(gains)


def _leading(gains: Gains) -> None:
    """K: so many samples of the highest gain are shaded; a button selects them."""
    state = st.session_state
    state["top_number"] = state["top_slider"] = selection.leading(gains)

    def follow(widget: str) -> None:
        selection.lead(gains, state[widget])

    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.number_input(
            "K, the samples that lead", 1, len(gains), key="top_number", width=180,
            on_change=follow, args=("top_number",),
            help="The K samples of the highest gain are shaded. At first: all that help",
        )  # fmt: skip
        if len(gains) > 1:
            st.slider(
                "K", 1, len(gains), key="top_slider", label_visibility="collapsed",
                on_change=follow, args=("top_slider",), width="stretch",
            )  # fmt: skip
        st.button(f"Select top {selection.leading(gains):,}", on_click=selection.top, args=(gains,))


def _selected(run: Run, gains: Gains, rows: np.ndarray, kept: list[slices.Slice]) -> None:
    """How many are selected and listed, and what can be done with them."""
    chosen = st.session_state["chosen"]
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(
            f"**Selected {len(chosen):,}** of {len(gains):,}; listed {len(rows):,}",
            width="stretch",
        )
        st.button(
            "Select listed", disabled=not len(rows), on_click=selection.choose,
            args=(gains.ids(rows), "listed"), help="All that the filters leave",
        )  # fmt: skip
        st.button(
            "Clear", disabled=not chosen, on_click=selection.choose, args=((), "clear"),
            help="Selects none",
        )  # fmt: skip
        slice_bar.buttons(run, gains, kept)
        one = slice_bar.choice(kept)
        if one is not None:
            slice_bar.manage(run, one)


parts.guarded(page)
