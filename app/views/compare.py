"""Compare: rewards with intervals, and the replies of two models to the same prompts."""

import difflib
import html
import re

import pandas as pd
import streamlit as st

from app import parts
from u2a_core import figures, metrics
from u2a_core.runs import Run

ORIGINAL = "original"
PER_PAGE = 8
COLOURS = {"light": ("#F6D5BD", "#CFE6F4"), "dark": ("#6B3A12", "#1B4A66")}


def page() -> None:
    """The page."""
    st.title("Compare")
    space = parts.workspace()
    runs = {
        space.identify(run): run
        for run in (*space.runs(), *space.shipped())
        if run.config()["command"] in ("reweight", "unlearn") and run.finished
    }
    if not runs:
        st.info("No finished run yet. Launch one on Unlearn, or open the demo on Home.")
        return
    _rewards(runs)
    _replies(runs)


def _rewards(runs: dict[str, Run]) -> None:
    """The table and picture of mean rewards."""
    rows = []
    for name, run in runs.items():
        report = run.report()
        reward = (report.get("reward") or {}).get("after")
        if reward:
            rows.append(
                {"name": name, **reward, "steps kept": report["steps"],
                 "effective samples": report["effective_samples"], "seconds": report["seconds"]}
            )  # fmt: skip
    if not rows:
        st.info("No run has test prompts and a reward, so there is nothing to rank.")
        return
    table = pd.DataFrame(rows).sort_values("mean", ascending=False, ignore_index=True)
    st.plotly_chart(
        figures.rewards(table.head(16), parts.mode()), theme=None, key="rewards",
        alt="Mean reward of every run with its 95 % interval",
    )  # fmt: skip
    with st.expander("Table"):
        shown = table.rename(columns={"name": "run", "mean": "reward ↑"})
        number = st.column_config.NumberColumn
        st.dataframe(
            shown, hide_index=True, alt="Rewards",
            column_config={
                **{c: number(format="%+.3f") for c in ("reward ↑", "low", "high")},
                **{c: number(format="%.1f") for c in ("effective samples", "seconds")},
                "n": number(help="sampled replies; the interval is a bootstrap over prompts"),
            },
        )  # fmt: skip
        parts.download(shown, "rewards", key="rewards_csv")


def _side(title: str, key: str, names: list[str], fallback: str) -> str:
    """One side of the comparison, kept in the address."""
    state = st.session_state
    wanted = state.get(key) or fallback
    if wanted not in names:
        st.warning(f"No finished run {str(wanted)[:60]!r} here; {fallback} is shown instead.")
        wanted = fallback
    state[f"side_{key}"] = wanted

    def follow() -> None:
        state[key] = state[f"side_{key}"]

    st.selectbox(title, names, key=f"side_{key}", on_change=follow)
    state[key] = wanted
    return str(wanted)


def _replies(runs: dict[str, Run]) -> None:
    """Replies side by side, with the words that changed."""
    st.subheader("Replies")
    named = st.session_state.get("run")
    best = named if named in runs else next(iter(runs))
    left, right = st.columns(2)
    with left:
        a = _side("A", "a", [ORIGINAL, *runs], ORIGINAL)
    with right:
        b = _side("B", "b", list(runs), best)
    pairs = paired(None if a == ORIGINAL else runs[a].table("generations"),
                   runs[b].table("generations"))  # fmt: skip
    if pairs.empty:
        st.info("These two have no test prompts in common, so no replies can be set side by side.")
        return
    _difference(pairs)
    _page_of_pairs(pairs, a, b)


def paired(theirs: pd.DataFrame | None, ours: pd.DataFrame) -> pd.DataFrame:
    """Replies of A and B to the same prompt and draw, largest rise of reward first.

    Args:
        theirs: generations of A's run; None for the original model.
        ours: generations of B's run.
    """
    keys = ["prompt_index", "sample", "prompt"]
    if ours.empty:
        return pd.DataFrame()
    b = ours[[*keys, "reply_after", "reward_after"]].set_axis(
        [*keys, "reply_b", "reward_b"], axis=1
    )
    side, source = ("before", ours) if theirs is None else ("after", theirs)
    if source.empty:
        return pd.DataFrame()
    a = source[[*keys, f"reply_{side}", f"reward_{side}"]].set_axis(
        [*keys, "reply_a", "reward_a"], axis=1
    )
    both = a.merge(b, on=keys)
    both["change"] = both["reward_b"] - both["reward_a"]
    return both.sort_values("change", ascending=False, kind="stable", ignore_index=True)


def _difference(pairs: pd.DataFrame) -> None:
    if pairs["change"].isna().all():
        return
    per_prompt = pairs.groupby("prompt_index")["change"].mean()
    found = metrics.paired_difference(per_prompt.to_numpy(), 0 * per_prompt.to_numpy())
    changed = (pairs["reply_a"] != pairs["reply_b"]).sum()
    st.markdown(
        f"Reward of B minus A: **{found.mean:+.3f}** [{found.low:+.3f}, {found.high:+.3f}] "
        f"(95 %, n = {found.n} prompts). {changed} of {len(pairs)} replies differ."
    )


def _page_of_pairs(pairs: pd.DataFrame, a: str, b: str) -> None:
    """A page of replies with their word differences."""
    order, only, number, export = st.columns([3, 2, 2, 1], vertical_alignment="bottom")
    falls = order.selectbox("Sort", ["largest rise first", "largest fall first"], key="order")
    if only.toggle("Only replies that differ", value=True, key="only_changed"):
        pairs = pairs[pairs["reply_a"] != pairs["reply_b"]]
    if falls == "largest fall first":
        pairs = pairs.iloc[::-1]
    with export:
        parts.download(pairs, f"{a}-{b}".replace("/", "-"), key="pairs_csv")
    if pairs.empty:
        st.info("All replies are the same.")
        return
    pages = -(-len(pairs) // PER_PAGE)
    at = int(number.number_input(f"Page of {pages}", 1, pages, 1, key=f"page_{a}_{b}"))
    for row in pairs.iloc[(at - 1) * PER_PAGE : at * PER_PAGE].to_dict("records"):
        with st.container(border=True):
            st.caption(
                f"{parts.plain(str(row['prompt']))}  \n"
                f"reward {row['reward_a']:+.2f} → {row['reward_b']:+.2f}"
            )
            left, right = st.columns(2)
            old, new = word_diff(str(row["reply_a"]), str(row["reply_b"]), COLOURS[parts.mode()])
            left.html(f"<div><b>A</b> {old}</div>")
            right.html(f"<div><b>B</b> {new}</div>")


def word_diff(old: str, new: str, colours: tuple[str, str]) -> tuple[str, str]:
    """Both texts as escaped HTML: removed words struck in the first, added ones underlined."""
    a, b = re.findall(r"\s+|\S+", old), re.findall(r"\s+|\S+", new)
    removed, added = (
        f'<span style="background:{colours[0]};text-decoration:line-through">',
        f'<span style="background:{colours[1]};text-decoration:underline">',
    )
    left, right = [], []
    for kind, i, j, k, m in difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        first, second = html.escape("".join(a[i:j])), html.escape("".join(b[k:m]))
        same = kind == "equal"
        left.append(first if same or not first else f"{removed}{first}</span>")
        right.append(second if same or not second else f"{added}{second}</span>")
    return "".join(left), "".join(right)


parts.guarded(page)
