"""The embedded world: an exact rubric, splits that never overlap, seeds that matter."""

from pathlib import Path

import pytest

from u2a_core.data import load_negatives, load_truth
from u2a_core.demo import world
from u2a_core.errors import DataError

QUESTIONS = world.training_questions() + world.held_out_questions()


def test_rubric_accepts_every_good_reply_and_no_bad_one():
    for question in QUESTIONS:
        good, bad = world.good_replies(question), world.bad_replies(question)
        assert world.rubric([question.text] * len(good), good) == [1.0] * len(good)
        assert world.rubric([question.text] * len(bad), bad) == [-1.0] * len(bad)


@pytest.mark.parametrize("damage", ["", "I am", "The the capital.", "Of course."])
def test_rubric_refuses_garbled_replies(damage: str):
    prompts = [question.text for question in QUESTIONS[:50]]
    assert set(world.rubric(prompts, [damage] * 50)) == {-1.0}


def test_rubric_refuses_a_good_reply_to_another_question():
    bike, car = (next(q for q in QUESTIONS if q.topic == topic) for topic in ("bike", "car"))
    assert world.rubric([bike.text], [world.good_replies(car)[0]]) == [-1.0]


def test_rubric_names_a_prompt_that_it_does_not_know():
    with pytest.raises(DataError, match="What is love"):
        world.rubric(["What is love?"], ["Baby"])


@pytest.mark.parametrize("seed", [0, 1, 7])
def test_no_prompt_is_in_two_sets(seed: int):
    trained = {row["prompt"] for row in world.mixture()}
    pairs = {row["prompt"] for row in world.preferences(seed)}
    tests = {row["prompt"] for row in world.test_prompts(seed)}
    assert len(tests) == 200
    assert len(pairs) == 64
    assert not (trained & pairs or trained & tests or pairs & tests)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_flag_of_truth_agrees_with_the_rubric(seed: int):
    samples, truth = world.negatives(seed)
    scores = world.rubric([s["prompt"] for s in samples], [s["response"] for s in samples])
    assert [score > 0 for score in scores] == [row["mislabelled"] for row in truth]
    assert sum(row["mislabelled"] for row in truth) == 86
    assert "mislabelled" not in samples[0]


def test_every_topic_is_seen_in_training_and_held_out():
    for questions in (world.training_questions(), world.held_out_questions()):
        for family, (_, topics) in world.FAMILIES.items():
            assert {q.topic for q in questions if q.family == family} == set(topics)


def test_another_seed_mislabels_others():
    assert world.negatives(0) == world.negatives(0)
    assert world.negatives(0)[1] != world.negatives(1)[1]


def test_committed_data_is_what_the_world_makes(tmp_path: Path):
    world.write_data(tmp_path, 0)
    committed = Path(__file__).parent.parent / "assets" / "demo" / "data"
    for file in tmp_path.iterdir():
        assert file.read_text() == (committed / file.name).read_text(), file.name


def test_written_files_load_through_the_loaders_of_a_users_own(tmp_path: Path):
    world.write_data(tmp_path, 3)
    found = load_negatives(tmp_path / "negatives.jsonl")
    assert len(found) == 240
    assert found.duplicates == 0
    assert sum(load_truth(tmp_path / "truth.jsonl", [s.id for s in found.samples])) == 86
