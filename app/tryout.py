"""Your own prompt, tried on A and B: asked here, answered by a process of its own, word by word."""

import json
from dataclasses import asdict

import pandas as pd
import streamlit as st

from app import access, parts, runview, texts
from app.replies import Pair
from u2a_core.config import there
from u2a_core.runs import Run, demo_assets
from u2a_core.tryout import Desk, Outcome, Reply, Side, Try, launch

_TICK_S = 0.5
_SHOWN = 20
"""Earlier tries on the page; the export holds all of the pair."""
_LONGEST = 2048
ENDINGS = {
    "stop": "", "length": "cut at the most tokens", "stopped": "stopped", "": "",
}  # fmt: skip


def page(pair: Pair) -> None:
    """The prompt, the replies, and what was tried before."""
    parts.guarded(lambda: _page(pair))


def _page(pair: Pair) -> None:
    desk = Desk(parts.workspace().folder)
    sides = _sides(pair)
    missing = [run for run in (pair.theirs, pair.ours) if run is not None and not _kept(run)]
    for run in dict.fromkeys(missing, True):
        _no_model(run)
    tries = [asked for asked in desk.tries() if _of(asked, pair)]
    open_ = [asked for asked in tries if not desk.outcome(asked).done]
    if sides:
        _form(pair, desk, sides, busy=bool(open_))
    if open_:
        st.fragment(_live, run_every=_TICK_S)(desk, open_[0], pair)
    _history(desk, [asked for asked in tries if asked not in open_[:1]], pair)


def _sides(pair: Pair) -> tuple[Side, ...]:
    """The models that are there; both sides are named by what they are."""
    found = []
    if pair.theirs is None:
        found.append(Side("A", pair.b, original=True))
    elif _kept(pair.theirs):
        found.append(Side("A", pair.a, original=False))
    if _kept(pair.ours):
        found.append(Side("B", pair.b, original=False))
    return tuple(found)


def _of(asked: Try, pair: Pair) -> bool:
    """Whether a try was made on these two."""
    wanted = {"A": (pair.b if pair.theirs is None else pair.a, pair.theirs is None)}
    wanted["B"] = (pair.b, False)
    return all(wanted.get(s.title) == (s.run, s.original) for s in asked.sides)


def _kept(run: Run) -> bool:
    return there(run.model_folder)


def _no_model(run: Run) -> None:
    """Why a side cannot reply, and the button that mends it."""
    space = parts.workspace()
    name = space.identify(run)
    shipped = run.path.is_relative_to(demo_assets())
    seconds = float(run.report().get("seconds", 0))
    why = "ships with its tables, but without its model" if shipped else "has no model any more"
    with st.container(border=True):
        st.markdown(f"{parts.plain(name)} {why}, so it cannot reply to a new prompt.")
        again = st.session_state.get(f"try_again_{name}")
        if again is not None:
            _again(str(again), name)
        elif st.button(
            f"Run it again, to keep its model (took {max(1, seconds / 60):.0f} min)",
            key=f"try_run_{name}", icon=":material/play_arrow:",
        ):  # fmt: skip
            kept = dict(st.session_state)
            runview.launch(run.config()["command"], run.settings())
            st.session_state[f"try_again_{name}"] = st.session_state["run"]
            st.session_state.update(run=kept.get("run"), sample=kept.get("sample"))
            st.rerun()


def _again(again: str, instead: str) -> None:
    """The new run's state, and once it is finished, the way to it."""
    runview.live_state(again)
    if not parts.workspace().find(again).finished:
        return
    state = st.session_state
    key = "a" if state.get("side_a") == instead else "b"

    def use() -> None:
        state[key] = again

    st.button(f"Use it as {key.upper()}", type="primary", on_click=use, key=f"try_use_{again}")


def _form(pair: Pair, desk: Desk, sides: tuple[Side, ...], *, busy: bool) -> None:
    """The prompt and how it is sampled; the page's own defaults are those of the test prompts."""
    settings = pair.ours.settings()
    drawn = settings.objective
    with st.form("try", border=False):
        asks = "Ask both models something" if len(sides) > 1 else f"Ask {sides[0].title} alone"
        prompt = st.text_area("Prompt", key="try_prompt", placeholder=asks, height=90)
        with st.container(horizontal=True, vertical_alignment="bottom"):
            temperature = st.number_input(
                "Temperature", 0.0, 5.0, float(drawn.temperature), 0.1, key="try_temperature",
                width=150, help="0 takes the likeliest word each time",
            )  # fmt: skip
            seed = st.number_input("Seed", 0, None, settings.seed, key="try_seed", width=130)
            most = st.number_input(
                "Tokens, at most", 1, _LONGEST, min(drawn.max_new_tokens, _LONGEST),
                key="try_tokens", width=150,
            )  # fmt: skip
            sent = st.form_submit_button(
                "Send", type="primary", icon=":material/send:", disabled=busy,
                help="Sampled as the test prompts were. The first reply waits for the models to "
                "load; a job that queues goes first",
            )  # fmt: skip
    if sent and not prompt.strip():
        st.warning("Write a prompt first.")
    elif sent:
        desk.ask(
            prompt, sides, temperature=float(temperature), seed=int(seed), max_new_tokens=int(most)
        )
        launch(desk, env=access.environment())
        st.rerun()


def _live(desk: Desk, asked: Try, pair: Pair) -> None:
    """A try that is being answered, read anew twice a second."""
    parts.guarded(lambda: _answering(desk, asked, pair))


def _answering(desk: Desk, asked: Try, pair: Pair) -> None:
    outcome = desk.outcome(asked)
    if outcome.done:
        st.rerun()
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="center"):
            note = outcome.note or "the process starts, which takes some seconds"
            st.markdown(f":material/hourglass_top: {parts.plain(_noted(note, pair))}")
            if desk.stopped(asked):
                st.caption("stopping")
            else:
                st.button(
                    "Stop", icon=":material/stop:", key=f"try_stop_{asked.id}",
                    on_click=parts.callback(desk.stop), args=(asked,),
                )  # fmt: skip
        _exchange(asked, outcome, pair)


def _noted(note: str, pair: Pair) -> str:
    """The process' word, with the models' names."""
    first, _, rest = note.partition(" ")
    names = {"A": pair.a, "B": pair.b}
    if first in names and rest:
        return f"{first} ({names[first]}) {rest}"
    return note if rest not in names else f"{first} {rest} ({names[rest]})"


def _exchange(asked: Try, outcome: Outcome, pair: Pair) -> None:
    """The prompt and its replies, side by side."""
    blurred = pair.blurred
    texts.box(asked.prompt, blurred=blurred)
    names = {"A": pair.a, "B": pair.b}
    told = f"temperature {asked.temperature:g}, seed {asked.seed}, at most {asked.max_new_tokens}"
    st.caption(f"{told} tokens · {parts.age(asked.time)}")
    columns = st.columns(2)
    for side, reply in zip(asked.sides, outcome.replies, strict=True):
        with columns["AB".index(side.title)]:
            _reply(f"{side.title} ({names[side.title]})", reply, blurred=blurred)


def _reply(name: str, reply: Reply, *, blurred: bool) -> None:
    ended = ENDINGS.get(reply.ended, "")
    st.markdown(f"**{parts.plain(name)}**" + (f" :gray[{ended}]" if ended else ""))
    if reply.error:
        st.error(parts.plain(reply.error))
    elif reply.text:
        texts.box(reply.text, blurred=blurred)
    else:
        st.caption("an empty reply" if reply.ended else "…")


def _history(desk: Desk, tries: list[Try], pair: Pair) -> None:
    """What was tried on these two, newest first; kept over a reload."""
    if not tries:
        return
    outcomes = {asked.id: desk.outcome(asked) for asked in tries}
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"**{len(tries)} tried**", width="stretch")
        records = [_record(asked, outcomes[asked.id], pair) for asked in tries]
        parts.download(pd.DataFrame(records), "tries", key="tries_csv")
        st.download_button(
            "JSON", json.dumps(records, indent=2, ensure_ascii=False), "tries.json",
            "application/json", key="tries_json", icon=":material/download:",
        )  # fmt: skip
        if st.button("Clear", icon=":material/delete:", key="tries_clear"):
            for asked in tries:
                desk.forget(asked)
            st.rerun()
    for asked in tries[:_SHOWN]:
        outcome = outcomes[asked.id]
        with st.container(border=True):
            _exchange(asked, outcome, pair)
            if outcome.note:
                st.warning(parts.plain(outcome.note))
            if outcome.note and not outcome.note.startswith("Stopped") and (log := desk.log_tail()):
                with st.expander("Last lines of the process' log"):
                    st.code(log, language=None)


def _record(asked: Try, outcome: Outcome, pair: Pair) -> dict[str, object]:
    """One line of the export."""
    facts = {k: v for k, v in asdict(asked).items() if k not in ("sides", "id")}
    found: dict[str, object] = facts | {"a": pair.a, "b": pair.b}
    for side, reply in zip(asked.sides, outcome.replies, strict=True):
        found[f"reply_{side.title.lower()}"] = reply.text
        found[f"ended_{side.title.lower()}"] = reply.ended or reply.error
    return found
