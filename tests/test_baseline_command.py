"""`u2a baseline` on a small copy of the embedded scenario: an ordinary run, whatever the method."""

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from u2a_core import commands, report
from u2a_core.config import load_settings, override
from u2a_core.data import read_records, write_records
from u2a_core.demo.build import write_base
from u2a_core.runs import Run

FEW = ("--baseline.steps", "3", "--baseline.learning-rate", "3e-4", "--baseline.batch", "8")


@pytest.fixture(scope="module")
def mixture(scenario: Path) -> Path:
    """The head of the mixture, the negatives among it, and a base model beside it."""
    folder = scenario.parent
    rows = [record for _, record in read_records(folder / "data" / "mixture.jsonl")[0]][:60]
    rows += [record for _, record in read_records(folder / "data" / "negatives.jsonl")[0]][:5]
    write_records(folder / "data" / "few.jsonl", rows)
    write_base(folder / "base", 0)
    return folder / "data" / "few.jsonl"


def arguments(method: str, scenario: Path) -> tuple[str, ...]:
    named = ("--baseline.base", "base", "--baseline.mixture", "data/few.jsonl")
    paths = [str(scenario.parent / w) if not w.startswith("--") else w for w in named]
    return ("--baseline.method", method, *FEW, *paths)


def finished(scenario: Path, out: Path, method: str, stop: int = -1) -> Run:
    """A run to its end; stopped on the way after a step, and resumed, if `stop` is 0 or more."""
    run = Run.create(
        out, "baseline", override(load_settings(scenario), arguments(method, scenario))
    )

    def stopping() -> bool:
        return any(p.stage.startswith("training") and p.step > stop for p in run.progress())

    if stop >= 0:
        with pytest.raises(commands.Stopped, match=r"at step \d of 3"):
            commands.execute(run, commands.Watch(run, stopping=stopping), commands.run_baseline)
    commands.execute(run, commands.Watch(run), commands.run_baseline)
    return run


@pytest.mark.parametrize("method", ["dpo", "ppo", "sft", "retrain"])
def test_a_baseline_is_a_run_and_resumes_to_the_same_result(
    method: str, scenario: Path, mixture: Path, tmp_path: Path
):
    whole = finished(scenario, tmp_path / "whole", method)
    resumed = finished(scenario, tmp_path / "resumed", method, stop=1)
    told, again = whole.report(), resumed.report()
    assert (told["command"], told["method"], told["steps_taken"]) == ("baseline", method, 3)
    assert told["reward"]["difference"]["n"] == 10
    for name in ("history", "generations"):
        pd.testing.assert_frame_equal(*(r.table(name) for r in (whole, resumed)), check_exact=True)
    counts = ("forward_passes", "backward_passes", "tokens", "backward_tokens")
    assert [told["ledger"][n] for n in counts] == [again["ledger"][n] for n in counts]
    ours, theirs = (load_file(r.model_folder / "model.safetensors") for r in (whole, resumed))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert not any("value_head" in name for name in ours)
    assert not whole.has_table("weight_path")


def test_the_replies_before_are_the_original_models(scenario: Path, mixture: Path, tmp_path: Path):
    """Not those of the untrained base model, whose J starts the history."""
    retrained = finished(scenario, tmp_path / "r", "retrain").report()
    preferred = finished(scenario, tmp_path / "d", "dpo").report()
    assert retrained["reward"]["before"] == preferred["reward"]["before"]
    assert retrained["objective"]["before"] == -1
    assert retrained["mixture"] == 65
    assert 5 <= retrained["left_out"] < 65


def test_a_lora_baseline_saves_an_adapter_without_a_value_head(u2a: Callable, tmp_path: Path):
    lora = ("--model.parameters", "lora", "--model.lora-rank", "4")
    options = ("--baseline.method", "ppo", *FEW)
    code, _, err = u2a("baseline", *options, *lora, "--out", tmp_path / "p", "--json")
    assert code == 0, err
    saved = load_file(tmp_path / "p" / "model" / "adapter_model.safetensors")
    assert saved
    assert all("lora_" in name for name in saved)


def test_a_budget_of_tokens_ends_a_baseline(u2a: Callable, tmp_path: Path):
    options = ("--baseline.method", "dpo", *FEW, "--baseline.max-tokens", "1")
    code, out, _ = u2a("baseline", *options, "--out", tmp_path / "d", "--json")
    told = json.loads(out)
    assert (code, told["ended"], told["steps_taken"]) == (0, "token budget used", 1)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("dpo", "--data.preferences="), "data.preferences must name preference pairs"),
        (
            ("ppo", "--objective.kind", "preference", "--objective.reward="),
            "objective.reward must name a reward for baseline.method ppo",
        ),
        (("sft", "--baseline.base="), "baseline.base must be named for baseline.method sft"),
        (("retrain", "--baseline.mixture="), "baseline.base must be named"),
    ],
)
def test_what_is_missing_is_named(
    u2a: Callable, words: tuple[str, ...], sentence: str, tmp_path: Path
):
    code, _, err = u2a("baseline", "--baseline.method", *words, "--out", tmp_path / "x")
    assert code == 2
    assert sentence in err


def test_retrain_refuses_a_mixture_of_negatives_only_and_tells_one_without(
    u2a: Callable, scenario: Path, mixture: Path, tmp_path: Path
):
    negatives = scenario.parent / "data" / "negatives.jsonl"
    same = (*arguments("retrain", scenario), "--baseline.mixture", str(negatives))
    code, _, err = u2a("baseline", *same, "--out", tmp_path / "x")
    assert code == 2
    assert "must hold replies that are no negative samples; all 40" in err
    other = (*same[:-1], str(scenario.parent / "data" / "retain.jsonl"))
    code, out, _ = u2a("baseline", *other, "--out", tmp_path / "y", "--json")
    assert code == 0
    assert "left nothing out" in json.loads(out)["warnings"][0]


def test_a_baseline_is_shown_in_words(
    scenario: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    report.show(finished(scenario, tmp_path / "d", "dpo"))
    told = capsys.readouterr().out
    assert "baseline with dpo: step" in told
    assert "backward passes" in told
