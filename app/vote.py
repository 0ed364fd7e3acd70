"""Blind vote: which reply is better, said without knowing whose it is."""

import json
from collections.abc import Callable, Hashable
from dataclasses import asdict
from typing import Any

import pandas as pd
import streamlit as st

from app import parts, texts
from app.replies import Pair
from u2a_core.runs.votes import Ballot, Choice, Replies, Tally, Vote, agreement, tally
from u2a_core.types import Estimate

CHOICES: dict[Choice, tuple[str, str, str]] = {
    "left": ("Left better", ":material/arrow_back:", "Left"),
    "tie": ("Tie", ":material/drag_handle:", "T"),
    "skip": ("Skip", ":material/skip_next:", "S"),
    "right": ("Right better", ":material/arrow_forward:", "Right"),
}


@st.fragment
def page(pair: Pair) -> None:
    """The vote, or its beginning."""
    parts.guarded(lambda: _page(pair))


def _page(pair: Pair) -> None:
    asked = items(pair.replies())
    if not asked:
        st.info("A and B have no replies that differ, so there is nothing to vote on.")
        return
    ballot = Ballot(parts.workspace().annotations(pair.ours), pair.a, pair.b)
    if not ballot.begun:
        _invitation(pair, ballot, len(asked))
        return
    votes = {(v.prompt_index, v.sample): v for v in ballot.votes()}
    left = [key for key in ballot.shuffled(asked) if key not in votes]
    again: Replies | None = st.session_state.get(_where(ballot))
    at = again if again in asked else next(iter(left), None)
    st.progress(
        1 - len(left) / len(asked),
        text=f"{len(asked) - len(left)} of {len(asked)} prompts voted on; A and B change sides at "
        "random.",
    )
    if at is not None:
        _ask(pair, ballot, asked[at], list(votes))
    changes = {key: float(row["change"]) for key, row in asked.items()}
    _outcome(pair, ballot, list(votes.values()), changes, done=not left)


def _where(ballot: Ballot) -> str:
    """Under which key the session keeps the replies that Back went to."""
    return f"vote_at_{ballot.file}"


def items(pairs: pd.DataFrame) -> dict[Replies, dict[Hashable, Any]]:
    """What is voted on: of every prompt one pair of replies that differ; so votes are independent.

    Args:
        pairs: as `table.paired` makes them.
    """
    if pairs.empty:
        return {}
    different = pairs[pairs["reply_a"] != pairs["reply_b"]].drop_duplicates("prompt_index")
    return {(int(r["prompt_index"]), int(r["sample"])): r for r in different.to_dict("records")}


def _invitation(pair: Pair, ballot: Ballot, count: int) -> None:
    st.markdown(
        f"Which model do you find better? You see two replies to each of {count} prompts, without "
        "their names, their rewards or marks of what differs; A and B change sides at random. "
        "Stop whenever you like: votes are kept."
    )
    st.button(
        "Begin the vote", type="primary", key="vote_begin",
        on_click=parts.callback(_written), args=(pair, ballot.begin),
    )  # fmt: skip


def _ask(pair: Pair, ballot: Ballot, row: dict[Hashable, Any], voted: list[Replies]) -> None:
    """One prompt with its two replies, and the buttons."""
    at, blurred = (int(row["prompt_index"]), int(row["sample"])), pair.blurred
    first = ballot.left(*at)
    with st.container(border=True):
        texts.box(str(row["prompt"]), blurred=blurred)
    shown = {"Left": first, "Right": "b" if first == "a" else "a"}
    for column, (name, side) in zip(st.columns(2, border=True), shown.items(), strict=True):
        with column:
            st.caption(name)
            texts.box(str(row[f"reply_{side}"]), blurred=blurred)

    def cast(choice: Choice) -> None:
        ballot.cast(str(row["prompt"]), *at, choice)
        st.session_state[_where(ballot)] = None

    with st.container(horizontal=True, horizontal_alignment="center"):
        for choice, (title, icon, key) in CHOICES.items():
            st.button(
                title, icon=icon, shortcut=key, key=f"vote_{choice}_{at}",
                on_click=parts.callback(_written), args=(pair, lambda choice=choice: cast(choice)),
            )  # fmt: skip
        before = voted[: voted.index(at)] if at in voted else voted
        st.button(
            "Back", icon=":material/undo:", key="vote_back", disabled=not before,
            on_click=st.session_state.update,
            args=({_where(ballot): before[-1] if before else None},),
        )  # fmt: skip


def _written(pair: Pair, write: Callable[[], object]) -> None:
    """A click that writes votes."""
    pair.ours.check_there()
    write()


def _outcome(
    pair: Pair, ballot: Ballot, votes: list[Vote], changes: dict[Replies, float], *, done: bool
) -> None:
    """The tally, at the end or on request; export and deletion."""
    with st.container(horizontal=True, vertical_alignment="center"):
        shown = done or st.toggle(
            "Reveal the tally", key=f"vote_reveal_{ballot.file}", disabled=not votes,
            help="The sides of the prompts that are left stay hidden",
        )  # fmt: skip
        with st.popover("Delete votes", icon=":material/delete:", disabled=not votes):
            st.markdown(f"Delete {len(votes)} votes? A new vote shuffles the sides anew.")
            st.button(
                "Delete for good", key="vote_delete", on_click=parts.callback(_written),
                args=(pair, ballot.delete),
            )  # fmt: skip
        if shown and votes:
            _exports(pair, votes)
    if shown and votes:
        _tally(tally(votes), agreement(votes, changes), pair)
        with st.expander(f"All {len(votes)} votes"):
            rows = votes_table(pair, votes, changes)
            hidden = rows.assign(prompt=texts.masked(rows["prompt"], blurred=pair.blurred))
            st.dataframe(hidden, hide_index=True, alt="Votes")


def _tally(found: Tally, agreed: Estimate, pair: Pair) -> None:
    """The numbers, each with n and its interval."""
    row = st.container(horizontal=True)
    _share(
        row, "B preferred", found.rate,
        "Share of B among the votes that decided, with its 95 % Wilson interval",
    )  # fmt: skip
    parts.number(row, "Votes for A", str(found.a), pair.a)
    parts.number(row, "Votes for B", str(found.b), pair.b)
    parts.number(row, "Ties", str(found.ties), f"{found.skipped} skipped")
    _share(
        row, "Agrees with the reward", agreed,
        "Share of the votes that prefer the reply of the higher reward, among those that decided "
        "between replies of different reward; 95 % Wilson interval",
    )  # fmt: skip


def _share(row: Any, title: str, found: Estimate, about: str) -> None:
    if found.n:
        note = f"[{found.low:.0%}, {found.high:.0%}], n = {found.n}"
        parts.number(row, title, f"{found.mean:.0%}", note, help=about)
    else:
        parts.number(row, title, "–", "no vote that counts", help=about)


def votes_table(pair: Pair, votes: list[Vote], changes: dict[Replies, float]) -> pd.DataFrame:
    """One row a vote, with the names of the models."""
    names = {"a": pair.a, "b": pair.b, None: ""}
    return pd.DataFrame(
        [
            {
                "prompt": vote.prompt, "draw": vote.sample + 1, "choice": vote.choice,
                "left": names[vote.left], "preferred": names[vote.winner],
                "reward B − A": changes.get((vote.prompt_index, vote.sample)), "time": vote.time,
            }
            for vote in votes
        ]
    )  # fmt: skip


def _exports(pair: Pair, votes: list[Vote]) -> None:
    records = [asdict(vote) | {"a": pair.a, "b": pair.b, "winner": vote.winner} for vote in votes]
    parts.download(pd.DataFrame(records), "votes", key="votes_csv")
    st.download_button(
        "JSON", json.dumps(records, indent=2, ensure_ascii=False), "votes.json",
        "application/json", key="votes_json", icon=":material/download:",
    )  # fmt: skip
