"""The results table on Compare: methods by metrics, what each cost, exports, and Evaluate."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from app import access, parts, project, runview, texts
from u2a_core import figures, jobs, table
from u2a_core.config import Settings, there
from u2a_core.errors import RunError
from u2a_core.metrics import METRICS
from u2a_core.report.document import Texts
from u2a_core.report.several import report_text
from u2a_core.runs import Run
from u2a_core.runs.workspace import texts_of

HERE = "the runs of this workspace"
_SHOWN = "_results_shown"
COSTS = {"tokens": "Tokens", "seconds": "Seconds"}


@contextmanager
def page(runs: dict[str, Run], chosen: Run, other: Run | None) -> Iterator[None]:
    """The table; what is drawn while open stands among its exports.

    Args:
        runs: finished descents that were measured alike, by name.
        chosen: side B.
        other: side A; None for the original model.
    """
    report = _reproduction()
    if report is not None:
        rows = [table.Row(r["method"], r["metrics"], r["ledger"], r["runs"]) for r in report]
    else:
        rows = _rows([*runs.values(), *_evaluations(list(runs.values()), chosen)])
    st.session_state[_SHOWN] = rows
    if rows:
        _table(rows)
    else:
        _lacking(chosen)
    with st.container(horizontal=True):
        if rows:
            _exports(rows)
        yield
        _evaluate(chosen, other)
    _jobs()


def _lacking(run: Run) -> None:
    """What the run had not that the table needs, and where it is named."""
    settings = run.settings()
    words = {"data": "test prompts", "model": "a reward"}
    named = {"data": settings.data.prompts, "model": settings.objective.reward}
    absent = [page for page in words if not named[page]]
    lack = " and ".join(words[page] for page in absent) or "rewards"
    st.info(
        f"B was made without {lack}, so there is no table to make. Launch it again with them, or "
        "evaluate its model."
    )
    for page in absent:
        st.page_link(
            f"views/{page}.py", label=f"Name {words[page]} on {page.capitalize()}",
            icon=":material/arrow_forward:",
        )  # fmt: skip


def _evaluations(runs: list[Run], chosen: Run) -> list[Run]:
    """Finished evaluations of these runs' models and of their original, the newest of each."""
    faults: dict[str, str] = {}
    paths = {str(run.path) for run in runs}
    found: dict[str, Run] = {}
    ours = chosen.settings()
    for run in parts.workspace().runs():
        if run.config()["command"] != "evaluate" or not run.finished:
            continue
        if why := table.fault(run):
            faults[parts.workspace().identify(run)] = why
            continue
        settings = run.settings()
        if settings.evaluation.endpoint:  # of whatever it serves, which no run can tell
            continue
        target = settings.evaluation.target
        original = not target and settings.model == ours.model and settings.data == ours.data
        if original or target in paths:
            found.setdefault(target, run)
    left_out(faults)
    return list(found.values())


def left_out(faults: dict[str, str]) -> None:
    """Runs that cannot be compared, each with the reason."""
    if faults:
        told = "; ".join(f"{name} ({why})" for name, why in faults.items())
        st.caption(f":material/warning: Left out, because damaged: {parts.plain(told)}")


def _rows(runs: list[Run]) -> list[table.Row]:
    kept = table.usable(runs)
    for note in kept.notes:
        st.caption(parts.plain(note))
    try:
        return table.rows(kept.runs)
    except RunError:  # none has anything to compare
        return []


def _reproduction() -> list[dict[str, Any]] | None:
    """The rows of a finished `u2a reproduce`, where one is chosen."""
    space = parts.workspace()
    made = {
        space.identify(run): run
        for run in space.runs()
        if run.config()["command"] == "reproduce" and run.finished and not table.fault(run)
    }
    if not made:
        return None
    named = st.session_state.get("run")
    names = [HERE, *made]
    at = names.index(named) if named in made else 0
    of = st.selectbox("Of", names, index=at, key=f"results_of_{named in made}", width=420)
    if of == HERE:
        return None
    report = made[of].report()
    for text in report["notes"]:
        st.caption(parts.plain(text))
    return list(report["rows"])


def _table(rows: list[table.Row]) -> None:
    """Methods by metrics; the best of each metric in bold."""
    head, body = table.lines(rows, "**{}**")
    shown = pd.DataFrame([[parts.plain(r[0]), *r[1:]] for r in body], columns=head)
    empty = [c for c in ("tokens", "seconds") if (shown[c] == "–").all()]
    st.table(shown.drop(columns=empty), hide_index=True, alt="Methods by metrics")
    seeds = [f"{row.method} ({row.runs})" for row in rows if row.over == "seeds"]
    over = f", of {parts.plain(', '.join(seeds))} over seeds" if seeds else ""
    uncounted = "tokens" in empty
    st.caption(
        f"Mean [95 % interval]{over}; the best mean of each metric in bold; arrows: where better "
        "is.",
        help="A row is a run, with those that differ in their seed alone; where several rows are "
        "of one method, the first run's folder is told. Seconds are wall time"
        + (
            "; no run here has counted its tokens."
            if uncounted
            else "; tokens are all that went through the model, sampled ones included."
        ),
    )


def _exports(rows: list[table.Row]) -> None:
    """The table in four formats."""
    files = {
        "CSV": (table.frame(rows).to_csv(index=False), "csv", "text/csv"),
        "JSON": (json.dumps(table.as_json(rows), indent=2), "json", "application/json"),
        "LaTeX": (table.latex(rows), "tex", "text/x-tex"),
        "Markdown": (table.markdown(rows), "md", "text/markdown"),
    }
    for title, (text, end, kind) in files.items():
        st.download_button(
            title, text, f"results.{end}", kind, key=f"results_{end}", on_click="ignore",
            icon=":material/download:",
        )  # fmt: skip


def report_button(runs: dict[str, Run]) -> None:
    """Runs as one file that opens without a server; it is made when it is asked for."""
    st.download_button(
        "HTML report", lambda: report_text(runs, _texts), "u2a-report.html", "text/html",
        key=f"report_{' '.join(runs)}", icon=":material/download:", on_click="ignore",
        help="One file with live figures, settings and replies; it opens without a server",
    )  # fmt: skip


def _texts(run: Run) -> Texts:
    return "blurred" if texts.blurred(texts_of(run)) else "shown"


def costs() -> None:
    """Reward against cost of the table that `page` has shown: the paper's Fig. 1."""
    found = table.as_json(st.session_state.get(_SHOWN, []))["rows"]
    known = [cost for cost in COSTS if any(row["ledger"].get(cost) for row in found)]
    if not known or not any("reward" in row["metrics"] for row in found):
        return
    # first what most methods have: older runs have not counted their tokens
    cost = max(known, key=lambda name: sum(bool(row["ledger"].get(name)) for row in found))
    if len(known) > 1:
        cost = st.segmented_control(
            "Cost", known, default=cost, format_func=COSTS.__getitem__, key="cost"
        ) or cost  # fmt: skip
    else:
        st.caption(
            f"Cost in {cost} only: none of these runs has counted its tokens."
            if cost == "seconds"
            else "Cost in tokens only."
        )
    st.plotly_chart(
        figures.cost_against_reward(found, parts.mode(), cost=cost), theme=None,
        key=f"cost_{cost}", alt=f"Reward of every method against its {cost}, with 95 % intervals",
    )  # fmt: skip
    without = [
        r["method"]
        for r in found
        if not r["ledger"].get(cost) and not r["method"].startswith(table.ORIGINAL)
    ]
    if without:
        st.caption(f"Without {cost}, so not in the picture: {parts.plain(', '.join(without))}.")


def _evaluate(chosen: Run, other: Run | None) -> None:
    """Every metric of a side's model, as a job; and those at work or failed."""
    sides = {"B": chosen, "A": other}
    with st.popover("Evaluate", icon=":material/analytics:", width="content"):
        st.markdown(
            "Measures every metric whose inputs are there: attack success, perplexity, "
            "membership, over-refusal and others. What is missing is told with its reason."
        )
        side = st.segmented_control("Side", ["A", "B"], default="B", key="evaluate_side") or "B"
        run = sides[side]
        why = "" if run is None or there(run.model_folder) else (
            "This run kept no model (the shipped runs do not), so only its rewards are known. "
            "Launch it again on Unlearn."
        )  # fmt: skip
        if why:
            st.caption(why)
        if st.button("Start", type="primary", icon=":material/play_arrow:", disabled=bool(why)):
            run_ = jobs.launch(
                parts.workspace().folder,
                "evaluate",
                evaluation_settings(run, chosen),
                env=access.environment(),
            )
            st.session_state["evaluating"] = parts.workspace().identify(run_)
            st.rerun()


def evaluation_settings(run: Run | None, chosen: Run) -> Settings:
    """Those of the run, with the project's prompts and judge; None measures the original model."""
    settings = chosen.settings() if run is None else run.settings()
    target = "" if run is None else str(run.path)
    own = project.settings().evaluation.model_copy(update={"target": target})
    return settings.model_copy(update={"evaluation": own, "weights": "uniform"})


def _jobs() -> None:
    """Evaluations that are not finished, and the one that was just started or named."""
    space, state = parts.workspace(), st.session_state
    named = {state.get("evaluating"), state.get("run")}
    for run in space.runs():
        name, status = space.identify(run), run.status().state
        command = run.config()["command"]
        if command not in ("evaluate", "reproduce") or (command == "reproduce" and run.finished):
            continue
        if status in jobs.ACTIVE or name in named:
            with st.container(border=True):
                runview.live_state(name)
                if command == "evaluate" and run.finished:
                    _measured(run)


def _measured(run: Run) -> None:
    """The metrics of a finished evaluation, and why others are missing."""
    report = run.report()
    rows = [
        {"metric": table.heading(name), "mean [95 %]": table.cell(found),
         "valid": f"{found['n_valid']} of {found['n']}"}
        for name, found in report["metrics"].items()
    ]  # fmt: skip
    st.dataframe(pd.DataFrame(rows), hide_index=True, alt="Metrics of the evaluation")
    runview.warnings(run)
    with st.expander(f"{len(report['missing'])} metrics are missing"):
        for name, why in report["missing"].items():
            st.caption(f"{METRICS[name].title}: {parts.plain(why)}")
    st.caption(f"Of {parts.plain(Path(report['target']).name)}.")
