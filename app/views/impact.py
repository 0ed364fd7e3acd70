"""Impact: what unlearning one sample alone changes, predicted and measured, and where it ends."""

from typing import Any

import pandas as pd
import streamlit as st

from app import forms, launching, parts, project, runview, selection, slice_bar, texts, urlstate
from u2a_core import figures, table
from u2a_core.config import parse_settings
from u2a_core.errors import U2AError
from u2a_core.runs import Run, slices

ESTIMATORS = {
    "linear": "linear: slopes at the original model",
    "paper": "Eq. 4 at the solved point",
    "trapezoid": "trapezoid: a check, needs the solved point",
}


def page() -> None:
    """The page."""
    st.title("Impact")
    st.caption(
        "An impact curve tells how much the objective J changes when one negative sample alone is "
        "unlearned with weight ω. Lines are predictions, markers are measurements: the sample is "
        "really unlearned and J evaluated again. Positive: unlearning the sample helps."
    )
    space = parts.workspace()
    runs = [r for r in (*space.runs(), *space.shipped()) if r.config()["command"] == "impact"]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        run = runview.pick(
            runs, key="impact",
            empty="No impact curves yet. Measure them with the button, or open the demo on Home.",
        )  # fmt: skip
        _recompute()
    if run is None:
        return
    name = space.identify(run)
    if not run.finished:
        runview.live_state(name)
        if not run.has_table("curves"):
            return
        st.caption("The curves measured so far; ranks and figures will change.")
    else:
        runview.stale_note(run)
        _numbers(run.report())
        runview.warnings(run)
    linked(name)
    if run.finished:
        _agreement(run, name)
        st.page_link(
            "views/unlearn.py", label="Next: unlearn with weights",
            icon=":material/arrow_forward:",
        )  # fmt: skip


def _recompute() -> None:
    """The settings of the next curves, and their start."""
    names = {"demo": "Measure for the demo", "own": "Measure for my data"}
    with st.popover(names[project.chosen()], width="content"):
        st.markdown(
            "Each sample is unlearned alone at each weight, and J evaluated again."
            + (
                " 60 samples at 5 weights take about a minute on two cores."
                if project.chosen() == "demo"
                else ""
            )
        )
        base = project.settings()
        raw = base.model_dump(mode="json")
        raw["impact"] |= forms.section_form(base.impact, key="impact")
        try:
            settings = parse_settings(raw, source="Cannot be launched")
        except U2AError as error:
            st.error(parts.plain(str(error)))
            return
        launching.button("impact", settings, label="Start")
        launching.command_box("impact", base, settings)


def _numbers(report: dict[str, Any]) -> None:
    """How well predictions meet measurements, each with its n and interval."""
    row, first = st.container(horizontal=True), report["per_omega"][0]
    omega = f"ω = {first['omega']:.2g}"
    parts.number(
        row, "Samples", f"{report['samples']}",
        f"{report['method'].upper()}, λ = {report['lam']:g}",
    )  # fmt: skip
    parts.number(
        row, "Solved", f"{report['converged_share']:.1%}",
        f"of {report['samples'] * len(report['omegas'])} inner problems",
        help="to stationarity, with a residual of at most 0.01; the others lie beyond a validity "
        "limit: successive steps do not shrink to a solution, and no minimum is certified",
    )  # fmt: skip
    linear, check = first["estimators"]["linear"], first["estimators"]["trapezoid"]
    _statistic(row, f"Linear, ρ at {omega}", linear, "spearman",
               "rank correlation of the linear prediction with the measured impact")  # fmt: skip
    _statistic(row, f"Linear, slope at {omega}", linear, "slope",
               "slope of measured on predicted; 1 is right")  # fmt: skip
    last = [p for p in report["per_omega"] if p["estimators"]["trapezoid"]["intervals"]][-1:]
    for part in last:
        _statistic(row, f"Trapezoid, R² at ω = {part['omega']:.2g}",
                   part["estimators"]["trapezoid"], "r2",
                   "about the line y = x, at the largest weight")  # fmt: skip
    if not last and check["n"]:
        st.caption(f"Too few solved samples ({check['n']}) for intervals; choose more samples.")


def _statistic(row: Any, title: str, found: dict[str, Any], key: str, about: str) -> None:
    bounds = found["intervals"].get(key)
    if bounds is None:
        parts.number(row, title, "–", f"n = {found['n']}: too few", help=about)
        return
    parts.number(
        row, title, f"{found[key]:.3f}",
        f"[{bounds[0]:.3f}, {bounds[1]:.3f}], n = {found['n']}", help=about,
    )  # fmt: skip


@st.fragment
def linked(name: str) -> None:
    """Curves ↔ calibration ↔ sample, by id."""
    parts.guarded(lambda: _linked(name))


def _linked(name: str) -> None:
    run, state = parts.workspace().find(name), st.session_state
    measured = run.table("curves")
    sha256 = str(run.report()["data"]["negatives_sha256"]) if run.finished else ""
    curves = measured
    if sha256:  # the set of a run at work is known at its end, as its texts are
        curves = _of_selection(measured, sha256)
    blurred = texts.blurred(sha256)
    ids = set(curves["id"])
    chosen = state.get("sample") if state.get("sample") in ids else None
    if chosen is None and state.get("sample"):
        told = parts.plain(str(state["sample"])[:40])
        st.caption(f"Sample {told} has no curve here: {len(ids)} samples were drawn.")
    left, right = st.columns(2)
    left.markdown("**Curves**: ΔJ against the weight", help="click a marker to read its sample")
    estimator = right.segmented_control(
        "Prediction", list(ESTIMATORS), default="linear", key="estimator",
        format_func=lambda e: ESTIMATORS[e].split(":")[0], label_visibility="collapsed",
    ) or "linear"  # fmt: skip
    keys = {side: f"impact_{side}_{name}_{estimator}" for side in ("curves", "calibration")}
    left.plotly_chart(
        figures.impact_curves(curves, parts.mode(), selected=chosen), theme=None,
        key=keys["curves"], on_select=lambda: _clicked(keys["curves"]), selection_mode="points",
        alt="Impact curves: predicted lines, measured markers, against the weight",
    )  # fmt: skip
    right.plotly_chart(
        figures.calibration(curves, parts.mode(), estimator=estimator, selected=chosen),
        theme=None, key=keys["calibration"], on_select=lambda: _clicked(keys["calibration"]),
        selection_mode="points", alt="Measured against predicted impact, with the line y = x",
    )  # fmt: skip
    _sample(run, curves, chosen, blurred=blurred)
    if urlstate.unsaved():  # a fragment runs without the entry, which tells the address
        st.rerun()


def _of_selection(curves: pd.DataFrame, sha256: str) -> pd.DataFrame:
    """The curves of what was selected on Gains or by a slice, where the user wants only those."""
    selection.begin(sha256)
    known = set(curves["id"])
    kept = slices.of_set(parts.workspace(), sha256)
    slice_bar.follow(kept)
    with st.container(horizontal=True, vertical_alignment="center"):
        selected = st.session_state["chosen"]
        chosen = [i for i in selected if i in known]
        if selected and not chosen:
            st.caption(f"None of the {len(selected):,} selected has a curve here", width="content")
        only = chosen and st.toggle(
            f"Only the selected: {len(chosen)} of {len(known)} curves", key="only_selected",
            help="The selection made on Gains, or the slice",
        )  # fmt: skip
        slice_bar.choice(kept)
        st.space("stretch")
        texts.blur_switch(sha256, key="blur_impact")
    return curves[curves["id"].isin(chosen)] if only else curves


def _clicked(key: str) -> None:
    """A click on a marker chooses its sample."""
    points = [p for p in st.session_state[key].selection.points if p.get("customdata")]
    if points:
        st.session_state["sample"] = points[0]["customdata"][0]


def _sample(run: Run, curves: pd.DataFrame, chosen: str | None, *, blurred: bool) -> None:
    """The sample that is chosen by click or by name, with the numbers of its curve."""
    names = list(dict.fromkeys(curves["id"]))
    state = st.session_state
    state["impact_sample"] = chosen

    def follow() -> None:
        state["sample"] = state["impact_sample"]

    st.selectbox(
        "Sample", names, index=None if chosen is None else 0, key="impact_sample",
        placeholder="Click a marker, or choose a sample", on_change=follow, width=320,
    )  # fmt: skip
    if chosen is None:
        return
    with st.container(border=True):
        texts.prompt_and_reply(_texts(run), chosen, blurred=blurred)
        own = curves[curves["id"] == chosen].sort_values("omega")
        st.dataframe(
            _readable(own), hide_index=True, alt="The curve of the sample, a row for each weight"
        )
        ended = own[~own["converged"].astype(bool)]
        if len(ended):
            st.caption(
                f"Validity limit: at ω = {ended['omega'].iloc[0]:.3g} the steps of the inner "
                f"solve do not shrink to a solution (residual {ended['residual'].iloc[0]:.2g}, "
                f"contraction {ended['contraction'].iloc[0]:.2f}); no minimum is certified there, "
                "and the curve ends."
            )


def _texts(run: Run) -> pd.DataFrame:
    """Prompts and replies of the run's samples; of a run at work they are not written yet."""
    if run.has_table("samples"):
        return run.table("samples")
    return pd.DataFrame(columns=["id", "prompt", "response"])


def _readable(curve: pd.DataFrame) -> pd.DataFrame:
    view = pd.DataFrame({"ω": curve["omega"].map("{:.3g}".format)})
    for name in ("linear", "paper", "trapezoid", "measured"):
        view[f"{name} ΔJ"] = curve[name].map(lambda v: "–" if pd.isna(v) else f"{v:+.5f}")
    low, high = curve["measured_low"], curve["measured_high"]
    view["95 % over prompts"] = [
        "–" if pd.isna(a) else f"[{a:+.5f}, {b:+.5f}]" for a, b in zip(low, high, strict=True)
    ]
    view["residual"] = curve["residual"].map("{:.1e}".format)
    view["contraction"] = curve["contraction"].map(lambda v: "–" if pd.isna(v) else f"{v:.3f}")
    view["solved"] = curve["converged"].map({True: "yes", False: "no: beyond the limit"})
    return view


def _agreement(run: Run, name: str) -> None:
    """Every estimator at every weight, and the exports."""
    report = run.report()
    rows = [
        {
            "ω": f"{part['omega']:.3g}",
            "solved": f"{part['converged_share']:.0%}",
            "contraction, largest": _digits(part["contraction"]["max"]),
            "prediction": estimator,
            "n": found["n"],
            **{
                title: _bounded(found, key)
                for title, key in (
                    ("Spearman ρ", "spearman"), ("R² about y = x", "r2"), ("slope", "slope"),
                    ("RMSE", "rmse"),
                )
            },
        }
        for part in report["per_omega"]
        for estimator, found in part["estimators"].items()
    ]  # fmt: skip
    with st.expander("Agreement at every weight, with 95 % intervals over samples"):
        st.dataframe(pd.DataFrame(rows), hide_index=True, alt="Agreement at every weight")
        st.caption(
            f"J: {report['objective']['mean']:+.3f} {table.bounds(report['objective'])} "
            f"over n = {report['objective']['n']} prompts, "
            f"{report['objective_kind']}; its rounding error is {report['rounding']:.1g}."
        )
    with st.container(horizontal=True):
        parts.download(run.table("curves"), f"{name}-curves", key="curves_csv", title="Curves")
        parts.download(pd.DataFrame(rows), f"{name}-agreement", key="agr_csv", title="Agreement")


def _digits(value: float | None) -> str:
    return "–" if value is None else f"{value:.2g}"


def _bounded(found: dict[str, Any], key: str) -> str:
    if key not in found["intervals"]:
        return "–"
    low, high = found["intervals"][key]
    return f"{found[key]:.3g} [{low:.3g}, {high:.3g}]"


parts.guarded(page)
