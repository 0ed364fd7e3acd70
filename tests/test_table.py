"""The results table: rows from runs, the best in bold, exports; splits of a reproduction."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from u2a_core import figures, table
from u2a_core.cli import main
from u2a_core.config import Settings, parse_settings
from u2a_core.errors import ConfigError, DataError, RunError
from u2a_core.report.document import document
from u2a_core.report.html import results
from u2a_core.reproduce import SPLITS, reproduction_settings, split_pairs
from u2a_core.reproduce.paper import quoted
from u2a_core.runs import Run
from u2a_core.types import PreferencePair, user_prompt


def estimate(mean: float) -> dict[str, float | int]:
    return {"mean": mean, "low": mean - 0.1, "high": mean + 0.1, "n": 4}


def made(folder: Path, name: str, command: str, raw: dict, *outcome: float) -> Run:
    """A finished descent whose four test prompts all have the given reward after it."""
    reward, j = (*outcome, 0.0)[:2]
    run = Run.create(folder / name, command, parse_settings(raw, source="test"))
    replies = pd.DataFrame(
        {"prompt": list("abcd"), "reward_after": [reward + d for d in (-1, 0, 0, 1)]}
    )
    run.write_table("generations", replies)
    run.write_report(
        {
            "command": command,
            "objective": {"before": 0.0, "after": j},
            "reward": {"before": estimate(-0.4), "after": estimate(reward)},
            "ledger": {"forward_passes": 3, "backward_passes": 1, "tokens": 20_000},
            "seconds": 12.0,
        }
    )
    return run


@pytest.fixture
def runs(tmp_path: Path) -> list[Run]:
    return [
        made(tmp_path, "d", "baseline", {"baseline": {"method": "dpo"}}, 0.2, 0.9),
        made(tmp_path, "u", "unlearn", {"inner": {"method": "npo"}}, -0.3),
        made(tmp_path, "w", "reweight", {"inner": {"method": "npo"}}, 0.5, 0.3),
    ]


def test_rows_stand_in_the_papers_order_with_the_original_first(runs: list[Run]):
    found = table.rows(runs)
    assert [row.method for row in found] == ["Original", "NPO", "NPO + U2A", "DPO"]
    assert found[0].metrics["reward"] == estimate(-0.4)
    assert (found[2].ledger["tokens"], found[2].ledger["seconds"], found[2].over) == (
        20_000, 12, "prompts",
    )  # fmt: skip


def test_an_evaluation_joins_the_row_of_its_target(runs: list[Run], tmp_path: Path):
    settings = parse_settings({"evaluation": {"target": str(runs[2].path)}}, source="test")
    other = Run.create(tmp_path / "e", "evaluate", settings)
    none = {"mean": None, "low": None, "high": None, "n": 0}
    figures_of = {"reward": estimate(0.5), "asr_a": estimate(0.2), "coherence": none}
    told = {"metrics": figures_of, "missing": {}, "target": str(runs[2].path)}
    other.write_report({"command": "evaluate", "seconds": 1.0, **told})
    row = next(r for r in table.rows([*runs, other]) if r.method == "NPO + U2A")
    assert row.metrics == {"reward": estimate(0.5), "asr_a": estimate(0.2)}
    assert row.ledger["seconds"] == 12  # what the method cost, not its evaluation


def test_seeds_of_a_method_make_one_row_with_an_interval_over_them(tmp_path: Path):
    runs = [
        made(tmp_path, f"w{seed}", "reweight", {"seed": seed}, reward)
        for seed, reward in enumerate((0.4, 0.5, 0.6))
    ]
    row = next(r for r in table.rows(runs) if r.method == "NPO + U2A")
    found = row.metrics["reward"]
    assert (found["mean"], found["n"], row.over) == (pytest.approx(0.5), 3, "seeds")
    assert found["high"] - found["mean"] == pytest.approx(4.302652729911275 * 0.1 / 3**0.5)


def test_runs_of_other_settings_are_rows_of_their_own(tmp_path: Path):
    own: dict[str, Any] = {"inner": {"steps": 3}, "model": {"path": str(tmp_path / "0" / "model")}}
    other = {"inner": {"steps": 30}, "model": {"path": str(tmp_path / "1" / "model")}}
    runs = [
        made(tmp_path, "short", "reweight", own, 0.4),
        made(tmp_path, "long-0", "reweight", other, 0.5),
        made(tmp_path, "long-1", "reweight", other | {"seed": 1}, 0.7),
        made(tmp_path, "uniform", "unlearn", own, 0.1),
    ]
    found = {row.method: row for row in table.rows(runs)}
    assert list(found) == ["Original", "NPO", "NPO + U2A (short)", "NPO + U2A (long-0)"]
    assert found["NPO + U2A (short)"].metrics["reward"] == estimate(0.4)
    assert found["NPO + U2A (long-0)"].metrics["reward"]["mean"] == pytest.approx(0.6)
    assert found["NPO + U2A (long-0)"].over == "seeds"
    pairs = [(d["ours"], d["theirs"]) for d in table.differences(runs)]
    assert pairs == [("NPO + U2A (short)", "NPO"), ("NPO + U2A (long-0)", "NPO")]


def test_originals_of_other_prompts_are_rows_of_their_own(tmp_path: Path):
    asked = [{"data": {"prompts": f"{name}.jsonl"}} for name in "ab"]
    runs = [
        made(tmp_path, "a", "reweight", asked[0], 0.4),
        made(tmp_path, "b", "unlearn", asked[1], 0.3),
    ]
    found = [row.method for row in table.rows(runs)]
    assert found == ["Original (a)", "Original (b)", "NPO", "NPO + U2A"]
    assert table.differences(runs) == []  # other prompts: no pair of them is comparable
    drawn = figures.cost_against_reward(table.as_json(table.rows(runs))["rows"], "light")
    told = [trace.name for trace in drawn.data if trace.mode == "lines"]
    assert [name.rpartition(" ")[0] for name in told] == [
        "original model (a)",
        "original model (b)",
    ]


def test_one_prompt_has_no_interval_and_is_shown_by_its_mean(tmp_path: Path):
    run = made(tmp_path, "w", "reweight", {}, 0.5)
    alone = {"mean": 0.5, "low": -math.inf, "high": math.inf, "n": 4}
    run.write_report(run.report() | {"reward": {"before": alone, "after": alone}})
    reward = run.report()["reward"]
    assert reward["after"] == {"mean": 0.5, "low": None, "high": None, "n": 4}
    assert table.cell(reward["after"]) == "+0.500"
    assert table.bounds(reward["after"]) == "[one prompt: no interval]"
    drawn = figures.rewards(table.rewards_table({"w": run.report()}), "light")
    assert drawn.layout.title.text.endswith("+0.500")
    assert all(mark.error_x.array is None for mark in drawn.data)
    one = {"ours": "a", "theirs": "b", "mean": 0.1, "low": None, "high": None, "n": 1}
    assert "not clearly ahead of b in reward: difference +0.100 [one" in table.losses([one])[0]


DAMAGE: dict[str, Callable[[dict[str, Any]], object]] = {
    "no objective": lambda report: report.pop("objective"),
    "no seconds": lambda report: report.pop("seconds"),
    "a reward of another kind": lambda report: report.update(reward=5),
    "a mean that is a text": lambda report: report["reward"]["after"].update(mean="x"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_run_is_a_sentence_and_hides_no_other(
    runs: list[Run], tmp_path: Path, damage: str, capsys
):
    report = runs[1].report()
    DAMAGE[damage](report)
    (runs[1].path / "report.json").write_text(json.dumps(report))
    for command in ("table", "report"):
        assert main([command, str(runs[1].path)]) == 2
        err = capsys.readouterr().err
        assert str(runs[1].path) in err and "must be as its run wrote it" in err
    assert main(["table", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "NPO + U2A" in out and "report.json must be as its run wrote it" in out
    assert main(["table", str(tmp_path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [row["method"] for row in told["rows"]] == ["Original", "NPO + U2A", "DPO"]
    assert len(told["left_out"]) == 1


def test_a_report_of_a_folder_leaves_out_a_run_whose_table_is_damaged(tmp_path: Path, capsys):
    run = Run.create(tmp_path / "g", "gains", Settings())
    run.write_table("gains", pd.DataFrame({"id": ["a"], "gain": [0.5]}))  # no ranks
    ridge = {"kind": "ridge", "neglected": 0.1, "min_curvature": 0.2}
    numbers = {"objective": estimate(0.1), "helps": 1, "parts": 1, "gains": {}}
    run.write_report({"command": "gains", **numbers, "curvature": ridge})
    assert main(["report", str(run.path)]) == 2
    assert "g must be as its run wrote it; it is damaged (KeyError('rank'))" in (
        capsys.readouterr().err
    )
    assert main(["report", str(tmp_path)]) == 0
    assert "Left out: " in capsys.readouterr().err


def test_a_run_of_settings_that_are_no_more_is_left_out_of_its_folder(
    runs: list[Run], tmp_path: Path, capsys
):
    config = runs[0].config()
    config["settings"]["baseline"]["method"] = "rlhf"
    (runs[0].path / "config.json").write_text(json.dumps(config))
    assert main(["table", str(tmp_path)]) == 0
    assert "baseline.method" in capsys.readouterr().out


def test_runs_without_a_reward_are_counted_and_every_interval_has_its_n(
    runs: list[Run], tmp_path: Path, capsys
):
    bare = made(tmp_path, "bare", "unlearn", {"inner": {"method": "ga"}}, 0.1)
    bare.write_report(bare.report() | {"reward": {}})
    assert main(["table", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "1 run without a reward on test prompts left out." in out
    assert out.count("n = 4") == 4


def test_the_best_of_a_metric_goes_by_its_direction():
    rows = [
        table.Row("a", {"reward": estimate(0.1), "asr_a": estimate(0.1)}),
        table.Row("b", {"reward": estimate(0.5), "asr_a": estimate(0.6)}),
    ]
    assert table.best(rows) == {("b", "reward"), ("a", "asr_a")}
    assert "**+0.500 [+0.400, +0.600]**" in table.markdown(rows)
    assert r"\textbf{$0.100 \pm 0.100$}" in table.latex(rows)
    assert "| 0.600 [0.500, 0.700] |" in table.markdown(rows)  # no sign: it is a share
    assert table.best([rows[0], table.Row("c", rows[0].metrics)]) == set()  # all alike
    assert table.frame(rows)["reward_low"].tolist() == pytest.approx([0.0, 0.4])


def test_names_are_escaped_in_latex_and_html():
    rows = [table.Row("NPO, weights of a_b & <i>", {"reward": estimate(0.1)})]
    assert r"a\_b \& <i>" in table.latex(rows)
    page = document("T <b>", results(table.as_json(rows)))
    assert "a_b &amp; &lt;i&gt;" in page and "<title>T &lt;b&gt;</title>" in page


def test_differences_are_paired_and_the_best_u2a_is_chosen_by_j(runs: list[Run], tmp_path: Path):
    better = made(tmp_path, "g", "reweight", {"inner": {"method": "ga"}}, 0.1, 0.8)
    found = {(d["ours"], d["theirs"]): d for d in table.differences([*runs, better])}
    assert found["NPO + U2A", "NPO"]["mean"] == pytest.approx(0.8)
    assert found["NPO + U2A", "NPO"]["high"] == pytest.approx(0.8)  # equal for every prompt
    assert ("GA + U2A", "DPO") in found and ("NPO + U2A", "DPO") not in found
    (sentence,) = table.losses(found.values())
    assert sentence.startswith("GA + U2A is behind DPO in reward: difference -0.100")


def test_nothing_to_compare_is_a_sentence(tmp_path: Path):
    with pytest.raises(RunError, match="needs finished runs"):
        table.rows([])
    with pytest.raises(RunError, match="nowhere is none"):
        table.comparable(tmp_path / "nowhere")


def test_the_command_exports_every_form(runs: list[Run], tmp_path: Path, capsys):
    files = {kind: tmp_path / f"t.{kind}" for kind in ("csv", "latex", "markdown", "html")}
    words = [word for kind, file in files.items() for word in (f"--{kind}", str(file))]
    assert main(["table", *(str(run.path) for run in runs), *words, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [row["method"] for row in report["rows"]] == ["Original", "NPO", "NPO + U2A", "DPO"]
    assert set(report["rows"][1]["metrics"]["reward"]) == {"mean", "low", "high", "n"}
    assert len(pd.read_csv(files["csv"])) == 4
    assert "src=" not in files["html"].read_text(encoding="utf-8").split("<body>")[1]
    assert main(["table", str(tmp_path)]) == 0  # a folder of runs
    assert "NPO + U2A" in capsys.readouterr().out


def test_the_cost_picture_has_a_mark_for_every_method_with_a_cost(runs: list[Run]):
    rows = table.as_json(table.rows(runs))["rows"]
    picture = figures.cost_against_reward(rows, "light")
    marks = [trace.hovertemplate for trace in picture.data if trace.hovertemplate]
    assert {text.split("<br>")[0] for text in marks} == {"NPO", "NPO + U2A", "DPO"}
    assert picture.layout.title.text == "Highest reward: NPO + U2A +0.500"


def pairs(count: int = 60, replies: int = 5) -> list[PreferencePair]:
    return [
        PreferencePair(user_prompt(f"q{i}"), f"good {i} {j}", f"bad {i} {j}")
        for i in range(count)
        for j in range(replies)
    ]


def test_shares_of_a_split_are_the_papers():
    parts = split_pairs(pairs(), SPLITS["ultrafeedback"], seed=0)
    learned = len(parts["mixture"])
    assert (len(parts["test_prompts"]), len(parts["preferences"])) == (12, 12 * 5)
    assert learned == 36 * 5
    bad = sum(row["response"].startswith("bad") for row in parts["mixture"])
    assert bad == round(0.7 * learned)
    assert len(parts["negatives"]) == round(0.8 * bad)
    assert all(row["response"].startswith("bad") for row in parts["negatives"])


def test_no_prompt_is_in_two_parts_and_negatives_were_learned():
    parts = split_pairs(pairs(), SPLITS["safe-rlhf"], seed=1, most=40, mistaken=0.25)
    asked = {
        name: {row["prompt"] for row in parts[name]}
        for name in ("mixture", "preferences", "test_prompts")
    }
    assert not asked["mixture"] & (asked["preferences"] | asked["test_prompts"])
    assert not asked["preferences"] & asked["test_prompts"]
    learned = {(row["prompt"], row["response"]) for row in parts["mixture"]}
    assert all((row["prompt"], row["response"]) in learned for row in parts["negatives"])
    flags = {row["id"]: row["mislabelled"] for row in parts["truth"]}
    assert (len(flags), sum(flags.values())) == (40, 10)
    assert all(row["response"].startswith("good") == flags[row["id"]] for row in parts["negatives"])


def test_too_few_pairs_are_refused():
    with pytest.raises(DataError, match="at least 8"):
        split_pairs(pairs(10, 1), SPLITS["halueval"], seed=0)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["alpaca"], "one of safe-rlhf, ultrafeedback, halueval; got 'alpaca'"),
        ([], "got ''"),
        (["halueval", "--scale", "full"], "must be given a settings file"),
        (["halueval", "--scale", "huge"], r"reproduction\.scale"),
    ],
)
def test_a_wrong_reproduction_is_a_sentence(words: list[str], told: str):
    with pytest.raises(ConfigError, match=told):
        reproduction_settings(words)


def test_the_papers_figures_stand_beside_the_same_model_only():
    raw = {
        "reproduction": {"task": "safe-rlhf", "scale": "full"},
        "baseline": {"base": "x/Llama-3.1-8B-Instruct"},
    }
    same = parse_settings(raw, source="test")
    found = quoted(same)
    assert found is not None and found["rows"]["GA + U2A"] == (-7.609, 0.162, 0.121)
    other = Settings.model_validate(raw | {"baseline": {"base": "x/Qwen"}})
    assert quoted(other) is None
    assert quoted(Settings()) is None


def test_replies_that_were_cut_elsewhere_are_said_to_be(tmp_path: Path):
    a, b, c = (
        made(tmp_path, name, "unlearn", {"objective": {"max_new_tokens": longest}}, 0.1)
        for name, longest in (("a", 12), ("b", 40), ("c", 40))
    )
    told, warning = table.drawn_alike(a, b)
    assert told.endswith("the same for both.")
    assert warning.startswith("A's replies end at 12 tokens and B's at 40")
    assert table.drawn_alike(c, b)[1] == table.drawn_alike(None, b)[1] == ""
