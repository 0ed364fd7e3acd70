"""Replies of two models to the same prompts, side by side: sorted, searched, word by word."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import pandas as pd
import streamlit as st

from app import parts, texts
from u2a_core import metrics, table
from u2a_core.report.words import COLOURS, changed_words, word_diff
from u2a_core.runs import Run
from u2a_core.runs.workspace import texts_of

PER_PAGE = 5
RISE, FALL, LONGEST, PROMPT = (
    "largest reward change", "largest fall", "longest difference", "prompt order",
)  # fmt: skip


@dataclass(frozen=True)
class Pair:
    """Two sides.

    Attributes:
        a: A's id; "original" for the original model.
        b: B's id.
        theirs: A's run; None for the original model.
        ours: B's run.
    """

    a: str
    b: str
    theirs: Run | None
    ours: Run

    def replies(self) -> pd.DataFrame:
        """As `table.paired` makes them.

        Raises:
            RunError: if a table is damaged or gone.
        """
        theirs = None if self.theirs is None else self.theirs.table("generations")
        return table.paired(theirs, self.ours.table("generations"))

    @property
    def blurred(self) -> bool:
        """Whether the texts of either are blurred."""
        runs = [self.ours] if self.theirs is None else [self.ours, self.theirs]
        return any(texts.blurred(texts_of(run)) for run in runs)


@st.fragment
def page(pair: Pair) -> None:
    """The replies."""
    parts.guarded(lambda: _page(pair))


def _page(pair: Pair) -> None:
    pairs = pair.replies()
    if pairs.empty:
        st.info("These two have no test prompts in common, so no replies can be set side by side.")
        return
    _difference(pairs)
    told, warning = table.drawn_alike(pair.theirs, pair.ours)
    st.caption(f"{told} Removed words are struck, added ones underlined.")
    if warning:
        st.warning(warning)
    shown = _chosen(pair, pairs)
    if shown.empty:
        same = (pairs["reply_a"] == pairs["reply_b"]).all()
        st.info("All replies are the same." if same else "No reply is left: change the filters.")
        return
    part = paged(shown, f"{pair.a} {pair.b} {len(shown)}")
    blurred = pair.blurred
    for row in part.to_dict("records"):
        with st.container(border=True):
            texts.box(str(row["prompt"]), blurred=blurred)
            st.caption(_told(row))
            columns = st.columns(2)
            marked = word_diff(str(row["reply_a"]), str(row["reply_b"]), COLOURS[parts.mode()])
            for name, column, text in zip("AB", columns, marked, strict=True):
                column.html(f"<b>{name}</b>{texts.boxed(text, blurred=blurred)}")


def _told(row: dict[Hashable, Any]) -> str:
    draw = f"draw {row['sample'] + 1:.0f} of prompt {row['prompt_index'] + 1:.0f}"
    if pd.isna(row["change"]):
        return draw
    return f"reward {row['reward_a']:+.2f} → {row['reward_b']:+.2f} · {draw}"


def _difference(pairs: pd.DataFrame) -> None:
    """The paired difference in reward, and how many replies differ."""
    changed = int((pairs["reply_a"] != pairs["reply_b"]).sum())
    told = f"{changed} of {len(pairs)} replies differ."
    if not pairs["change"].isna().all():
        per_prompt = pairs.groupby("prompt_index")["change"].mean().dropna()
        found = metrics.paired_difference(per_prompt.to_numpy(), 0 * per_prompt.to_numpy())
        told = (
            f"Reward of B minus A: **{found.mean:+.3f}** [{found.low:+.3f}, {found.high:+.3f}] "
            f"(95 %, n = {found.n} prompts). {told}"
        )
    st.markdown(told)


def _chosen(pair: Pair, pairs: pd.DataFrame) -> pd.DataFrame:
    """The replies that the controls leave, in their order."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        orders = [RISE, FALL, LONGEST, PROMPT]
        if pairs["change"].isna().all():
            orders = [LONGEST, PROMPT]
        order = st.selectbox("Sort", orders, key=f"order_{len(orders)}", width=220)
        words = st.text_input("Search in prompts", key="search", placeholder="words", width=260)
        if st.toggle("Only replies that differ", value=True, key="only_changed"):
            pairs = pairs[pairs["reply_a"] != pairs["reply_b"]]
        sha256 = texts_of(pair.ours)
        if sha256:
            texts.blur_switch(sha256, key="blur_compare")
        pairs = ordered(searched(pairs, words), order)
        parts.download(pairs, f"{pair.a}-{pair.b}".replace("/", "-"), key="pairs_csv")
    return pairs


def searched(pairs: pd.DataFrame, words: str) -> pd.DataFrame:
    """Those whose prompt holds the words, as they are written, in any case."""
    if not words.strip():
        return pairs
    return pairs[pairs["prompt"].str.contains(words.strip(), case=False, regex=False)]


def ordered(pairs: pd.DataFrame, order: str) -> pd.DataFrame:
    """Sorted; of two that are alike the one of the earlier prompt comes first."""
    if order == PROMPT or pairs.empty:
        return pairs
    if order == FALL:
        return pairs.sort_values("change", kind="stable")
    if order == RISE:  # of two as large, the rise comes first
        keyed = pairs.assign(_size=pairs["change"].abs())
        keyed = keyed.sort_values(["_size", "change"], ascending=False, kind="stable")
        return keyed.drop(columns="_size")
    both = zip(pairs["reply_a"], pairs["reply_b"], strict=True)
    sizes = pd.Series([changed_words(str(a), str(b)) for a, b in both], index=pairs.index)
    return pairs.loc[sizes.sort_values(ascending=False, kind="stable").index]


def paged(shown: pd.DataFrame, of: str) -> pd.DataFrame:
    """A page of the rows, with arrows.

    Args:
        shown: all rows.
        of: what they are rows of; another one begins at its first page.
    """
    state, last = st.session_state, (len(shown) - 1) // PER_PAGE
    if state.get("replies_of") != of:
        state.update(replies_of=of, replies_at=0)
    at = min(int(state["replies_at"]), last)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(
            "Previous", icon=":material/arrow_back:", shortcut="Left", disabled=at == 0,
            key="replies_previous", on_click=_go(at - 1),
        )  # fmt: skip
        first = at * PER_PAGE
        st.markdown(
            f"{first + 1} to {min(first + PER_PAGE, len(shown))} of {len(shown)}", width="content"
        )
        st.button(
            "Next", icon=":material/arrow_forward:", shortcut="Right", disabled=at == last,
            key="replies_next", on_click=_go(at + 1),
        )  # fmt: skip
    return shown.iloc[first : first + PER_PAGE]


def _go(page_number: int) -> Callable[[], None]:
    return lambda: st.session_state.update(replies_at=page_number)
