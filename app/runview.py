"""A run on a page: chosen from a list, its state with its buttons, its warnings, a new one."""

import time

import streamlit as st

from app import access, parts
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
        runs: those that the page can show; without a choice the first is shown.
        key: of the widget.
        empty: what to do where there are none.
    """
    state, widget = st.session_state, f"{key}_run"
    names = [parts.workspace().identify(run) for run in runs]
    wanted = state.get("run")
    chosen = wanted if wanted in names else next(iter(names), None)
    if wanted is not None and wanted not in names:
        try:
            parts.workspace().find(
                wanted
            )  # a run of another kind: this page shows its own first one
        except RunError as error:
            st.error(parts.plain(str(error)))
            chosen = None
    if not names:
        st.info(empty)
        return None
    state[widget] = chosen

    def follow() -> None:
        state.update(run=state[widget], sample=None)

    index = None if chosen is None else 0
    st.selectbox("Run", names, index, key=widget, on_change=follow, placeholder="Choose a run")
    return None if chosen is None else parts.workspace().find(chosen)


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
    try:
        run = parts.workspace().find(name)
        status = run.status()
        seen = f"_state_{name}"
        before, st.session_state[seen] = st.session_state.get(seen), status.state
        if before in jobs.ACTIVE and status.state not in jobs.ACTIVE:
            st.rerun()
        _state_line(name, status)
        if status.state in jobs.ACTIVE:
            _at_work(run, name, status)
        else:
            _at_rest(run, name, status)
    except RunError as error:
        st.warning(parts.plain(str(error)))


def _at_work(run: Run, name: str, status: Status) -> None:
    """A run in progress: how far, how long, its log, and Stop."""
    _progress(run, status)
    if status.state != "stopping":
        st.button(
            "Stop", key=f"stop_{name}", icon=":material/stop:", on_click=jobs.stop, args=(run,),
            help="At the next step, with a checkpoint from which Resume continues",
        )  # fmt: skip
    _log(run)


def _state_line(name: str, status: Status) -> None:
    said = f": {status.message}" if status.message and status.state != "failed" else ""
    st.markdown(f"**{parts.plain(name)}** {MARKS[status.state]}{parts.plain(said)}")


def _progress(run: Run, status: Status) -> None:
    """How far the stage in hand is, and how long the run has worked."""
    lines = run.progress()
    if not lines:
        st.progress(0.0, text="starting" if status.state != "queued" else "waiting for its turn")
        return
    last = lines[-1]
    same = [line for line in lines if line.stage == last.stage]
    since = max(0.0, time.time() - run.progress_time())
    if last.total == 1:  # nothing to count: that time goes on is all there is to say
        st.progress(0.0, text=f"{last.stage}, {last.seconds + since:.0f} s")
        return
    text = f"{last.stage} {last.step} of {last.total}, {last.seconds + since:.0f} s"
    if len(same) > 1 and last.step > same[0].step:
        pace = (last.seconds - same[0].seconds) / (last.step - same[0].step)
        text += f", about {max(0.0, (last.total - last.step) * pace - since):.0f} s left"
    st.progress(min(1.0, last.step / max(1, last.total)), text=text)


def _at_rest(run: Run, name: str, status: Status) -> None:
    """A run that nobody works on: what happened, and what can be done."""
    if status.state == "failed":
        st.error(f"The run failed: {parts.plain(status.message)}")
    if status.state != "finished":
        _log(run, expanded=status.state == "failed")
    if run.path.is_relative_to(demo_assets()) or parts.workspace().parent(run) is not None:
        return
    with st.container(horizontal=True):
        if status.state != "finished" and st.button(
            "Resume", key=f"resume_{name}", type="primary",
            help="Continues from the last checkpoint, to the same result",
        ):  # fmt: skip
            if not run.lock.alive and not run.finished:  # a second click finds it at work
                jobs.begin(run, env=access.environment())
            st.rerun()
        with st.popover("Delete", icon=":material/delete:"):
            st.markdown(f"Delete **{parts.plain(name)}** with its tables and its model?")
            if st.button("Delete for good", key=f"delete_{name}"):
                run.delete()
                st.session_state.update(run=None, sample=None)
                st.rerun()


def _log(run: Run, *, expanded: bool = False) -> None:
    """The last lines of a run's log."""
    log = run.log_tail()
    if log:
        with st.expander("Last lines of the log", expanded=expanded):
            st.code(log, language=None)


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
