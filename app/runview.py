"""A run on a page: chosen from a list, its state with its buttons, its warnings, a new one."""

import streamlit as st

from app import access, drafts, failures, parts, project, stages, urlstate
from u2a_core import jobs
from u2a_core.config import Settings
from u2a_core.errors import RunError
from u2a_core.runs import Run, Status, demo_assets

MARKS = {
    "queued": ":gray-badge[waiting]",
    "running": ":blue-badge[running]",
    "stopping": ":orange-badge[stopping]",
    "stopped": ":orange-badge[stopped]",
    "failed": ":red-badge[failed]",
    "finished": ":green-badge[finished]",
}

_TICK_S = 2


def pick(runs: list[Run], *, key: str, empty: str) -> Run | None:
    """A choice among runs that follows and sets the address's `run`.

    Args:
        runs: those that the page can show; without a choice the project's first is shown.
        key: of the widget.
        empty: what to do where the project has none.
    """
    state, widget = st.session_state, f"{key}_run"
    names = [parts.workspace().identify(run) for run in runs]
    wanted = state.get("run")
    ours = (name for name, run in zip(names, runs, strict=True) if project.has(run))
    chosen = wanted if wanted in names else next(ours, None)
    known = True
    if wanted is not None and wanted not in names:
        try:  # a run of another kind: this page shows the first of its own
            parts.workspace().find(wanted)
        except RunError as error:
            st.error(parts.plain(str(error)))
            st.page_link("views/home.py", label="All runs", icon=":material/arrow_forward:")
            chosen, known = None, False
    if chosen is None and known:
        st.info(empty)
    if not names:
        return None
    state[widget] = chosen

    def follow() -> None:
        state.update(run=state[widget], sample=None)

    index = None if chosen is None else 0
    st.selectbox("Run", names, index, key=widget, on_change=follow, placeholder="Choose a run")
    st.session_state["_shown_run"] = chosen
    return None if chosen is None else parts.workspace().find(chosen)


def show_none() -> None:
    """Before a page: no run is shown yet."""
    st.session_state["_shown_run"] = None


def shown() -> str | None:
    """The run that the page shows: the one it picked, else the one of the address."""
    name = st.session_state.get("_shown_run") or st.session_state.get("run")
    return None if name is None else str(name)


def stale_note(run: Run) -> None:
    """A warning where the data is no longer what the run was computed from."""
    changed = run.changed("data.")
    if changed:
        st.warning(
            f"Computed for other data: {', '.join(changed)} changed or went away since. "
            "The pictures show the data as it was; launch the job again for the current one."
        )


def live_state(name: str) -> None:
    """A run's state with progress and buttons, every two seconds while it works."""
    active = parts.workspace().find(name).status().state in jobs.ACTIVE
    st.fragment(_state, run_every=_TICK_S if active else None)(name)


def _state(name: str) -> None:
    parts.guarded(lambda: _shown_state(name))


def _shown_state(name: str) -> None:
    run = parts.workspace().find(name)
    status = run.status()
    seen = f"_state_{name}"
    before, st.session_state[seen] = st.session_state.get(seen), status.state
    if before not in (None, status.state):  # the line under the bar tells it, too
        st.rerun()
    _state_line(name, status)
    if status.state in jobs.ACTIVE:
        _at_work(run, name, status)
    else:
        _at_rest(run, name, status)


def _at_work(run: Run, name: str, status: Status) -> None:
    """A run in progress: its place in line, how far, how long, its log, and Stop."""
    stages.timeline(run, status)
    stages.bar(run, status)
    if status.state == "queued":
        st.caption(parts.plain(in_line(run)))
    with st.container(horizontal=True):
        if status.state != "stopping":
            stop_button(run, name, status)
        _duplicate(run, name)
    _log(run, name)


def stop_button(run: Run, name: str, status: Status) -> None:
    """Stop, or Cancel for a run that waits behind others."""
    waits = status.state == "queued" and bool(jobs.ahead(run))
    st.button(
        "Cancel" if waits else "Stop", key=f"stop_{name}", on_click=parts.callback(_stop),
        args=(run,),
        icon=":material/close:" if waits else ":material/stop:",
        help="Leaves the line; Resume joins it again"
        if waits
        else "At the next step, with a checkpoint from which Resume continues",
    )  # fmt: skip


def _stop(run: Run) -> None:
    """Asks the run's process once, however often a click is handled.

    A rerun that comes in between has it handled again, and a second signal stops at once, without
    the step in hand.
    """
    worker = run.lock.worker()
    if worker is None or worker != st.session_state.get("_asked_to_stop"):
        jobs.stop(run)
        st.session_state["_asked_to_stop"] = worker  # not where that failed


def in_line(run: Run) -> str:
    """A waiting run's place in the line of its device."""
    before = jobs.ahead(run)
    if not before:
        return "starting"
    nearest = parts.workspace().identify(before[0])
    if len(before) == 1:
        return f"next in line, after {nearest}"
    return f"{_ordinal(len(before))} in line, behind {nearest}"


def _ordinal(n: int) -> str:
    ends = {1: "st", 2: "nd", 3: "rd"}
    return f"{n}{'th' if n % 100 in (11, 12, 13) else ends.get(n % 10, 'th')}"


def _state_line(name: str, status: Status) -> None:
    quiet = status.state in ("failed", "queued")
    said = f": {status.message}" if status.message and not quiet else ""
    st.markdown(f"**{parts.plain(name)}** {MARKS[status.state]}{parts.plain(said)}")


def _at_rest(run: Run, name: str, status: Status) -> None:
    """A run that nobody works on: what happened, and what can be done."""
    stages.timeline(run, status)
    if status.state == "failed":
        failures.box(run, status)
    shipped = run.path.is_relative_to(demo_assets())
    own = not shipped and parts.workspace().parent(run) is None
    blocked = _resume_told(run) if own and status.state != "finished" else ""
    with st.container(horizontal=True):
        if own and status.state != "finished":
            _resume(run, name, blocked)
        _duplicate(run, name)
        if own:
            _delete(run, name)
        if status.state == "failed":  # its last lines stand in the box
            _whole_log(run, name)
    if status.state != "failed":
        _log(run, name)


def _resume_told(run: Run) -> str:
    """Says what Resume would do; returns what keeps it from doing so."""
    changed = run.changed()
    if changed:
        told = (
            f"It cannot be resumed: {', '.join(changed)} changed or went away since. "
            "Restore them, or duplicate the run."
        )
        st.caption(f":material/block: {parts.plain(told)}")
        return told
    st.caption(f":material/resume: {parts.plain(resume_plan(run))}")
    return ""


def resume_plan(run: Run) -> str:
    """From where a resume would go on, and what it would do again."""
    command, lines = run.config()["command"], run.progress()
    if command in ("ablate", "reproduce", "demo"):
        done = len(list(run.path.glob("arms/*/report.json")))
        return (
            f"Resume keeps the {done} finished runs inside this one; those that were at work "
            "continue from their own checkpoints."
        )
    if command == "impact" and run.has_table("curves"):
        done = run.table("curves")["sample"].nunique()
        return f"Resume keeps the curves of the {done} measured samples and measures the others."
    step = run.checkpoint_step()
    if step is None:
        return "There is no checkpoint yet: Resume begins the run anew, with the same settings."
    made = [line for line in lines if "step" in line.values]
    total = made[-1].total if made else 0
    lost = max(0, made[-1].step - step) if made else 0
    again = f"redoes {lost} step{'s' * (lost != 1)}" if lost else "redoes no step"
    return (
        f"Resume loads the model, continues after step {step}"
        f"{f' of {total}' if total else ''}, and {again}; the result is the same as without a stop."
    )


def _resume(run: Run, name: str, blocked: str) -> None:
    if st.button(
        "Resume", key=f"resume_{name}", type="primary", disabled=bool(blocked),
        icon=":material/resume:",
        help=blocked or "Continues from the last checkpoint, to the same result",
    ):  # fmt: skip
        if not run.lock.alive and not run.finished:  # a second click finds it at work
            jobs.begin(run, env=access.environment())
        st.rerun()


def _duplicate(run: Run, name: str) -> None:
    """Fills the form of its command with the run's settings."""
    if run.config()["command"] in drafts.FORMS and st.button(
        "Duplicate with changes", key=f"duplicate_{name}", icon=":material/content_copy:",
        help="Fills the form with this run's settings; Differences tells what the project has",
    ):  # fmt: skip
        page = drafts.duplicate(run)
        st.switch_page(f"views/{page}.py", query_params=urlstate.choices())


def _delete(run: Run, name: str) -> None:
    with st.popover("Delete", icon=":material/delete:"):
        st.markdown(f"Delete **{parts.plain(name)}** with its tables and its model?")
        if st.button("Delete for good", key=f"delete_{name}"):
            run.delete()
            st.session_state.update(run=None, sample=None)
            st.rerun()


def _log(run: Run, name: str) -> None:
    """The last lines of a run's log, and the whole of it to keep."""
    log = run.log_tail()
    if log:
        with st.expander("Last lines of the log"):
            with st.container(height=260, autoscroll=True, border=False):
                st.code(log, language=None)
            _whole_log(run, name)


def _whole_log(run: Run, name: str) -> None:
    if run.log_file.exists():
        st.download_button(
            "Whole log", run.log_file.read_bytes, f"{run.path.name}.log", "text/plain",
            key=f"log_{name}", icon=":material/download:",
        )  # fmt: skip


def launch(command: str, settings: Settings) -> None:
    """Starts a job and shows it."""
    run = jobs.launch(parts.workspace().folder, command, settings, env=access.environment())
    st.session_state["run"] = parts.workspace().identify(run)
    st.session_state["sample"] = None


def warnings(run: Run) -> None:
    """What the run itself says of how far its numbers hold."""
    report = run.report()
    for text in report.get("warnings", []):
        st.warning(parts.plain(text), icon=":material/warning:")
    for text in report.get("notes", []):
        st.caption(parts.plain(text))
