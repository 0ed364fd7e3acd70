"""One sample in full: its texts, what was measured of it, its impact curve."""

import pandas as pd
import streamlit as st

from app import parts, texts
from u2a_core import figures
from u2a_core.runs import Run


def panel(run: Run, table: pd.DataFrame, chosen: list[str]) -> None:
    """One sample in full, with arrows through the selection."""
    state = st.session_state
    if state.get("sample") is None:
        st.caption(
            "Select samples by box or click in the plot, or tick rows, to read them in full."
        )
        return
    found = table[table["id"] == state["sample"]]
    if found.empty:
        st.warning(f"No sample {parts.plain(state['sample'][:40])} in this run. Select one above.")
        return
    row = found.iloc[0]
    among = chosen if state["sample"] in chosen else [state["sample"]]
    place = among.index(state["sample"])
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(
                f"**Sample {parts.plain(str(row['id']))}**: gain {row['gain']:+.3f}, "
                f"rank {row['rank']} of {len(table)}, {place + 1} of {len(among)} selected",
                width="stretch",
            )
            _arrow("←", "previous", among, place - 1)
            _arrow("→", "next", among, place + 1)
        read, facts = st.columns([3, 1])
        with read:
            texts.prompt_and_reply(table, str(row["id"]))
        with facts:
            st.caption("Measured")
            st.markdown("  \n".join(_facts(row)))
        _curve(str(row["id"]), run)


def _facts(row: pd.Series) -> list[str]:
    """What the run measured of a sample, a line each."""
    lines = [f"gain {row['gain']:+.4f}"]
    if "gain_low" in row:
        sure = "" if row["gain_low"] * row["gain_high"] > 0 else ", sign uncertain"
        lines += [f"95 % [{row['gain_low']:+.3f}, {row['gain_high']:+.3f}]{sure}"]
    lines += [f"helps: {'yes' if row['gain'] > 0 else 'no'}"]
    lines += [f"NLL {row['nll']:.3f} nat per token"] if "nll" in row else []
    lines += [f"weight ω {row['weight']:.5f}"] if "weight" in row else []
    return lines


def _alike(one: Run, other: Run) -> bool:
    """Whether two runs are of the same negatives, model and method."""
    ours, theirs = one.settings(), other.settings()
    same = one.report()["data"]["negatives_sha256"] == other.report()["data"]["negatives_sha256"]
    return same and ours.model == theirs.model and ours.inner.method == theirs.inner.method


def _curve(sample: str, run: Run) -> None:
    """The sample's impact curve, from the newest impact run of the same model and method."""
    space = parts.workspace()
    for other in (*space.runs(), *space.shipped()):
        if other.config()["command"] != "impact" or not other.finished or not _alike(run, other):
            continue
        curves = other.table("curves")
        if sample in set(curves["id"]):
            st.caption(
                f"Impact curve from {parts.plain(space.identify(other))}, "
                f"λ = {other.report()['lam']:g}"
            )
            own = curves[curves["id"] == sample]
            st.plotly_chart(
                figures.impact_curves(own, parts.mode(), selected=sample), theme=None,
                key=f"curve_{sample}", alt="Impact curve of the sample",
            )  # fmt: skip
            st.page_link(
                "views/impact.py", label="All impact curves", icon=":material/show_chart:",
                query_params={"run": space.identify(other), "sample": sample},
            )  # fmt: skip
            return
    st.caption("No impact curve of this sample yet; measure curves on Impact.")


def _arrow(title: str, about: str, among: list[str], place: int) -> None:
    """A button to another sample of the selection."""
    there = 0 <= place < len(among)
    if st.button(title, disabled=not there, key=about, help=about):
        st.session_state["sample"] = among[place]
        st.rerun()
