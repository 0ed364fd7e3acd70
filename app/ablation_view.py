"""An ablation's pictures, finished or partial: curves over K, paired differences, its rows."""

import re
from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from app import parts
from u2a_core import ablation, figures

METRICS = {"reward": "Reward ↑", "objective": "J ↑", "retain": "Retain loss ↓"}
_COLUMNS = {
    "arm": "arm", "k": "K", "seed": "seed", "value": "setting", "reward": "reward ↑",
    "reward_low": "reward low", "reward_high": "reward high", "objective": "J ↑",
    "retain": "retain NLL ↓", "steps": "step kept", "steps_taken": "steps", "tokens": "tokens",
    "seconds": "seconds", "effective_samples": "effective samples",
    "weight_on_mislabelled": "weight on mislabels ↓", "ended": "ended because",
    "collapsed": "collapsed", "run": "run",
}  # fmt: skip


def notes(report: dict[str, Any]) -> None:
    """What the run says of its limits; a comparison that is lost stands out."""
    lost = []
    for text in report.get("notes", []):
        found = re.match(r"(\w+) is behind (\w+)", text)
        if found is None:
            st.info(parts.plain(text), icon=":material/info:")
            continue
        ours, theirs = (figures.ARMS.get(name, name) for name in found.groups())
        lost.append(f"{ours} is behind {theirs}{text[found.end() :]}")
    if lost:
        st.warning(
            "  \n".join(map(parts.plain, lost)), icon=":material/warning:"
        )  # a list of sentences


def show(name: str, rows: pd.DataFrame) -> None:
    """All pictures of an ablation, and its rows.

    Args:
        name: of the run.
        rows: as `ablation.collect` gives them, at least one.
    """
    bands, differences = ablation.bands(rows), ablation.differences(rows)
    _curves(name, rows, bands)
    _differences(name, differences)
    _sensitivity(name, bands)
    with st.expander(f"Table of {len(rows)} runs, CSV"):
        shown = rows[[c for c in _COLUMNS if c in rows]].rename(columns=_COLUMNS)
        number = st.column_config.NumberColumn
        signed = ("reward ↑", "reward low", "reward high", "J ↑")
        st.dataframe(
            shown.assign(arm=shown["arm"].map(lambda arm: figures.ARMS.get(arm, arm))),
            hide_index=True, alt="The runs of the ablation",
            column_config={
                **{c: number(format="%+.3f") for c in signed},
                **{c: number(format="%.3f") for c in ("retain NLL ↓", "weight on mislabels ↓")},
                **{c: number(format="%.0f") for c in ("effective samples", "seconds", "tokens")},
            },
        )  # fmt: skip
        with st.container(horizontal=True):
            for title, table in (("Runs", rows), ("Bands", bands), ("Differences", differences)):
                key = f"abl_{title.lower()}"
                parts.download(table, f"{name}-{title.lower()}".replace("/", "-"), key=key,
                               title=title)  # fmt: skip


def _curves(name: str, rows: pd.DataFrame, bands: pd.DataFrame) -> None:
    """The metric over K, with what a click has chosen."""
    there = [arm for arm in figures.ARMS if (rows["arm"] == arm).any()]
    first = ablation.measured(bands)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        metric = st.segmented_control(
            "Metric", list(METRICS), default=first, format_func=METRICS.__getitem__,
            key="ablation_metric",
            help="reward: on the test prompts; J: on the preference prompts, by which the step "
            "and K are chosen; retain loss: NLL per token of the retain set",
        ) or first  # fmt: skip
        single = st.toggle("Single runs", key="ablation_points", help="One mark a seed")
    chosen = st.multiselect(
        "Arms", there, default=there, format_func=figures.ARMS.__getitem__,
        key=f"ablation_arms_{name}_{len(there)}",
    )  # fmt: skip
    if rows[metric].isna().all():
        st.info(f"{METRICS[metric][:-2]} was not measured: it needs the data and a reward.")
        return
    key = f"ablation_{name}_{metric}"
    figure = figures.ablation_curves(
        bands[bands["arm"].isin(chosen)], parts.mode(), metric=metric,
        points=rows[rows["arm"].isin(chosen)] if single else None,
    )  # fmt: skip
    st.plotly_chart(
        figure, theme=None, key=key, on_select=lambda: clicked(st.session_state[key]),
        selection_mode="points",
        alt=f"{METRICS[metric]} against K, a line with its 95 % band for every arm",
    )  # fmt: skip
    seeds = rows["seed"].nunique()
    st.caption(
        f"Mean and 95 % t interval over {seeds} seeds. Click a mark to see its runs."
        if seeds > 1
        else "One seed: no band. Click a mark to see its run."
    )
    _clicked_runs(name, rows)


def clicked(event: Any) -> None:
    """A click on a mark chooses its run; on a mean, the runs of its arm and K."""
    points = [p["customdata"] for p in event.selection.points if p.get("customdata")]
    if points:
        found = list(points[0])
        st.session_state["ablation_point"] = (
            {"run": found[0]} if len(found) == 1 else {"arm": found[3], "k": int(found[4])}
        )


def _clicked_runs(name: str, rows: pd.DataFrame) -> None:
    """The runs of the mark that was clicked, with links."""
    point = st.session_state.get("ablation_point")
    if point is None:
        return
    found = rows[rows["value"].isna()]
    for column, value in point.items():
        found = found[found[column] == value]
    if found.empty:
        return
    first = found.iloc[0]
    with st.container(border=True):
        at = f", K = {first['k']}" if first["k"] else ""
        st.markdown(f"**{parts.plain(figures.ARMS[first['arm']])}**{at}")
        for row in found.to_dict("records"):
            link, said = st.columns([2, 5], vertical_alignment="center")
            link.page_link(
                "views/unlearn.py", label=f"Open seed {row['seed']}", icon=":material/open_in_new:",
                query_params={"run": f"{name}/arms/{row['run']}"},
            )  # fmt: skip
            said.caption(_told(row))


def _told(row: Mapping[Any, Any]) -> str:
    """A run in a line."""
    parted = [f"{title} {row[c]:+.3f}" for c, title in METRICS.items() if pd.notna(row[c])]
    if pd.notna(row["steps"]):
        parted.append(f"step {row['steps']:.0f} kept of {row['steps_taken']:.0f}")
    return parts.plain(", ".join([*parted, str(row["ended"])]))


def _differences(name: str, table: pd.DataFrame) -> None:
    """One arm minus another, paired over seeds."""
    if table.empty:
        return
    table = table[(table["metric"] == "reward") & table["mean"].notna()]
    pairs = list(dict.fromkeys(zip(table["ours"], table["theirs"], strict=True)))
    if not pairs:
        return
    st.subheader("Paired difference in reward")
    first = pairs.index(("top_k", "random_k")) if ("top_k", "random_k") in pairs else 0
    ours, theirs = st.selectbox(
        "Compared", pairs, index=first, key=f"ablation_pair_{name}_{len(pairs)}", width=420,
        format_func=lambda pair: " minus ".join(figures.ARMS[arm] for arm in pair),
        label_visibility="collapsed",
    )  # fmt: skip
    st.plotly_chart(
        figures.paired_differences(table, parts.mode(), ours=ours, theirs=theirs), theme=None,
        key=f"paired_{name}_{ours}_{theirs}",
        alt="Difference in reward between two arms at every K, with 95 % intervals over seeds",
    )  # fmt: skip
    own = table[(table["ours"] == ours) & (table["theirs"] == theirs)]
    n = own["n"].max()
    st.caption(
        f"Each seed's difference first, then mean and 95 % t interval, n = {n} seeds. "
        "Above zero: the first is better."
        if n > 1
        else "One seed: differences without intervals are no evidence."
    )


def _sensitivity(name: str, bands: pd.DataFrame) -> None:
    """Reward of U2A against each setting that was varied."""
    varied = [arm for arm in ablation.SETTINGS if (bands["arm"] == arm).any()]
    own = bands[(bands["metric"] == "reward") & bands["mean"].notna()]
    varied = [arm for arm in varied if (own["arm"] == arm).any()]
    if not varied:
        return
    st.subheader("Sensitivity of U2A")
    for left, right in zip(varied[::2], [*varied[1::2], None], strict=False):
        for place, setting in zip(st.columns(2), (left, right), strict=True):
            if setting is not None:
                place.plotly_chart(
                    figures.sensitivity(bands, setting, parts.mode()), theme=None,
                    key=f"sensitivity_{name}_{setting}", config={"displayModeBar": False},
                    alt=f"Reward of U2A against {setting}, with 95 % intervals over seeds",
                )  # fmt: skip
