"""The embedded world: exact rubric, splits that never overlap; and the demo's twelve runs."""

from pathlib import Path

import pytest

from u2a_core import commands, report
from u2a_core.config import load_settings
from u2a_core.data import load_negatives, load_truth
from u2a_core.demo import world
from u2a_core.demo.run import METHODS, WEIGHTINGS, run_demo
from u2a_core.errors import DataError, ModelError
from u2a_core.runs import Run

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


@pytest.fixture(scope="module")
def finished(scenario: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The whole demo, on the small copy of the scenario."""
    settings = load_settings(scenario)
    run = Run.create(tmp_path_factory.mktemp("demo") / "d", "demo", settings)
    commands.execute(run, commands.Watch(run), run_demo)
    return run


def flagged(run: Run) -> int:
    """How many of the run's negatives the file of truth calls mislabelled."""
    data = run.settings().data
    return sum(load_truth(data.truth, [s.id for s in load_negatives(data.negatives).samples]))


def test_the_demo_compares_twelve_runs(finished: Run):
    report = finished.report()
    assert report["scenario"] == {"negatives": 40, "mislabelled": flagged(finished), "seed": 0}
    assert {(row["method"], row["weights"]) for row in report["methods"]} == {
        (method, weights) for method in METHODS for weights in WEIGHTINGS
    }
    for row in report["methods"]:
        reward = row["reward"]
        assert reward["low"] <= reward["mean"] <= reward["high"]
        assert (reward["n"], row["steps"] <= 6, row["seconds"] > 0) == (20, True, True)


def test_the_demos_weights_are_what_they_are_called(finished: Run):
    rows = {row["weights"]: row for row in finished.report()["methods"]}
    mislabelled = flagged(finished)
    assert rows["uniform"]["effective_samples"] == pytest.approx(40)
    assert rows["uniform"]["weight_on_mislabelled"] == pytest.approx(mislabelled / 40)
    assert rows["oracle"]["effective_samples"] == pytest.approx(40 - mislabelled)
    assert rows["oracle"]["weight_on_mislabelled"] == 0
    assert rows["random"]["effective_samples"] == pytest.approx(20)


def test_every_arm_of_the_demo_is_a_run_of_its_own(finished: Run):
    report = finished.report()
    for row in report["methods"]:
        arm = Run.open(finished.path / "arms" / f"{row['method']}-{row['weights']}")
        assert arm.report()["reward"]["after"] == row["reward"]
        assert arm.settings().inner.method == row["method"]


def test_the_demos_arms_share_budget_rate_and_seed(finished: Run):
    arms = [Run.open(path).settings() for path in (finished.path / "arms").iterdir()]
    shared = {
        (s.inner.steps, s.inner.learning_rate, s.outer.steps_per_round, s.seed, s.objective.samples)
        for s in arms
    }
    assert len(arms) == 12
    assert len(shared) == 1


def test_the_demo_is_shown_in_words(finished: Run, capsys: pytest.CaptureFixture[str]):
    report.show(finished)
    told = capsys.readouterr().out
    assert f"40 negatives, {flagged(finished)} of them good replies" in told
    assert told.count("uniform") == 3
    assert "Replies before and after U2A-NPO" in told


def test_a_stopped_demo_goes_on_where_it_was(scenario: Path, finished: Run, tmp_path: Path):
    run = Run.create(tmp_path / "d", "demo", load_settings(scenario))

    def some_done() -> bool:
        return any((run.path / "arms").glob("*/report.json"))

    with pytest.raises(commands.Stopped):
        commands.execute(run, commands.Watch(run, stopping=some_done), run_demo)
    assert run.status().state == "stopped"
    done = [path.parent for path in (run.path / "arms").glob("*/report.json")]
    written = {path: (path / "report.json").stat().st_mtime_ns for path in done}
    assert 0 < len(done) < 12
    commands.execute(run, commands.Watch(run), run_demo)
    assert {path: (path / "report.json").stat().st_mtime_ns for path in done} == written
    ours, theirs = (
        [(row["method"], row["weights"], row["reward"]) for row in r.report()["methods"]]
        for r in (run, finished)
    )
    assert ours == theirs


def test_a_failing_arm_fails_the_demo_in_its_own_words(scenario: Path, tmp_path: Path):
    settings = load_settings(scenario)
    broken = settings.model_copy(
        update={"objective": settings.objective.model_copy(update={"reward": "math:nothing"})}
    )
    run = Run.create(tmp_path / "d", "demo", broken)
    with pytest.raises(ModelError, match="has no attribute 'nothing'"):
        commands.execute(run, commands.Watch(run), run_demo)
    assert run.status().state == "failed"
    assert "has no attribute 'nothing'" in run.status().message
