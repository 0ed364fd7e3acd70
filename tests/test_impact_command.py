"""`u2a impact` end to end on a small copy of the embedded scenario; what is said of curvature."""

import json
from pathlib import Path

import pandas as pd
import pytest

from u2a_core import commands
from u2a_core.config import load_settings, override
from u2a_core.runs import Run

FEW = ("--impact.samples", "20", "--impact.omegas", "0.002,0.02")


def test_the_report_has_predictions_and_measurements_for_every_weight(u2a, tmp_path: Path):
    code, out, _ = u2a("impact", "--impact.samples", "6", "--out", tmp_path / "i", "--json")
    assert code == 0
    report = json.loads(out)
    assert len(report["omegas"]) == len(report["per_omega"]) == 5
    assert report["omegas"] == sorted(report["omegas"])
    first, last = report["per_omega"][0], report["per_omega"][-1]
    assert first["contraction"]["max"] == pytest.approx(0.05, rel=0.2)
    assert last["contraction"]["max"] > 1
    assert first["converged_share"] == 1
    assert report["smallest_impact"] > 100 * report["rounding"]
    for name in ("linear", "paper", "trapezoid"):
        found = first["estimators"][name]
        assert set(found) == {"spearman", "r2", "slope", "rmse", "n", "intervals"}
        assert found["slope"] == pytest.approx(1, abs=0.05)
        assert found["n"] == 6
    samples = Run.open(tmp_path / "i").table("samples")
    assert len(samples) == 6
    assert samples["limit"].notna().all()


def test_stopped_and_resumed_curves_are_the_uninterrupted_ones(scenario: Path, tmp_path: Path):
    words = ("--impact.samples", "40", "--impact.omegas", "0.005", "--impact.workers", "1")
    settings = override(load_settings(scenario), words)
    whole = Run.create(tmp_path / "whole", "impact", settings)
    commands.execute(whole, commands.Watch(whole), commands.run_impact)
    run = Run.create(tmp_path / "parts", "impact", settings)

    def one_group() -> bool:
        return run.has_table("curves")

    with pytest.raises(commands.Stopped, match="after 32 of 40 samples"):
        commands.execute(run, commands.Watch(run, stopping=one_group), commands.run_impact)
    assert run.table("curves")["sample"].nunique() == 32
    commands.execute(run, commands.Watch(run), commands.run_impact)
    for name in ("curves", "samples"):
        pd.testing.assert_frame_equal(run.table(name), whole.table(name), check_exact=True)


def test_one_worker_measures_what_two_do(scenario: Path, tmp_path: Path):
    tables = []
    for workers in ("1", "2"):
        words = (*FEW, "--impact.workers", workers)
        run = Run.create(tmp_path / workers, "impact", override(load_settings(scenario), words))
        commands.execute(run, commands.Watch(run), commands.run_impact)
        tables.append(run.table("curves"))
    pd.testing.assert_frame_equal(*tables, check_exact=True)


def test_named_samples_are_measured(u2a, tmp_path: Path):
    arguments = ("--impact.ids", "n003,n001", "--impact.omegas", "0.01", "--json")
    code, out, _ = u2a("impact", *arguments, "--out", tmp_path / "i")
    assert code == 0
    assert json.loads(out)["samples"] == 2
    curves = Run.open(tmp_path / "i").table("curves")
    assert list(curves["id"]) == ["n001", "n003"]
    assert json.loads(out)["per_omega"][0]["estimators"]["linear"]["spearman"] is None


def test_without_pairs_the_models_own_replies_are_the_candidates(u2a, tmp_path: Path, scenario):
    prompts = scenario.parent / "data" / "test_prompts.jsonl"
    arguments = ("--data.preferences", "", "--data.objective_prompts", prompts)
    code, out, _ = u2a(
        "impact", *arguments, "--impact.samples", "3", "--impact.omegas", "0.005",
        "--out", tmp_path / "i", "--json",
    )  # fmt: skip
    assert code == 0
    report = json.loads(out)
    assert report["objective_kind"] == "CandidateReward"
    assert report["objective"]["n"] <= 10
    curves = Run.open(tmp_path / "i").table("curves")
    assert curves["trapezoid"].to_numpy() == pytest.approx(curves["measured"], rel=0.1, abs=1e-5)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--impact.lam", "0"), "impact.lam: Input should be greater than 0"),
        (("--impact.omegas", ""), "at least one weight"),
        (("--impact.omegas", "0.1,1.5"), r"must lie in (0, 1]"),
        (("--impact.omegas", "0"), r"must lie in (0, 1]"),
        (("--impact.ids", "n001,nobody"), "'nobody', which is not there"),
    ],
)
def test_bad_settings_are_told_in_a_sentence(u2a, tmp_path: Path, arguments, told: str):
    code, _, error = u2a("impact", *arguments, "--out", tmp_path / "i")
    assert code == 2
    assert told in error
    assert "Traceback" not in error


REWARDS = {
    "not_finite": "[float('nan')] * len(replies)",
    "too_few": "[1.0]",
    "alike": "[1.0] * len(replies)",
}


@pytest.mark.parametrize("command", ["impact", "gains"])
@pytest.mark.parametrize(
    ("reward", "told"),
    [
        ("not_finite", "must be finite"),
        ("too_few", "one number per reply"),
        ("alike", "rewards"),
    ],
)
def test_a_reward_without_use_is_told(u2a, tmp_path: Path, command: str, reward: str, told: str):
    file = tmp_path / "own.py"
    file.write_text(f"def {reward}(prompts, replies):\n    return {REWARDS[reward]}\n", "utf-8")
    arguments = ("--objective.reward", f"{file}:{reward}", "--out", tmp_path / "r")
    code, _, error = u2a(command, *arguments)
    assert code in (2, 3)
    assert told in error
    assert "Traceback" not in error


def test_an_indefinite_hessian_is_told_in_the_report_and_the_terminal(u2a, tmp_path: Path):
    """λ so small that −2λ lies far under the curvature of the losses."""
    arguments = ("--outer.curvature", "cg", "--inner.lam", "0.001", "--objective.splits", "0")
    code, out, _ = u2a("gains", *arguments, "--out", tmp_path / "g")
    assert code == 0
    report = Run.open(tmp_path / "g").report()
    assert report["curvature"]["min_curvature"] < 0
    assert report["curvature"]["damping"] > 0
    assert "indefinite" in report["warnings"][0]
    assert "Hessian of the inner problem is indefinite" in " ".join(out.split())


def test_a_positive_hessian_calls_for_no_warning(u2a, tmp_path: Path):
    arguments = ("--outer.curvature", "cg", "--inner.lam", "50", "--objective.splits", "2")
    code, out, _ = u2a("gains", *arguments, "--out", tmp_path / "g", "--json")
    assert code == 0
    report = json.loads(out)
    assert report["warnings"] == []
    assert report["curvature"]["converged"] == 1
    assert report["curvature"]["residual"] < 0.01


def test_gains_come_with_standard_errors_over_parts_of_the_prompts(u2a, tmp_path: Path):
    code, out, _ = u2a("gains", "--objective.splits", "4", "--out", tmp_path / "g", "--json")
    assert code == 0
    table, report = Run.open(tmp_path / "g").table("gains"), json.loads(out)
    assert (table["gain_se"] > 0).all()
    assert ((table["gain_low"] < table["gain"]) & (table["gain"] < table["gain_high"])).all()
    held = (table["gain_low"] < 0) & (table["gain_high"] > 0)
    assert report["uncertain"] == held.sum()
    assert report["parts"] == 4


def test_a_greedy_start_grows_its_support_by_so_many_a_round(u2a, tmp_path: Path):
    arguments = ("--outer.start", "greedy", "--outer.per_round", "5", "--json")
    code, _, _ = u2a("reweight", *arguments, "--out", tmp_path / "w")
    assert code == 0
    path = Run.open(tmp_path / "w").table("weight_path")
    sizes = path[path["weight"] > 0].groupby("round").size()
    assert sizes.iloc[0] == 5
    assert (sizes.diff().dropna() <= 5).all()
    assert sizes.iloc[-1] > 5


@pytest.mark.parametrize("space", ["weights", "adapter"])
def test_lora_is_reweighted_with_slopes_in_either_space(u2a, tmp_path: Path, space: str):
    arguments = ("--model.parameters", "lora", "--model.lora_rank", "4", "--inner.steps", "2")
    code, out, _ = u2a(
        "reweight", *arguments, "--model.lora_slopes", space, "--out", tmp_path / "w", "--json"
    )
    assert code == 0
    report = json.loads(out)
    seen = {"weights": "weights of the adapted layers", "adapter": "the trained parameters"}
    assert report["data"]["slopes_see"] == seen[space]
    assert report["identity_error"] < 1e-3
    files = {file.name for file in (tmp_path / "w" / "model").iterdir()}
    assert {"adapter_model.safetensors", "adapter_config.json"} <= files


def test_curves_are_in_float32_whatever_the_models_number_format(u2a, tmp_path: Path):
    arguments = ("--impact.samples", "3", "--impact.omegas", "0.005", "--model.dtype")
    tables = []
    for dtype in ("float32", "bfloat16"):
        code, out, _ = u2a("impact", *arguments, dtype, "--out", tmp_path / dtype, "--json")
        assert code == 0
        assert json.loads(out)["data"]["dtype"] == "float32"
        tables.append(Run.open(tmp_path / dtype).table("curves"))
    pd.testing.assert_frame_equal(*tables)


def test_impacts_that_drown_in_rounding_are_told(u2a, tmp_path: Path):
    arguments = ("--impact.samples", "3", "--impact.omegas", "1e-7", "--out", tmp_path / "i")
    code, out, _ = u2a("impact", *arguments, "--json")
    assert code == 0
    assert "their measurements are noise" in " ".join(json.loads(out)["warnings"])


def test_a_retain_term_is_said_to_be_left_out(u2a, tmp_path: Path):
    arguments = ("--impact.samples", "3", "--impact.omegas", "0.005", "--inner.method", "graddiff")
    code, out, _ = u2a("impact", *arguments, "--out", tmp_path / "i")
    assert code == 0
    assert "the retain term (λ_r = 1) is left out" in " ".join(out.split())


def test_a_damping_that_is_too_small_for_a_step_ends_the_command(u2a, tmp_path: Path):
    arguments = ("--outer.curvature", "cg", "--outer.damping", "1e-9", "--inner.lam", "1e-6")
    code, _, error = u2a("gains", *arguments, "--objective.splits", "0", "--out", tmp_path / "g")
    assert code == 3
    assert "Raise outer.damping" in error


def test_there_are_no_more_parts_than_prompts(u2a, tmp_path: Path):
    arguments = ("--objective.max_prompts", "5", "--objective.splits", "40", "--json")
    code, out, _ = u2a("gains", *arguments, "--out", tmp_path / "g")
    assert code == 0
    assert json.loads(out)["parts"] == 5


@pytest.mark.parametrize("omegas", ["null", "[[0.1]]", "{a: 1}"])
def test_weights_of_another_kind_in_the_file_are_told(
    u2a, scenario: Path, tmp_path: Path, omegas: str
):
    text = scenario.read_text(encoding="utf-8") + f"\nimpact:\n  omegas: {omegas}\n"
    file = scenario.parent / f"omegas-{len(omegas)}.yaml"
    file.write_text(text, encoding="utf-8")
    code, _, error = u2a("impact", "--out", tmp_path / "i", config=file)
    assert code == 2
    assert "impact.omegas" in error
