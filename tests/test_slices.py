"""Slices and reviews: kept, found again, and unlearned with equal weights."""

import json
from pathlib import Path
from threading import Thread

import pytest

from u2a_core.config import load_settings, override
from u2a_core.errors import ConfigError, RunError
from u2a_core.runs import Workspace, reviews, slices

SET = "0a" * 32


@pytest.fixture
def space(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "runs")


@pytest.fixture
def run(space: Workspace):
    return space.find("demo-gains")


def test_a_slice_is_found_again_as_it_was_saved(space: Workspace, run):
    saved = slices.save(space, run, "  rude   replies ", ["n003", "n001", "n003"])
    (found,) = slices.all_slices(space, run)
    assert found == saved
    assert (found.name, found.ids) == ("rude replies", ("n003", "n001"))
    assert found.sha256 == run.report()["data"]["negatives_sha256"]


def test_slices_of_one_set_are_found_from_every_run_of_it(space: Workspace, run):
    other = space.find("demo-npo-u2a")
    both = [slices.save(space, run, "b", ["n001"]), slices.save(space, other, "a", ["n002"])]
    sha256 = run.report()["data"]["negatives_sha256"]
    assert slices.of_set(space, sha256) == both[::-1]
    assert slices.of_set(space, "0" * 64) == []


@pytest.mark.parametrize(
    "name", ["../../up", "a/b\\c", "..", "\0nul", "<script>", "名前 🙂", "-" * 80]
)
def test_a_name_never_becomes_a_path(space: Workspace, run, name: str):
    saved = slices.save(space, run, name, ["n001"])
    assert saved.path.parent == space.annotations(run) / "slices"
    assert saved.path.name.replace("-", "").replace(".json", "").isalnum()
    assert saved.path.name.isascii()
    assert slices.read_slice(saved.path).name == " ".join(name.split())


@pytest.mark.parametrize(("name", "told"), [("", "1 to 80"), ("x" * 81, "got 81"), ("A", "taken")])
def test_a_name_that_cannot_be_is_told(space: Workspace, run, name: str, told: str):
    slices.save(space, run, "a", ["n001"])
    with pytest.raises(RunError, match=told):
        slices.save(space, run, name, ["n001"])
    with pytest.raises(RunError, match="at least one"):
        slices.save(space, run, "none", [])
    assert len(slices.all_slices(space, run)) == 1


def test_a_renamed_slice_keeps_its_key_and_frees_its_name(space: Workspace, run):
    old = slices.save(space, run, "a", ["n001"])
    new = slices.rename(space, run, old, "b")
    assert new.key == old.key
    assert slices.rename(space, run, new, "b") == new
    assert [one.name for one in slices.all_slices(space, run)] == ["b"]
    other = slices.save(space, run, "a", ["n002"])
    with pytest.raises(RunError, match="taken"):
        slices.rename(space, run, other, "B")
    slices.delete(new)
    slices.delete(new)
    assert slices.all_slices(space, run) == [other]


def test_a_damaged_slice_hides_no_other(space: Workspace, run):
    good = slices.save(space, run, "good", ["n001"])
    for name, text in (("torn", "{"), ("odd", '{"ids": 5}'), ("ints", '{"ids": [1]}')):
        (good.path.parent / f"{name}.json").write_text(text)
    assert slices.all_slices(space, run) == [good]


def test_unlearning_a_slice_is_unlearning_its_samples_with_equal_weights(
    scenario: Path, space: Workspace
):
    from u2a_core.commands.descents import weight_path
    from u2a_core.experiment import load_experiment

    settings = load_settings(scenario)
    experiment = load_experiment(settings)
    ids = [sample.id for sample in experiment.negatives.samples]
    file = space.folder / "one.json"
    file.parent.mkdir(parents=True)

    def weights(content: dict[str, object]) -> list[float]:
        file.write_text(json.dumps(content))
        named = override(settings, ["--weights", str(file)])
        (found,) = weight_path(named, experiment)
        return found.values.tolist()

    sha256 = experiment.negatives.sha256
    found = weights({"name": "s", "ids": [ids[7], ids[2]], "negatives_sha256": sha256})
    assert [i for i, w in zip(ids, found, strict=True) if w > 0] == [ids[2], ids[7]]
    assert found[2] == found[7] == 0.5
    assert weights({"ids": [ids[2]]})[2] == 1.0
    with pytest.raises(ConfigError, match="made of another set"):
        weights({"name": "s", "ids": [ids[2]], "negatives_sha256": "0" * 64})
    with pytest.raises(ConfigError, match="unknown id 'nobody'"):
        weights({"ids": ["nobody"]})
    with pytest.raises(RunError, match="list of sample ids"):
        weights({"ids": []})


def test_marks_are_kept_taken_back_and_counted(space: Workspace):
    for sample, mark in (("n001", "mistake"), ("n002", "real"), ("n003", "mistake")):
        reviews.put(space, SET, sample, mark)
    reviews.put(space, SET, "n001", "unsure")
    reviews.put(space, SET, "n002", None)
    assert reviews.marks(space, SET) == {"n003": "mistake", "n001": "unsure"}
    assert reviews.tally(reviews.marks(space, SET)) == {"mistake": 1, "real": 0, "unsure": 1}
    with pytest.raises(RunError, match="must be one of"):
        reviews.put(space, SET, "n001", "perhaps")
    with pytest.raises(RunError, match="64 hex"):
        reviews.put(space, "../up", "n001", "real")


def test_two_tabs_that_mark_at_once_lose_nothing(space: Workspace):
    def mark(first: int) -> None:
        for k in range(first, first + 20):
            reviews.put(space, SET, f"n{k:03}", "real")

    tabs = [Thread(target=mark, args=(first,)) for first in (0, 20)]
    for tab in tabs:
        tab.start()
    for tab in tabs:
        tab.join()
    assert len(reviews.marks(space, SET)) == 40


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path):
    (tmp_path / "file").write_text("")
    space = Workspace(tmp_path / "file" / "runs")
    with pytest.raises(RunError, match="must be writable"):
        slices.save(space, space.find("demo-gains"), "a", ["n001"])
    with pytest.raises(RunError, match="must be writable"):
        reviews.put(space, SET, "n001", "real")
