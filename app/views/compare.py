"""Compare: rewards with intervals, and the replies of two models to the same prompts."""

import difflib
import html
import re
from typing import Any

import pandas as pd
import streamlit as st

from app import parts, results, texts
from u2a_core import figures, metrics, table
from u2a_core.errors import RunError
from u2a_core.runs import Run

ORIGINAL = "original"
PER_PAGE = 6
MOST_DRAWN = 20
COLUMNS = {
    "name": "run", "mean": "reward ↑", "steps": "steps kept",
    "effective_samples": "effective samples",
}  # fmt: skip
COLOURS = {"light": ("#F6D5BD", "#CFE6F4"), "dark": ("#6B3A12", "#1B4A66")}


def page() -> None:
    """The page."""
    st.title("Compare")
    st.caption(
        "What two models reply to the same test prompts, and the mean reward of all runs that were "
        "measured alike. Removed words are struck, added ones underlined."
    )
    space = parts.workspace()
    runs = {
        space.identify(run): run
        for run in (*space.runs(), *space.shipped())
        if run.config()["command"] in table.DESCENTS and run.finished
    }
    if not runs:
        st.info("No finished run yet. Launch one on Unlearn, or open the demo on Home.")
        return
    named = st.session_state.get("run")
    left, right = st.columns(2)
    with left:
        a = _side("A", "a", [ORIGINAL, *runs], ORIGINAL)
    with right:
        b = _side("B", "b", list(runs), named if named in runs else next(iter(runs)))
    _replies(runs, a, b)
    alike = comparable(_reports(runs), b)
    results.page({name: runs[name] for name in alike}, runs[b], None if a == ORIGINAL else runs[a])
    st.subheader("Rewards")
    _rewards(alike, len(runs))


def _reports(runs: dict[str, Run]) -> dict[str, dict[str, Any]]:
    """The runs' reports; a damaged one is told, and hides no other."""
    found = {}
    for name, run in runs.items():
        try:
            found[name] = run.report()
        except RunError as error:
            st.warning(parts.plain(str(error)))
    return found


def comparable(reports: dict[str, dict[str, Any]], chosen: str) -> dict[str, dict[str, Any]]:
    """The runs that were measured as the chosen one was.

    Their original models got the same reward on the same draws: same model, prompts and reward.
    """
    original = (reports.get(chosen, {}).get("reward") or {}).get("before")
    return {
        name: report
        for name, report in reports.items()
        if original is not None and (report.get("reward") or {}).get("before") == original
    }


def rewards_table(reports: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """One row a run and one for their original model, by falling reward on the test prompts.

    Args:
        reports: run → its report, `comparable` ones.
    """
    rows: list[dict[str, Any]] = []
    for name, report in reports.items():
        facts = {key: report.get(key) for key in ("steps", "effective_samples", "seconds")}
        rows.append({"name": name, **report["reward"]["after"], **facts})
        original = {"name": ORIGINAL, **report["reward"]["before"]}
    rows += [original] if rows else []
    table = pd.DataFrame(rows)
    return table if table.empty else table.sort_values("mean", ascending=False, ignore_index=True)


def _rewards(reports: dict[str, dict[str, Any]], runs: int) -> None:
    """The picture and the table of mean rewards."""
    table = rewards_table(reports)
    if table.empty:
        st.info("B has no test prompts or no reward, so there is nothing to rank.")
        return
    st.caption(
        "Filled marks: weights by U2A; hollow: others. Diamond: NPO, triangle: GA, square: "
        "GradDiff, hexagon: DPO, cross: PPO."
        + (f" {runs - len(reports)} runs were measured with another model, other prompts or "
           "another reward: choose one of them as B." if runs > len(reports) else "")
    )  # fmt: skip
    st.plotly_chart(
        figures.rewards(table.head(MOST_DRAWN), parts.mode()), theme=None, key="rewards",
        alt="Mean reward of every run with its 95 % interval",
    )  # fmt: skip
    if len(table) > MOST_DRAWN:
        st.caption(f"The best {MOST_DRAWN} of {len(table)}; the table holds all.")
    with st.expander("Table with intervals, CSV"):
        shown = table.rename(columns=COLUMNS)
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
        _absent(str(wanted), fallback)
        wanted = fallback
    state[f"side_{key}"] = wanted

    def follow() -> None:
        state[key] = state[f"side_{key}"]

    st.selectbox(title, names, key=f"side_{key}", on_change=follow)
    return str(wanted)


def _absent(wanted: str, instead: str) -> None:
    """Why a run of the address is not shown."""
    try:
        state = parts.workspace().find(wanted).status().state
    except RunError:
        why = "is no run of this workspace"
    else:
        why = f"has nothing to compare yet: it is {state}"
    st.warning(f"{parts.plain(wanted[:60])} {why}. {parts.plain(instead)} is shown instead.")


def _replies(runs: dict[str, Run], a: str, b: str) -> None:
    """Replies side by side, with the words that changed."""
    pairs = paired(None if a == ORIGINAL else runs[a].table("generations"),
                   runs[b].table("generations"))  # fmt: skip
    if pairs.empty:
        st.info("These two have no test prompts in common, so no replies can be set side by side.")
        return
    _difference(pairs)
    _drawn_alike(runs[b], None if a == ORIGINAL else runs[a])
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


def _drawn_alike(ours: Run, theirs: Run | None) -> None:
    """How the replies were sampled; a warning where A and B were not sampled alike."""
    drawn = [
        (settings.objective.temperature, settings.seed)
        for settings in (run.settings() for run in (ours, theirs) if run is not None)
    ]
    temperature, seed = drawn[0]
    st.caption(f"Sampled at temperature {temperature:g} with seed {seed}, the same for both.")
    if len(set(drawn)) > 1:
        st.warning(
            f"A was sampled at temperature {drawn[1][0]:g} with seed {drawn[1][1]}, so part of the "
            "difference is the draw's."
        )


def _page_of_pairs(pairs: pd.DataFrame, a: str, b: str) -> None:
    """A page of replies with their word differences."""
    controls = st.container(horizontal=True, vertical_alignment="bottom")
    orders = ["largest rise first", "largest fall first"]
    falls = controls.selectbox("Sort", orders, key="order", width=220)
    if controls.toggle("Only replies that differ", value=True, key="only_changed"):
        pairs = pairs[pairs["reply_a"] != pairs["reply_b"]]
    if falls == "largest fall first":
        pairs = pairs.iloc[::-1]
    pages = max(1, -(-len(pairs) // PER_PAGE))
    at = int(
        controls.number_input(f"Page (of {pages})", 1, pages, 1, key=f"page_{a}_{b}", width=160)
    )
    with controls:
        parts.download(pairs, f"{a}-{b}".replace("/", "-"), key="pairs_csv")
    if pairs.empty:
        st.info("All replies are the same.")
        return
    for row in pairs.iloc[(at - 1) * PER_PAGE : at * PER_PAGE].to_dict("records"):
        with st.container(border=True):
            texts.box(str(row["prompt"]))
            st.caption(f"reward {row['reward_a']:+.2f} → {row['reward_b']:+.2f}")
            left, right = st.columns(2)
            old, new = word_diff(str(row["reply_a"]), str(row["reply_b"]), COLOURS[parts.mode()])
            left.html(f"<div><b>A</b> {old}</div>")
            right.html(f"<div><b>B</b> {new}</div>")


def word_diff(old: str, new: str, colours: tuple[str, str]) -> tuple[str, str]:
    """Both texts as escaped HTML: removed words struck in the first, added ones underlined.

    Words are compared without the space before them, so a stretch of changed words is one mark.
    """
    a, b = re.findall(r"\s*\S+", old), re.findall(r"\s*\S+", new)
    matcher = difflib.SequenceMatcher(
        None, [word.strip() for word in a], [word.strip() for word in b], autojunk=False
    )
    left, right = [], []
    for kind, i, j, k, m in matcher.get_opcodes():
        same = kind == "equal"
        left.append(_marked("".join(a[i:j]), "" if same else colours[0], "line-through"))
        right.append(_marked("".join(b[k:m]), "" if same else colours[1], "underline"))
    return "".join(left), "".join(right)


def _marked(text: str, colour: str, line: str) -> str:
    """Escaped text, with its mark where a colour is given."""
    if not colour or not text.strip():
        return html.escape(text)
    space = text[: len(text) - len(text.lstrip())]
    style = f"background:{colour};text-decoration:{line}"
    return f'{html.escape(space)}<span style="{style}">{html.escape(text.lstrip())}</span>'


parts.guarded(page)
