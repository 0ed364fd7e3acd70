"""The estimate on the Model page: memory against what is free, time, and what would help."""

from collections.abc import Callable
from functools import partial
from typing import Literal

import pandas as pd
import streamlit as st

from app import access, parts
from app.checking import Check, Failure, State, read
from u2a_core import figures
from u2a_core.config import Settings
from u2a_core.estimate import Beside, Estimate, Suggestion, size, time_range, verdict

NAMES = {"gains": "Gains", "unlearn": "Unlearn", "reweight": "U2A"}
TELLING = {"fits": st.success, "tight": st.warning, "too large": st.error}
_TICK_S = 1.0
_HEIGHT = 460
_LAST = "_last_check"

Apply = Callable[[Suggestion], None]
"""Puts a suggestion into the settings."""


def panel(settings: Settings, apply: Apply | None) -> None:
    """The check of the settings: to be begun, at work, failed, or with its result.

    Args:
        settings: what a job would be launched with.
        apply: what a suggestion's button does; None: there is none.
    """
    running = _check(settings).state() == "running"
    st.fragment(_panel, run_every=_TICK_S if running else None)(settings, apply)


def begin(settings: Settings) -> None:
    """Begins the check of the settings."""
    _check(settings).start(access.environment())


def state(settings: Settings) -> State:
    """How the check of the settings stands."""
    return _check(settings).state()


def _check(settings: Settings) -> Check:
    return Check(parts.workspace().folder, settings)


def _panel(settings: Settings, apply: Apply | None) -> None:
    parts.guarded(partial(_states, settings, apply))


def _states(settings: Settings, apply: Apply | None) -> None:
    check, session = _check(settings), st.session_state
    state = check.state()
    before, session["_check_state"] = session.get("_check_state"), state
    if before == "running" and state != "running":
        st.rerun()
    if state == "running":
        with st.container(height=_HEIGHT, border=True):
            st.status(
                "Checking: the configuration, the tokenizer, the samples' lengths", state="running"
            )
            st.caption("Nothing is loaded. It takes some seconds, for large models half a minute.")
        return
    if state == "failed":
        _failed(check.failure)
        _again(settings, "Check again")
        return
    found = check.result() if state == "done" else None
    if found is not None:
        session[_LAST] = check.file
        _result(found, parts.age(check.file.stat().st_mtime), apply)
        _again(settings, "Check again")
        return
    _unchecked(settings)


def _unchecked(settings: Settings) -> None:
    """Nothing is known of these settings; what was known of others is shown as such."""
    if not settings.model.path:
        st.info("Name a model: its memory and time are told before anything is loaded.")
        return
    last = st.session_state.get(_LAST)
    earlier = None if last is None else read(last)
    if earlier is None:
        st.info(
            "The check tells how much memory and time Gains, Unlearn and U2A need with this "
            "model and these data, before anything is loaded, and what would help if it does not "
            "fit."
        )
        _again(settings, "Check")
        return
    st.warning("The settings or the data have changed since this estimate: check again.")
    _again(settings, "Check again")
    _result(earlier, "for other settings", None)


def _again(settings: Settings, title: str) -> None:
    kind: Literal["primary", "secondary"] = "primary" if title == "Check" else "secondary"
    if st.button(title, key="check", icon=":material/speed:", type=kind):
        begin(settings)
        st.rerun()


def _failed(failure: Failure) -> None:
    """Why there is no estimate, and what to do about it."""
    st.error(parts.plain(failure.message))
    page = next((w for w in failure.message.split() if w.startswith("https://huggingface.co/")), "")
    if failure.kind == "AccessError" and page:
        st.link_button("Accept the terms at the model's page", page, icon=":material/open_in_new:")


def wants_token(settings: Settings) -> bool:
    """Whether the hub has asked for a token in the last check."""
    check = _check(settings)
    return check.state() == "failed" and check.failure.kind == "TokenError"


def _result(found: Estimate, when: str, apply: Apply | None) -> None:
    """Verdict, bars, table of commands, suggestions, parts."""
    _verdict(found)
    st.plotly_chart(
        figures.memory_bars(
            {NAMES[n.command]: [(p.name, p.bytes) for p in n.parts] for n in found.needs},
            free=found.machine.free, margin=found.margin, title=_finding(found),
            mode=parts.mode(),
        ),
        theme=None, key="memory_bars", config={"displayModeBar": False},
        alt="Memory that Gains, Unlearn and U2A need, by part, against what is free",
    )  # fmt: skip
    rows = [
        {
            "job": NAMES[need.command],
            f"memory ±{found.margin:.0%}": size(need.peak),
            "verdict": verdict(need.peak, found.machine.free, found.margin),
            "time": time_range(need.seconds),
            "needs most while": need.phase,
        }
        for need in found.needs
    ]
    st.dataframe(pd.DataFrame(rows), hide_index=True, alt="Memory and time of each job")
    if found.beside is not None:
        _beside(found.beside, found.margin)
    _suggested(found, apply)
    for text in found.warnings:
        st.warning(parts.plain(text))
    if found.assumed:
        st.caption(
            f"Taken for granted, as no file is named yet: {parts.plain(', '.join(found.assumed))}."
        )
    _details(found, when)


def _verdict(found: Estimate) -> None:
    worst, free = found.largest, size(found.machine.free)
    said = verdict(worst.peak, found.machine.free, found.margin)
    needs = f"{NAMES[worst.command]} needs most, about {size(worst.peak)} (±{found.margin:.0%})"
    texts = {
        "fits": f"It fits. {needs}; {free} are free.",
        "tight": f"It is tight. {needs}; {free} are free. See below what saves memory.",
        "too large": f"It does not fit. {needs}; {free} are free. See below what saves memory.",
    }
    TELLING[said](texts[said])


def _beside(found: Beside, margin: float) -> None:
    """What the reward model needs on its own device, which the bars do not count."""
    machine = found.machine
    said = verdict(found.peak, machine.free, margin)
    TELLING[said](
        f"The reward model computes on {machine.device}, beside the above: {size(found.peak)} "
        f"(±{margin:.0%}), {said}; {size(machine.free)} are free there."
    )


def _finding(found: Estimate) -> str:
    """The title of the bars: what takes most."""
    worst = found.largest
    part = max(worst.parts, key=lambda p: p.bytes)
    share = part.bytes / max(1, worst.peak)
    return f"{NAMES[worst.command]} at its worst moment: {share:.0%} is the {part.name}"


def _suggested(found: Estimate, apply: Apply | None) -> None:
    if not found.suggestions:
        return
    st.subheader("What saves memory")
    st.caption(f"Each alone, of the {size(found.largest.peak)} of {NAMES[found.largest.command]}.")
    for number, change in enumerate(found.suggestions):
        words, button = st.columns([4, 1], vertical_alignment="center")
        after = verdict(change.peak, found.machine.free, found.margin)
        words.markdown(
            f"**{parts.plain(change.title)}** saves {size(change.saves)}; then "
            f"{size(change.peak)}, {after}. Its price: {parts.plain(change.price)}."
        )
        if apply is not None:
            button.button("Apply", key=f"apply_{number}", on_click=apply, args=(change,))


def _details(found: Estimate, when: str) -> None:
    """The parts as numbers, and how they come about."""
    with st.expander("Parts of the memory, and how they are computed"):
        names = dict.fromkeys(part.name for need in found.needs for part in need.parts)
        about = {part.name: part.about for need in found.needs for part in need.parts}
        sizes = {n.command: {p.name: p.bytes for p in n.parts} for n in found.needs}
        rows = [
            {
                "part": name,
                **{NAMES[c]: size(of[name]) if name in of else "–" for c, of in sizes.items()},
                "what it is": about[name],
            }
            for name in names
        ]
        st.dataframe(pd.DataFrame(rows), hide_index=True, alt="Parts of the memory of each job")
        model, machine = found.model, found.machine
        st.caption(parts.plain(
            f"{model['parameters'] / 1e6:,.1f} million parameters in {model['layers']} layers, "
            f"{model['trained'] / 1e6:,.1f} million trained ({model['how']}), {model['dtype']} on "
            f"{machine.device}; samples of at most {model['longest']} tokens. The passes are "
            "followed operation by operation on a model without weights, with the lengths that "
            "its tokenizer gives; the time is that work at the rate of a matrix product measured "
            f"in the check ({machine.flops / 1e9:,.0f} GFLOP/s). Free memory as of the check, "
            f"{when}."
        ))  # fmt: skip
