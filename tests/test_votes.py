"""Blind votes: kept, replaced, counted with an interval, compared with rewards; torn lines."""

import json
from pathlib import Path

import pytest

from u2a_core.errors import RunError
from u2a_core.runs import Workspace
from u2a_core.runs.votes import Ballot, Vote, agreement, tally


def vote(choice: str, *, left: str = "a", index: int = 0) -> Vote:
    return Vote("p", index, 0, left, choice, "now")


@pytest.fixture
def ballot(tmp_path: Path) -> Ballot:
    made = Ballot(tmp_path / "annotations", "original", "mine")
    made.begin()
    return made


def test_the_winner_is_told_from_the_side_that_was_shown():
    assert vote("left", left="a").winner == "a"
    assert vote("right", left="a").winner == "b"
    assert vote("left", left="b").winner == "b"
    assert vote("tie").winner is vote("skip").winner is None


def test_votes_survive_and_keep_their_sides(ballot: Ballot):
    cast = [ballot.cast(f"prompt {i}", i, 0, "left") for i in range(20)]
    again = Ballot(ballot.folder, "original", "mine")
    assert again.votes() == cast
    assert [again.left(i, 0) for i in range(20)] == [v.left for v in cast]
    assert {v.left for v in cast} == {"a", "b"}
    keys = [(i, 0) for i in range(20)]
    assert again.shuffled(keys) == ballot.shuffled(keys) != keys
    again.begin()
    assert again.votes() == cast


def test_another_pair_and_another_ballot_have_votes_of_their_own(ballot: Ballot):
    ballot.cast("p", 0, 0, "tie")
    other = Ballot(ballot.folder, "../../etc", "mine")
    other.begin()
    assert other.votes() == []
    assert other.file.parent == ballot.file.parent
    sides = [ballot.left(i, 0) for i in range(40)]
    ballot.delete()
    assert not ballot.begun
    ballot.begin()
    assert ballot.votes() == []
    assert [ballot.left(i, 0) for i in range(40)] != sides


def test_a_later_vote_replaces_the_earlier_one(ballot: Ballot):
    ballot.cast("p", 3, 1, "skip")
    ballot.cast("p", 3, 1, "right")
    assert [v.choice for v in ballot.votes()] == ["right"]


def test_torn_and_foreign_lines_lose_no_vote(ballot: Ballot):
    ballot.cast("one\u2028line \x85", 0, 0, "left")
    with ballot.file.open("ab") as file:
        file.write(b'5\n{"prompt": "p"}\n\xff\xfe\n{"prompt": "x", "choice": "le')
    ballot.cast("p", 1, 0, "right")
    assert [v.choice for v in ballot.votes()] == ["left", "right"]


def test_the_tally_counts_and_has_a_wilson_interval():
    votes = [vote("right", index=i) for i in range(8)] + [vote("left", index=i) for i in (8, 9)]
    found = tally([*votes, vote("tie", index=10), vote("skip", index=11)])
    assert (found.a, found.b, found.ties, found.skipped) == (2, 8, 1, 1)
    assert found.rate.mean == 0.8
    assert (found.rate.low, found.rate.high) == pytest.approx((0.4901625, 0.9433178), abs=1e-6)
    assert found.rate.n == 10
    assert tally([]).rate.n == 0


def test_agreement_leaves_out_what_decides_nothing():
    votes = [vote("right", index=0), vote("right", index=1), vote("tie", index=2)]
    votes += [vote("left", index=3), vote("left", index=4)]
    changes = {(0, 0): 1.0, (1, 0): -1.0, (2, 0): 1.0, (3, 0): 0.0, (4, 0): float("nan")}
    found = agreement(votes, changes)
    assert (found.mean, found.n) == (0.5, 2)


def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="must be writable"):
        Ballot(tmp_path / "file", "original", "mine").begin()


def test_votes_on_a_shipped_run_stand_beside_the_runs(tmp_path: Path):
    space = Workspace(tmp_path)
    run = space.find("demo-npo-u2a")
    made = Ballot(space.annotations(run), "original", "demo-npo-u2a")
    made.begin()
    made.cast("p", 0, 0, "left")
    assert made.file.is_relative_to(tmp_path)
    assert json.loads(made.file.read_text().splitlines()[0])["a"] == "original"
