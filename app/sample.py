"""One sample in full: its texts, what was measured of it, its curves, and those like it."""

from urllib.parse import urlencode, urlsplit

import pandas as pd
import streamlit as st

from app import flagged, neighbours, parts, texts
from app.gain_table import Gains
from u2a_core import figures
from u2a_core.runs import Run

LONGEST = 20_000
"""Letters of a text that are shown."""


def panel(run: Run, gains: Gains, among: list[str], *, of: str, blurred: bool) -> None:
    """One sample in full, with arrows through others.

    Args:
        run: whose table it is.
        gains: the table.
        among: the ids that the arrows go through.
        of: what these are, in a word.
        blurred: whether texts are read by clicking only.
    """
    wanted = st.session_state.get("sample")
    if wanted is None:
        st.caption(
            "Select samples by box or click in the plot, or tick rows, to read them in full."
        )
        return
    place = gains.places.get(wanted)
    if place is None:
        st.warning(f"No sample {parts.plain(wanted[:40])} in this run. Select one above.")
        return
    row = gains.frame.iloc[place]
    with st.container(border=True):
        _head(run, gains, row, among, of)
        read, facts = st.columns([3, 1])
        with read:
            _texts(gains.frame.iloc[[place]], wanted, blurred=blurred)
        with facts:
            st.caption("Measured")
            st.markdown("  \n".join(_facts(row, len(gains))))
        flagged.mark_buttons(str(run.report()["data"]["negatives_sha256"]), wanted)
        left, right = st.columns(2)
        with left:
            _curve(wanted, run)
        with right:
            _weights(wanted, run, len(gains))
        _alike(gains, place, blurred=blurred)
        _replies(run, row, blurred=blurred)


def _texts(one: pd.DataFrame, name: str, *, blurred: bool) -> None:
    """Prompt and reply; of a very long one the beginning."""
    cut = {text: one[text].str.slice(0, LONGEST) for text in ("prompt", "response")}
    texts.prompt_and_reply(one.assign(**cut), name, blurred=blurred)
    if any((one[text].str.len() > LONGEST).any() for text in cut):
        st.caption(f"Cut at {LONGEST:,} characters; the export on Gains holds all.")


def _head(run: Run, gains: Gains, row: pd.Series, among: list[str], of: str) -> None:
    """Which sample it is, and the arrows."""
    name = str(row["id"])
    place = among.index(name) if name in among else None
    where = "" if place is None else f", {place + 1:,} of {len(among):,} {of}"
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(
            f"**Sample {parts.plain(name)}**: gain {row['gain']:+.3f}, "
            f"rank {row['rank']:,} of {len(gains):,}{where}",
            width="stretch",
        )
        before = among[place - 1] if place else None
        after = among[place + 1] if place is not None and place + 1 < len(among) else None
        _arrow("←", "previous", "P", before)
        _arrow("→", "next", "N", after)
        with st.popover("Link", icon=":material/link:"):
            st.caption("This sample alone, in any tab that reaches the workbench")
            st.code(_link(run, name), language=None, wrap_lines=True)


def _link(run: Run, name: str) -> str:
    """The address of the hidden page of a sample."""
    here = urlsplit(st.context.url or "")
    choices = urlencode({"run": parts.workspace().identify(run), "sample": name})
    return f"{here.scheme}://{here.netloc}/sample?{choices}"


def _arrow(title: str, about: str, shortcut: str, to: str | None) -> None:
    """A button to another sample, and its key of the keyboard."""

    def go() -> None:
        st.session_state["sample"] = to

    st.button(title, disabled=to is None, key=about, help=about, shortcut=shortcut, on_click=go)


def _facts(row: pd.Series, count: int) -> list[str]:
    """What the run measured of a sample, a line each."""
    lines = [f"gain {row['gain']:+.4f}"]
    if "gain_se" in row:
        lines[0] += f" ± {row['gain_se']:.4f}"
        sure = "" if row["gain_low"] * row["gain_high"] > 0 else ", sign uncertain"
        lines += [f"95 % [{row['gain_low']:+.3f}, {row['gain_high']:+.3f}]{sure}"]
    lines += [f"{'helps' if row['gain'] > 0 else 'hurts'} when unlearned"]
    lines += [f"NLL {row['nll']:.3f} nat per token"] if "nll" in row else []
    lines += [f"reward of the reply {row['reward']:+.3f}"] if "reward" in row else []
    if "weight" in row:
        lines += [f"weight ω {row['weight']:.5f}, {row['weight'] * count:.2f} × the equal one"]
    lines += [f"kind {parts.plain(str(row['kind']))}"] if row["kind"] else []
    return [
        *lines,
        f"reply: {len(row['response'].split())} words, {len(row['response'])} characters",
    ]


def _comparable(one: Run, other: Run) -> bool:
    """Whether two runs are of the same negatives, model and method."""
    ours, theirs = one.settings(), other.settings()
    same = one.report()["data"]["negatives_sha256"] == other.report()["data"]["negatives_sha256"]
    return same and ours.model == theirs.model and ours.inner.method == theirs.inner.method


def _curve(sample: str, run: Run) -> None:
    """The sample's impact curve, from the newest impact run of the same model and method."""
    space = parts.workspace()
    for other in (*space.runs(), *space.shipped()):
        if other.config()["command"] != "impact" or not other.finished:
            continue
        if not _comparable(run, other):
            continue
        own = other.table("curves", sample=sample)
        if len(own):
            st.plotly_chart(
                figures.impact_curves(own, parts.mode(), selected=sample), theme=None,
                key=f"curve_{sample}", alt="Impact curve of the sample",
            )  # fmt: skip
            st.page_link(
                "views/impact.py", icon=":material/show_chart:",
                label=f"Impact curves of {parts.plain(space.identify(other))}, "
                f"λ = {other.report()['lam']:g}",
                query_params={"run": space.identify(other), "sample": sample},
            )  # fmt: skip
            return
    st.caption("No impact curve of this sample yet.")
    st.page_link("views/impact.py", label="Measure curves on Impact", icon=":material/show_chart:")


def _weights(sample: str, run: Run, count: int) -> None:
    """How the sample's weight moved, in a run that weights."""
    if not run.has_table("weight_path"):
        return
    path = run.table("weight_path", sample=sample)
    if path["round"].nunique() < 2:
        return
    st.plotly_chart(
        figures.sample_weights(path, count, parts.mode()), theme=None, key=f"path_{sample}",
        alt="Weight of the sample in every round",
    )  # fmt: skip


def _alike(gains: Gains, place: int, *, blurred: bool) -> None:
    """The nearest samples, duplicates first; a tick opens one."""
    found = neighbours.nearest(gains, place)
    gain = gains.frame["gain"].to_numpy()
    st.markdown("**Nearest samples**")
    if len(found.same):
        helping = int((gain[found.same] > 0).sum())
        st.caption(
            f"The very same reply stands in {len(found.same):,} other samples: {helping:,} help, "
            f"{len(found.same) - helping:,} hurt when unlearned."
        )
    if not len(found.rows):
        st.caption("No other sample shares half of its letters.")
        return
    rows = gains.frame.iloc[found.rows]
    alike = (gain[found.rows] > 0) == (gain[place] > 0)
    view = pd.DataFrame(
        {
            "similarity": 100 * found.similarity,
            "gain": rows["gain"].to_numpy(),
            "sign": ["same" if same else "opposite" for same in alike],
            "reply": ["the same" if i in found.same else "another" for i in found.rows],
            "negative reply": texts.masked(rows["response"].str.slice(0, 160), blurred=blurred),
            "prompt": texts.masked(rows["prompt"].str.slice(0, 160), blurred=blurred),
            "id": rows["id"],
        }
    )
    ids, key = rows["id"].tolist(), f"near_{gains.frame['id'].iloc[place]}"

    def open_it() -> None:
        ticked = st.session_state[key].selection.rows
        if ticked:
            st.session_state["sample"] = ids[ticked[0]]

    st.dataframe(
        view, hide_index=True, key=key, on_select=open_it, selection_mode="single-row",
        column_config={
            "similarity": st.column_config.NumberColumn(
                format="%.0f %%", help=f"of prompt and reply, by letters, the first "
                f"{neighbours.LETTERS} of each",
            ),
            "gain": st.column_config.NumberColumn(format="%+.3f"),
        },
        alt="The samples most like this one",
    )  # fmt: skip


def _replies(run: Run, row: pd.Series, *, blurred: bool) -> None:
    """What the model says to this very prompt before and after, where the run has asked it."""
    if not run.has_table("generations"):
        return
    made = run.table("generations")
    if not {"prompt", "reply_before", "reply_after"} <= set(made):
        return
    for _, said in made[made["prompt"] == row["prompt"]].head(3).iterrows():
        st.markdown("**Replies of the model to this prompt**")
        before, after = st.columns(2)
        for place, side in ((before, "before"), (after, "after")):
            with place:
                reward = said.get(f"reward_{side}")
                noted = "" if reward is None else f", reward {reward:+.2f}"
                st.caption(f"{side.capitalize()} unlearning{noted}")
                texts.box(str(said[f"reply_{side}"]), blurred=blurred)
