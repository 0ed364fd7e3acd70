"""`u2a reproduce` end to end, at the tiny scale with the steps cut down."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from u2a_core import commands
from u2a_core.cli import main
from u2a_core.config import override
from u2a_core.models import load_policy, load_saved, save_merged
from u2a_core.reproduce import reproduction_settings, run_reproduce, tiny
from u2a_core.runs import Run, demo_assets

METHODS = (
    *("Original", "Retrain", "GA", "GA + U2A", "GradDiff", "GradDiff + U2A"),
    *("NPO", "NPO + U2A", "PPO", "DPO"),
)
SHORT = (
    "--inner.steps", "2", "--outer.steps-per-round", "1", "--objective.samples", "2",
    "--objective.max-prompts", "8", "--objective.max-new-tokens", "24", "--evaluation.samples", "1",
    "--ablation.seeds", "1", "--ablation.ks", "8", "--ablation.arms", "random_k",
)  # fmt: skip


@pytest.fixture(scope="module")
def few_steps():
    """The fine-tuning cut down, from a base model that speaks already; for all tests here."""
    short = tiny.fine_tuning() | {"steps": 4, "measure_every": 4, "learning_rate": 1e-4}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny, "_FINE_TUNING", short)
        patch.setattr(
            tiny, "write_base", lambda to, _: shutil.copytree(demo_assets() / "model", to)
        )
        patch.setattr(tiny, "NEGATIVES", 24)
        yield


@pytest.fixture(scope="module")
def finished(few_steps, tmp_path_factory: pytest.TempPathFactory) -> Run:
    settings = override(reproduction_settings(["safe-rlhf"]), SHORT)
    run = Run.create(tmp_path_factory.mktemp("reproduce") / "r", "reproduce", settings)

    def some_done() -> bool:
        return any((run.path / "arms").glob("evaluate-*/report.json"))

    with pytest.raises(commands.Stopped):
        commands.execute(run, commands.Watch(run, stopping=some_done), run_reproduce)
    commands.execute(run, commands.Watch(run), run_reproduce)
    return run


@pytest.mark.slow
def test_every_method_has_a_row_with_intervals_and_a_ledger(finished: Run):
    rows = {row["method"]: row for row in finished.report()["rows"]}
    assert tuple(rows) == METHODS
    for row in rows.values():
        assert {"reward", "asr_a", "asr_s", "retain_nll"} <= set(row["metrics"])
        assert set(row["metrics"]["reward"]) == {"mean", "low", "high", "n"}
    assert all(row["ledger"]["tokens"] > 0 for name, row in rows.items() if name != "Original")


@pytest.mark.slow
def test_dpo_and_ppo_end_at_u2as_tokens(finished: Run):
    arms = {name: Run.open(finished.path / "arms" / name) for name in ("dpo", "ppo")}
    u2a = [Run.open(finished.path / "arms" / f"{m}-u2a").report() for m in ("ga", "npo")]
    budget = arms["dpo"].settings().baseline.max_tokens
    assert budget >= max(report["ledger"]["tokens"] for report in u2a)
    for arm in arms.values():
        assert arm.report()["ended"] == "token budget used"


@pytest.mark.slow
def test_what_was_not_measured_says_why(finished: Run):
    missing = finished.report()["missing"]
    assert "evaluation.encoder" in missing["coherence"]


@pytest.mark.slow
def test_the_page_opens_from_disk_without_the_network(finished: Run):
    page = (finished.path / "report.html").read_text(encoding="utf-8")
    assert all(f"<td>{method}</td>" in page for method in METHODS)
    body = page.split("<body>")[1]
    assert body.count("plotly-graph-div") >= 3
    assert "http" not in body.replace("http://www.w3.org", "")


@pytest.mark.slow
def test_a_report_has_a_reproductions_table_and_ablation(finished: Run, tmp_path: Path):
    assert main(["report", str(finished.path), "--html", str(tmp_path / "r.html")]) == 0
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert all(f"<td>{method}</td>" in page for method in METHODS)
    assert "safe-rlhf, tiny scale, seed 0" in page and "The reward against K" in page
    assert page.count(finished.report()["notes"][0]) == 1


@pytest.mark.slow
def test_a_reproduction_is_shown_in_words(finished: Run, capsys: pytest.CaptureFixture[str]):
    from u2a_core import report

    report.show(finished)
    told = capsys.readouterr().out
    assert "safe-rlhf, tiny scale, seed 0" in told
    assert "GradDiff + U2A" in told


def test_an_adapter_is_merged_into_a_whole_model(scenario: Path, tmp_path: Path, u2a):
    words = (
        "--baseline.method", "sft", "--baseline.steps", "2", "--baseline.learning-rate", "1e-2",
        "--baseline.base", scenario.parent / "model",
        "--model.parameters", "lora", "--model.lora-head", "false", "--model.lora-rank", "2",
    )  # fmt: skip
    code, _, _ = u2a("baseline", *words, "--out", tmp_path / "d", "--json")
    assert code == 0
    run = Run.open(tmp_path / "d")
    settings = run.settings().model
    save_merged(settings, run.model_folder, tmp_path / "whole")
    full = settings.model_copy(update={"parameters": "full"})
    whole = load_policy(full.model_copy(update={"path": str(tmp_path / "whole")}))
    parts = load_saved(settings, run.model_folder)
    original = load_policy(full)
    ids = torch.tensor([[1, 5, 9, 12]])
    with torch.no_grad():
        ours, theirs, before = (p.model(input_ids=ids).logits for p in (whole, parts, original))
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    assert (ours - before).abs().max() > 1e-3


def test_family_pairs_hold_good_and_faulty_replies():
    from u2a_core.demo import world

    rows = tiny.family_pairs("wrong_facts", 0)
    asked = [row["prompt"] for row in rows]
    assert set(world.rubric(asked, [row["chosen"] for row in rows])) == {1.0}
    assert set(world.rubric(asked, [row["rejected"] for row in rows])) == {-1.0}
    assert json.dumps(rows) == json.dumps(tiny.family_pairs("wrong_facts", 0))
