"""The ablation: its plan, its bands by hand, and the command on a small copy of the scenario."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from u2a_core import ablation, commands
from u2a_core.ablation import Arm
from u2a_core.commands.ablations import _varied
from u2a_core.config import Settings, load_settings, override, parse_settings
from u2a_core.errors import ConfigError
from u2a_core.metrics import over_seeds
from u2a_core.runs import Run

SHORT = ("--inner.steps", "2", "--outer.steps-per-round", "1")


def settings(**section: object) -> Settings:
    return parse_settings({"ablation": section}, source="test")


def rows(values: dict[tuple[str, int], list[float]]) -> pd.DataFrame:
    """Rewards by (arm, K), one a seed; J is half the reward."""
    return pd.DataFrame(
        [
            {"arm": arm, "k": k, "seed": seed, "value": math.nan, "run": f"{arm}-{k}-{seed}",
             "reward": reward, "objective": reward / 2, "retain": 0.1, "collapsed": False}
            for (arm, k), rewards in values.items()
            for seed, reward in enumerate(rewards)
        ]
    )  # fmt: skip


def test_the_grid_is_a_tenth_to_four_fifths_of_the_samples():
    assert ablation.grid(settings(), 240) == (24, 48, 96, 144, 192)
    assert ablation.grid(settings(), 3) == (1, 2)


def test_a_k_beyond_the_samples_is_refused():
    with pytest.raises(ConfigError, match=r"at most 40, .* got 50"):
        ablation.grid(settings(ks="10,50"), 40)


@pytest.mark.parametrize("ks", ["0", "-3,4", "a", ""])
def test_a_k_that_is_no_count_is_refused(ks: str):
    with pytest.raises(ConfigError, match=r"ablation\.ks"):
        settings(ks=ks)


def test_every_arm_has_every_seed_and_every_k():
    planned = ablation.plan(settings(ks="4,8", seeds=3), 20)
    names = [arm.name for arm in planned]
    assert len(set(names)) == len(names) == 3 * (1 + 1 + 5 * 2 + 1 + 1)
    assert [arm.arm for arm in planned[:3]] == ["gains"] * 3


def test_weights_of_u2a_are_found_even_where_only_its_support_is_asked_for():
    planned = ablation.plan(settings(ks="4", seeds=1, arms="u2a_support"), 20)
    assert [arm.arm for arm in planned] == ["gains", "u2a", "u2a_support"]


def test_bands_are_t_intervals_over_seeds():
    found = ablation.bands(rows({("top_k", 4): [0.1, 0.2, 0.6]}))
    band = found[found["metric"] == "reward"].iloc[0]
    half = 4.302652729911275 * np.std([0.1, 0.2, 0.6], ddof=1) / math.sqrt(3)  # t, 2 degrees
    assert band["mean"] == pytest.approx(0.3)
    assert (band["high"] - band["mean"], band["n"]) == (pytest.approx(half), 3)


def test_one_seed_has_no_band():
    estimate = over_seeds([0.5])
    assert (estimate.mean, estimate.n) == (0.5, 1)
    assert math.isnan(estimate.low) and math.isnan(estimate.high)


def test_differences_are_paired_over_seeds():
    table = ablation.differences(
        rows({("top_k", 4): [0.5, 0.7, 0.9], ("random_k", 4): [0.4, 0.6, 0.8]})
    )
    found = table[(table["theirs"] == "random_k") & (table["metric"] == "reward")].iloc[0]
    assert found["mean"] == pytest.approx(0.1)
    assert found["high"] - found["low"] == pytest.approx(0, abs=1e-9)  # equal in every seed
    assert (found["n"], found["above"]) == (3, 3)


def test_the_best_k_is_that_of_the_largest_j_not_of_the_largest_reward():
    table = rows({("top_k", 4): [0.2, 0.2], ("top_k", 8): [0.6, 0.6]})
    table.loc[table["k"] == 4, "objective"] = 0.9
    assert ablation.best_k(table) == 4


@pytest.mark.parametrize(
    ("reward", "j", "metric"),
    [(0.5, 0.1, "reward"), (None, 0.1, "objective"), (None, None, "reward")],
)
def test_arms_are_compared_in_j_where_no_reward_was_measured(
    reward: float | None, j: float | None, metric: str
):
    table = pd.DataFrame({"metric": ["reward", "objective"], "mean": [reward, j]})
    assert ablation.measured(table) == metric


def test_a_comparison_that_is_lost_is_said():
    table = ablation.differences(rows({("u2a", 0): [0.1, 0.2, 0.1], ("all", 20): [0.6, 0.6, 0.7]}))
    (told,) = ablation.behind(table)
    assert told.startswith("u2a is behind all (K = 20) in reward by 0.500 [")
    assert (
        ablation.behind(ablation.differences(rows({("u2a", 0): [0.9], ("all", 20): [0.1]}))) == []
    )


@pytest.fixture(scope="module")
def finished(scenario: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A whole ablation of two seeds and two K, with two sensitivities."""
    words = ("--ablation.seeds", "2", "--ablation.ks", "8,20", *SHORT)
    run = Run.create(
        tmp_path_factory.mktemp("ablation") / "a",
        "ablate",
        override(load_settings(scenario), (*words, "--ablation.sensitivity", "omega")),
    )
    commands.execute(run, commands.Watch(run), commands.run_ablate)
    return run


def test_an_ablation_has_a_row_for_every_arm_and_seed(finished: Run):
    table, planned = finished.table("ablation"), finished.table("plan")
    assert set(table["run"]) == set(planned.loc[planned["arm"] != "gains", "name"])
    assert table[["objective", "reward", "retain", "seconds"]].notna().all(axis=None)
    assert finished.report()["arms"] == len(table) == 2 * (5 * 2 + 3 + 4)


def test_arms_unlearn_the_samples_they_are_named_after(finished: Run):
    gains = finished.path / "arms" / "gains-0"
    scored = Run.open(gains).table("gains").set_index("id")
    for name, column, ascending in (
        ("one_shot-8-0", "gain", False),
        ("reward_filter-20-0", "reward", True),
    ):
        weights = Run.open(finished.path / "arms" / name).table("weights").set_index("id")["weight"]
        chosen = weights[weights > 0].index
        assert weights[weights > 0].tolist() == pytest.approx([1 / len(chosen)] * len(chosen))
        limit = scored[column].sort_values(ascending=ascending).iloc[len(chosen) - 1]
        inside = scored.loc[chosen, column]
        assert (inside.max() <= limit) if ascending else (inside.min() >= limit)


def test_top_k_follows_the_gains_summed_so_far(finished: Run):
    path = Run.open(finished.path / "arms" / "top_k-8-1").table("weight_path")
    for number in sorted(path["round"].unique()):
        summed = path[path["round"] <= number].groupby("id")["gain"].sum()
        own = path[path["round"] == number].set_index("id")["weight"]
        assert set(own[own > 0].index) == set(summed.nlargest(8).index)


def test_random_subsets_are_nested_and_the_same_for_every_method(finished: Run):
    arms = finished.path / "arms"
    small, large = (
        set(Run.open(arms / f"random_k-{k}-0").table("weights").query("weight > 0")["id"])
        for k in (8, 20)
    )
    assert small < large
    from u2a_core.weights import random_k

    drawn = random_k(40, 20, seed=0).values > 0
    assert {f"n{i:03d}" for i in torch.nonzero(drawn).flatten().tolist()} == large


def test_the_support_of_u2a_is_unlearned_with_equal_weights(finished: Run):
    arms = finished.path / "arms"
    ours, plain = (
        Run.open(arms / f"{name}-1").table("weights").set_index("id")["weight"]
        for name in ("u2a", "u2a_support")
    )
    assert set(ours[ours > 0].index) == set(plain[plain > 0].index)
    assert plain[plain > 0].nunique() == 1
    squared = Run.open(arms / "omega-2-1").table("weights").set_index("id")["weight"]
    assert squared.to_numpy() == pytest.approx((ours**2 / (ours**2).sum())[squared.index])


def test_levels_of_sparsity_are_relative_to_the_slopes_spread(finished: Run):
    one = Arm("sparsity-0.3-0", "sparsity", 0, 0, 0.3)
    varied = _varied(finished, finished.settings(), one).outer
    slopes = Run.open(finished.path / "arms" / "gains-0").table("gains")["slope"]
    term = varied.sparsity / 2 * (1 / 40) ** -0.5  # of Eq. 8, at uniform weights
    assert term == pytest.approx(0.3 * slopes.std(ddof=0))


def test_an_arm_is_the_same_alone_as_after_others(finished: Run, tmp_path: Path):
    arm = Run.open(finished.path / "arms" / "top_k-8-1")
    alone = Run.create(tmp_path / "alone", "reweight", arm.settings())
    commands.execute(alone, commands.Watch(alone), commands.run_reweight)
    for name in ("history", "weight_path", "generations"):
        pd.testing.assert_frame_equal(arm.table(name), alone.table(name), check_exact=True)


def test_an_ablation_is_shown_in_words(finished: Run, capsys: pytest.CaptureFixture[str]):
    from u2a_core import report

    report.show(finished)
    told = capsys.readouterr().out
    assert "over 2 seeds on 40 negatives" in told
    assert "reward_filter" in told


def test_a_stopped_ablation_goes_on_where_it_was(scenario: Path, tmp_path: Path):
    words = ("--ablation.seeds", "1", "--ablation.ks", "8", "--ablation.arms", "random_k,all")
    run = Run.create(tmp_path / "a", "ablate", override(load_settings(scenario), (*words, *SHORT)))

    def some_done() -> bool:
        return any((run.path / "arms").glob("*/report.json"))

    with pytest.raises(commands.Stopped, match=r"of 3 arms finished"):
        commands.execute(run, commands.Watch(run, stopping=some_done), commands.run_ablate)
    written = {p: p.stat().st_mtime_ns for p in (run.path / "arms").glob("*/report.json")}
    report = commands.execute(run, commands.Watch(run), commands.run_ablate)
    assert {p: p.stat().st_mtime_ns for p in written} == written
    assert report["arms"] == 2
    assert "One seed only: no band" in report["notes"][0]
    assert {row["low"] for row in report["bands"]} == {None}


def test_an_arm_that_collapses_is_recorded(u2a, tmp_path: Path):
    code, out, _ = u2a(
        "ablate", "--ablation.seeds", "1", "--ablation.ks", "8", "--ablation.arms", "random_k",
        "--inner.learning-rate", "1e8", *SHORT, "--out", tmp_path / "a", "--json",
    )  # fmt: skip
    report = json.loads(out)
    assert code == 0
    assert report["collapsed"] == ["random_k-8-0"]
    assert "1 of 1 arms collapsed" in report["notes"][1]


def test_a_k_larger_than_the_set_is_one_sentence(u2a, tmp_path: Path):
    code, _, err = u2a("ablate", "--ablation.ks", "41", "--out", tmp_path / "a")
    assert code == 2
    assert "ablation.ks must be at most 40" in err


def test_arms_that_are_compared_with_none_leave_an_empty_table():
    table = ablation.differences(rows({("u2a", 0): [0.9, 0.8]}))
    assert table.empty and "metric" in table
    assert ablation.behind(table) == []


def test_samples_that_are_left_out_are_in_no_arm(own: Path, u2a, tmp_path: Path):
    negatives = own.parent / "data" / "negatives.jsonl"
    lines = [json.loads(line) for line in negatives.read_text(encoding="utf-8").splitlines()]
    lines[3]["prompt"] = "Tell me about my garden. " * 60  # no room for a reply
    negatives.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    code, out, err = u2a(
        "ablate", "--ablation.seeds", "1", "--ablation.ks", "39", *SHORT, "--json",
        "--ablation.arms", "random_k,all,top_k", "--out", tmp_path / "a", config=own,
    )  # fmt: skip
    assert code == 0, err
    assert json.loads(out)["negatives"] == 39
    table = Run.open(tmp_path / "a").table("ablation").set_index("run")
    assert table["k"].to_dict() == {"random_k-39-0": 39, "all-0": 39, "top_k-39-0": 39}
    assert table.loc["random_k-39-0", "objective"] == table.loc["all-0", "objective"]


def test_arms_that_begin_from_weights_that_collapsed_are_missing(u2a, tmp_path: Path):
    code, out, err = u2a(
        "ablate", "--ablation.seeds", "1", "--ablation.arms", "u2a,u2a_support,all", *SHORT,
        "--inner.learning-rate", "1e8", "--out", tmp_path / "a", "--json",
    )  # fmt: skip
    assert code == 0, err
    report = json.loads(out)
    assert "u2a-0" in report["collapsed"]
    assert report["original"]["objective"]["n"] == 1


def test_gains_that_fail_end_an_ablation_with_their_reason(u2a, tmp_path: Path):
    code, _, err = u2a(
        "ablate", "--ablation.seeds", "1", "--ablation.arms", "all", *SHORT,
        "--inner.learning-rate", "1e25", "--out", tmp_path / "a",
    )  # fmt: skip
    assert (code, "gains-0: A Hessian-vector product" in err) == (3, True)


def test_the_arm_of_u2a_weighs_samples_whatever_rule_the_settings_have(finished: Run):
    chosen = override(finished.settings(), ("--outer.rule", "top_k", "--outer.k", "8"))
    assert _varied(finished, chosen, Arm("u2a-0", "u2a", 0, 0)).outer.rule == "weights"
