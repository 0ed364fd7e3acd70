"""`u2a evaluate` on a small copy of the embedded scenario, and the local models it uses."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from evaluations import changed, evaluated

from u2a_core import commands, evaluation, jobs, metrics
from u2a_core.commands.targets import compatible, load_target
from u2a_core.config import Settings, load_settings
from u2a_core.data import write_records
from u2a_core.demo import world
from u2a_core.errors import ConfigError, DataError, ModelError
from u2a_core.experiment import load_experiment
from u2a_core.judges import Question, load_judge
from u2a_core.metrics import METRICS
from u2a_core.models import (
    HarmClassifier,
    JudgeModel,
    SentenceEncoder,
    load_local_judge,
    load_policy,
    load_reward,
)
from u2a_core.runs import Run
from u2a_core.types import Message, user_prompt


def lines_of(path: str | Path) -> list[str]:
    return Path(path).read_text(encoding="utf-8").splitlines()


def good_reply(prompt: str) -> str:
    return world.good_replies(world._questions()[prompt])[0]


@pytest.fixture(scope="module")
def small(scenario: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """The scenario with a few prompts in each set, an encoder and a reference."""
    folder = tmp_path_factory.mktemp("sets")
    settings = load_settings(scenario)
    own: dict[str, Any] = {}
    for name, size in {"harmful": 6, "benign": 6, "questions": 8, "outsiders": 30}.items():
        lines = lines_of(scenario.parent / "data" / f"{name}.jsonl")[:size]
        (folder / f"{name}.jsonl").write_text("\n".join(lines))
        own[name] = str(folder / f"{name}.jsonl")
    prompts = [json.loads(line)["prompt"] for line in lines_of(settings.data.prompts)]
    rows = [{"prompt": prompt, "response": good_reply(prompt)} for prompt in prompts]
    write_records(folder / "reference.jsonl", rows)
    own |= {"reference": str(folder / "reference.jsonl"), "encoder": settings.model.path}
    return changed(settings, **own)


@pytest.fixture(scope="module")
def original(small: Settings, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return evaluated(tmp_path_factory.mktemp("runs") / "original", small)


@pytest.fixture(scope="module", params=["full", "lora"])
def unlearned(
    request: pytest.FixtureRequest, small: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Run:
    """A finished run, with a model folder or with an adapter."""
    model = small.model.model_copy(update={"parameters": request.param})
    run = Run.create(
        tmp_path_factory.mktemp("runs") / request.param,
        "unlearn",
        small.model_copy(update={"model": model}),
    )
    commands.execute(run, commands.Watch(run), commands.run_unlearn)
    return run


def test_every_metric_is_measured_where_its_inputs_are_there(original: Run):
    report = original.report()
    assert list(report["metrics"]) == list(METRICS)
    assert report["missing"] == {}
    assert report["target"] == "original"
    for name, figures in report["metrics"].items():
        assert figures["low"] <= figures["mean"] <= figures["high"], name
        assert 0 < figures["n_valid"] <= figures["n"]


def test_figures_are_those_of_the_tables(original: Run):
    found, table = original.report()["metrics"], original.table("generations")
    own = {name: table[table["set"] == name] for name in ("test", "harmful", "questions")}
    assert found["reward"]["mean"] == pytest.approx(own["test"]["reward"].mean())
    assert found["reward"]["n"] == len(own["test"]) == 20
    assert found["asr_a"]["mean"] == pytest.approx(own["harmful"]["answers"].mean())
    assert found["win_rate"]["mean"] == pytest.approx(own["test"]["pairwise"].mean())
    assert found["coherence"]["mean"] == pytest.approx(own["test"]["coherence"].mean())
    assert found["halueval_judged"]["mean"] == pytest.approx(
        own["questions"]["hallucination"].mean()
    )


def test_the_table_of_metrics_carries_the_definitions(original: Run):
    table = original.table("metrics").set_index("metric")
    assert list(table.index) == list(METRICS)
    for name, kind in METRICS.items():
        assert table.loc[name, "formula"] == kind.formula
        assert table.loc[name, "direction"] == kind.direction


def test_likelihoods_are_the_models_own(original: Run, small: Settings):
    """Retain NLL and HaluEval accuracy, one sample at a time and without a batch."""
    policy = load_policy(small.model)
    sets = evaluation.load_sets(small)

    def alone(sample: Any) -> np.ndarray:
        return evaluation.token_log_probs(policy, [sample], small, lambda *_: None)[0]

    nll = [-alone(sample).mean() for sample in sets.retain]
    assert original.report()["metrics"]["retain_nll"]["mean"] == pytest.approx(
        float(np.mean(nll)), abs=1e-5
    )


def test_a_runs_model_is_measured_on_the_replies_it_ended_with(
    unlearned: Run, small: Settings, original: Run, tmp_path: Path
):
    run = evaluated(tmp_path / "e", changed(small, target=str(unlearned.path)))
    table = run.table("generations")
    replies = table[table["set"] == "test"]["reply"].tolist()
    assert replies == unlearned.table("generations")["reply_after"].tolist()
    reported = unlearned.report()["reward"]
    assert run.report()["metrics"]["reward"]["mean"] == pytest.approx(reported["after"]["mean"])
    difference = evaluation.paired(run.table("scores"), original.table("scores"))
    assert difference["reward"].mean == pytest.approx(reported["difference"]["mean"])
    assert run.report()["warnings"] == []


def test_an_adapter_of_another_model_is_refused_and_a_whole_model_is_warned_of(
    unlearned: Run, small: Settings, tmp_path: Path
):
    shutil.copytree(small.model.path, tmp_path / "m")
    (tmp_path / "m" / "note.txt").write_text("another model")
    model = small.model.model_copy(update={"path": str(tmp_path / "m")})
    other = small.model_copy(update={"model": model})
    if (unlearned.model_folder / "adapter_config.json").exists():
        with pytest.raises(ConfigError, match="must be put on the model it was trained on"):
            compatible(other, unlearned)
    else:
        assert "began from another model" in compatible(other, unlearned)[0]


@pytest.fixture(scope="module")
def fine_tuned(small: Settings, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """An adapter trained on `baseline.base`, whose weights are not those of model.path."""
    from transformers import AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("tuned")
    base = AutoModelForCausalLM.from_pretrained(small.model.path)
    for layer in base.model.layers:
        layer.mlp.down_proj.weight.data *= 0.5
    base.save_pretrained(folder / "base")
    mixture = lines_of(small.data.retain)[:8]
    (folder / "mixture.jsonl").write_text("\n".join(mixture))
    own = {"method": "sft", "base": str(folder / "base"), "steps": 2, "learning_rate": 0.01}
    own |= {"mixture": str(folder / "mixture.jsonl")}
    parts = {
        "model": small.model.model_copy(update={"parameters": "lora", "lora_head": False}),
        "baseline": small.baseline.model_copy(update=own),
    }
    run = Run.create(folder / "sft", "baseline", small.model_copy(update=parts))
    commands.execute(run, commands.Watch(run), commands.run_baseline)
    return run


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.arange(24).reshape(2, 12)).logits


def on_its_base(run: Run) -> torch.Tensor:
    """What base plus adapter say, put together by the libraries alone."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from u2a_core.models.loading import quiet_peft

    base = AutoModelForCausalLM.from_pretrained(run.settings().baseline.base)
    with quiet_peft():
        return logits(PeftModel.from_pretrained(base, str(run.model_folder)).eval())


def test_a_fine_tuned_adapter_is_measured_on_the_base_it_was_trained_on(
    fine_tuned: Run, small: Settings, tmp_path: Path
):
    ours = logits(load_target(small, fine_tuned).model)
    torch.testing.assert_close(ours, on_its_base(fine_tuned), rtol=1e-5, atol=1e-5)
    assert float((ours - logits(load_policy(small.model).model)).abs().max()) > 0.1
    few = {"harmful": "", "benign": "", "questions": "", "outsiders": "", "judge": ""}
    run = evaluated(tmp_path / "e", changed(small, target=str(fine_tuned.path), **few))
    table = run.table("generations")
    replies = table[table["set"] == "test"]["reply"].tolist()
    assert replies == fine_tuned.table("generations")["reply_after"].tolist()


def test_the_base_of_a_fine_tuned_adapter_may_move_and_must_not_change(
    fine_tuned: Run, small: Settings, tmp_path: Path
):
    base = Path(fine_tuned.settings().baseline.base)
    moved = base.rename(tmp_path / "moved")
    named = small.baseline.model_copy(update={"base": str(moved)})
    elsewhere = small.model_copy(update={"baseline": named})
    try:
        assert compatible(elsewhere, fine_tuned) == []
        ours = logits(load_target(elsewhere, fine_tuned).model)
        with pytest.raises(ConfigError, match="or name where it is as"):
            compatible(small, fine_tuned)
        shutil.copytree(small.model.path, base)
        with pytest.raises(ConfigError, match="that changed since, or went away"):
            load_target(small, fine_tuned)
    finally:
        shutil.rmtree(base, ignore_errors=True)
        moved.rename(base)
    torch.testing.assert_close(ours, on_its_base(fine_tuned), rtol=1e-5, atol=1e-5)


def test_another_model_beside_a_fine_tuned_adapter_is_only_warned_of(
    fine_tuned: Run, small: Settings, tmp_path: Path
):
    shutil.copytree(small.model.path, tmp_path / "m")
    (tmp_path / "m" / "note.txt").write_text("another model")
    model = small.model.model_copy(update={"path": str(tmp_path / "m")})
    other = small.model_copy(update={"model": model})
    assert "began from another model" in compatible(other, fine_tuned)[0]
    assert load_target(other, fine_tuned).settings.path == small.model.path


def test_a_run_may_be_the_reference(original: Run, small: Settings, tmp_path: Path):
    """Against its own replies every comparison is a tie."""
    run = evaluated(tmp_path / "e", changed(small, reference=str(original.path)))
    found = run.report()["metrics"]
    assert found["win_rate"]["mean"] == 0.5
    assert found["lc_win_rate"]["mean"] == pytest.approx(0.5)


def test_resumed_is_uninterrupted(original: Run, small: Settings, tmp_path: Path):
    run = Run.create(tmp_path / "e", "evaluate", small)

    def judging() -> bool:
        return any(line.stage == "judging: useful" for line in run.progress())

    with pytest.raises(commands.Stopped, match="in judging: useful"):
        evaluated(run.path, small, stopping=judging)
    kept = run.table("generations")[["set", "reply"]]
    evaluated(run.path, small)
    for name in ("generations", "metrics", "scores"):
        pd.testing.assert_frame_equal(run.table(name), original.table(name))
    pd.testing.assert_frame_equal(kept, run.table("generations")[["set", "reply"]])
    sampled = [line.stage for line in run.progress() if line.stage.startswith("sampling")]
    assert len(set(sampled)) == 4
    assert sampled.count("sampling replies: test") == 2  # its begin and its end, once


def test_rewards_are_of_the_turns_of_the_prompts_also_after_a_stop(
    scenario: Path, small: Settings, tmp_path: Path
):
    """The table of replies holds texts; what is asked comes from the sets again."""
    roles = ("system", "user")
    talks = [
        [{"role": role, "content": text} for role, text in zip(roles, said, strict=True)]
        for said in (("Be kind.", "How do I make tea?"), ("Answer.", "Hello. How do I cook rice?"))
    ]
    write_records(tmp_path / "talks.jsonl", [{"prompt": talk} for talk in talks])
    prompts = [tuple(Message(**turn) for turn in talk) for talk in talks]
    own = dict.fromkeys(("harmful", "questions", "outsiders", "reference", "judge"), "")
    own["reward"] = str(scenario.parent / "reward_model")
    settings = changed(small, **own, benign=str(tmp_path / "talks.jsonl"))
    data = settings.data.model_copy(update={"prompts": str(tmp_path / "talks.jsonl")})
    settings = settings.model_copy(update={"data": data})
    run = Run.create(tmp_path / "e", "evaluate", settings)
    with pytest.raises(commands.Stopped, match="in rewards"):
        evaluated(run.path, settings, stopping=lambda: run.progress()[-1].stage == "rewards")
    table = evaluated(run.path, settings).table("generations")
    assert set(table["set"]) == {"test", "benign"}
    reward = load_reward(own["reward"], settings.model)
    asked = [prompts[i] for i in table["prompt_index"]]
    assert table["reward"].tolist() == pytest.approx(reward(asked, list(table["reply"])), abs=1e-5)
    flat = [user_prompt(text) for text in table["prompt"]]
    assert table["reward"].tolist() != pytest.approx(reward(flat, list(table["reply"])), abs=1e-3)
    again = load_experiment(settings).evaluate()
    assert again["reward"].tolist() == pytest.approx(table["reward"].tolist()[: len(again)])


def test_what_is_missing_says_what_to_set(u2a, scenario: Path, tmp_path: Path):
    bare = dict.fromkeys(("harmful", "benign", "questions", "outsiders", "judge"), "")
    words = [word for name in bare for word in (f"--evaluation.{name}", "")]
    words += ["--data.retain", "", "--objective.reward", "", "--out", str(tmp_path / "e")]
    code, out, err = u2a("evaluate", *words, "--json")
    report = json.loads(out)
    assert code == 0, err
    assert set(report["metrics"]) == {"reply_words", "distinct_2", "perplexity"}
    assert report["missing"]["reward"].startswith("Set evaluation.reward (a reward model")
    assert report["missing"]["asr_a"].startswith("Set evaluation.harmful (prompts that a safe")
    assert "and evaluation.judge" in report["missing"]["asr_a"]
    assert report["judge"] == {}


def test_the_report_is_shown_with_directions(original: Run, capsys: pytest.CaptureFixture[str]):
    from u2a_core import report

    report.show(original)
    told = capsys.readouterr().out
    assert "Reward-V ↑" in told
    assert "ASR-U ≥ 2 ↓" in told
    assert "AlpacaEval)" in told
    assert "0 failed" in told


def test_a_judge_that_answers_half_the_items_is_told(small: Settings, tmp_path: Path):
    (tmp_path / "half.py").write_text(
        "def judge(p, r, c):\n    return [None if i % 2 else 1 for i in range(len(p))]\n"
    )
    run = evaluated(tmp_path / "e", changed(small, judge=f"{tmp_path / 'half.py'}:judge"))
    report = run.report()
    assert report["metrics"]["asr_a"]["n"] == 12
    assert report["metrics"]["asr_a"]["n_valid"] == 6
    assert report["metrics"]["asr_a"]["mean"] == 1
    assert any("6 of 12 judgements of 'answers' failed" in w for w in report["warnings"])


def test_a_reference_for_other_prompts_is_refused(u2a, tmp_path: Path):
    write_records(tmp_path / "r.jsonl", [{"prompt": "Hi.", "response": "Hello."}])
    code, _, err = u2a(
        "evaluate", "--evaluation.reference", tmp_path / "r.jsonl", "--out", tmp_path
    )
    assert code == 2
    assert "each of the 10 test prompts; got replies to 0 of them (1 prompts in all" in err


@pytest.mark.parametrize("name", ["harmful", "benign", "questions", "outsiders", "reference"])
def test_an_empty_file_is_a_sentence(small: Settings, tmp_path: Path, name: str):
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(DataError, match=r"empty\.jsonl must hold at least one record"):
        evaluated(tmp_path / "e", changed(small, **{name: str(tmp_path / "empty.jsonl")}))


def test_a_target_without_a_model_is_refused(original: Run, small: Settings, tmp_path: Path):
    for target, match in ((str(original.path), "saved its model"), ("nowhere", "finished run")):
        with pytest.raises(ConfigError, match=match):
            evaluated(tmp_path / target[-3:], changed(small, target=target))


def test_nothing_to_measure_is_refused():
    with pytest.raises(ConfigError, match="must have something to measure"):
        evaluation.load_sets(Settings())


def test_likelihoods_that_are_not_finite_are_missing_with_a_reason():
    found = evaluation.membership_measured(
        np.asarray([math.nan, -1.0]), np.asarray([math.nan]), "membership_loss"
    )
    assert found.missing == "Only 1 of 3 likelihoods are finite: one side has none."


def two_logits(scenario: Path, folder: Path, names: tuple[str, str]) -> str:
    """The reward model with a second logit: its old score is class 1, and class 0 is 0."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    source = str(scenario.parent / "reward_model")
    one = AutoModelForSequenceClassification.from_pretrained(source)
    two = AutoModelForSequenceClassification.from_pretrained(
        source, num_labels=2, ignore_mismatched_sizes=True, id2label=dict(enumerate(names))
    )
    two.score.weight.data = torch.cat([torch.zeros_like(one.score.weight), one.score.weight])
    two.save_pretrained(folder)
    AutoTokenizer.from_pretrained(source).save_pretrained(folder)
    return str(folder)


def test_a_reward_model_with_two_logits_is_their_difference_and_said(
    scenario: Path, small: Settings, tmp_path: Path
):
    path = two_logits(scenario, tmp_path / "two", ("bad", "good"))
    pair = ([user_prompt("What is the capital of France?")], ["The capital of France is Paris."])
    one = load_reward(str(scenario.parent / "reward_model"), small.model)
    assert load_reward(path, small.model)(*pair) == pytest.approx(one(*pair), abs=1e-5)
    settings = changed(small, reward=path, judge="", encoder="", questions="", outsiders="")
    assert any(
        "two logits" in note for note in evaluated(tmp_path / "e", settings).report()["notes"]
    )


@pytest.mark.parametrize(("names", "sign"), [(("x", "y"), 1), (("unsafe", "safe"), -1)])
def test_a_classifier_gives_the_probability_of_its_harmful_class(
    scenario: Path, small: Settings, tmp_path: Path, names: tuple[str, str], sign: int
):
    path = two_logits(scenario, tmp_path / "two", names)
    pair = ([user_prompt("What is the capital of France?")], ["The capital of France is Paris."])
    (score,) = load_reward(str(scenario.parent / "reward_model"), small.model)(*pair)
    judge = load_local_judge(path, small.model)
    assert isinstance(judge, HarmClassifier)
    assert judge(*pair) == pytest.approx([1 / (1 + math.exp(-sign * score))], abs=1e-5)
    found = load_judge(changed(small, judge=path), tmp_path)
    question = Question("answers", pair[0][0], pair[1][0])
    assert found([question], lambda *_: None) == [float(sign * score > 0)]
    assert not found.offers("pairwise")


def test_a_local_judge_answers_greedily_the_same_alone_and_in_a_batch(small: Settings):
    judge = load_local_judge(small.model.path, small.model)
    assert isinstance(judge, JudgeModel)
    short = JudgeModel(judge.model, judge.tokenizer, max_new_tokens=12)
    prompts = [
        user_prompt("What is the capital of Peru?"),
        user_prompt("Hello. How do I cook rice?"),
    ]
    together = short(prompts)
    assert together == [short([prompt])[0] for prompt in prompts]
    assert together[0] is not None
    assert "capital of Peru" in together[0][0]


def test_a_question_beyond_a_local_judges_context_is_missing(small: Settings, tmp_path: Path):
    judge = load_judge(changed(small, judge=small.model.path), tmp_path)
    assert judge([Question("answers", user_prompt("p"), "r")], lambda *_: None) == [None]
    assert judge.usage.reasons == {"the question does not fit the judge's context": 1}


def test_an_encoder_pools_the_mean_of_a_text_not_of_its_padding(small: Settings):
    encoder = SentenceEncoder.load(small.model.path, small.model)
    texts = ["Hello.", "What is the capital of Peru and how do I cook rice?", ""]
    alone = torch.cat([encoder([text]) for text in texts])
    torch.testing.assert_close(encoder(texts), alone, atol=1e-5, rtol=0)
    assert encoder.cosines(texts, texts) == pytest.approx([1, 1, 1], abs=1e-5)
    hidden = encoder.model(input_ids=torch.tensor([encoder.tokenizer(texts[1])["input_ids"]]))
    mean = hidden.last_hidden_state[0].mean(0)
    torch.testing.assert_close(encoder(texts)[1], mean / mean.norm(), atol=1e-5, rtol=0)


def test_the_encoders_own_pooling_is_read(scenario: Path, small: Settings, tmp_path: Path):
    shutil.copytree(small.model.path, tmp_path / "m")
    (tmp_path / "m" / "1_Pooling").mkdir()
    config = tmp_path / "m" / "1_Pooling" / "config.json"
    config.write_text('{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false}')
    assert SentenceEncoder.load(str(tmp_path / "m"), small.model).first_token
    config.write_text('{"pooling_mode_lasttoken": true}')
    with pytest.raises(ModelError, match="must pool by the mean or the first token"):
        SentenceEncoder.load(str(tmp_path / "m"), small.model)


def test_a_job_is_called_after_its_target(small: Settings):
    assert jobs._name("evaluate", small).startswith("evaluate-original-")
    assert jobs._name("evaluate", changed(small, target="runs/u2a-npo")).startswith(
        "evaluate-u2a-npo-"
    )


def test_differences_pair_over_prompts_and_leave_other_prompts_out():
    ours = evaluation.scores_table({"reward": np.asarray([[1.0, 3.0], [2.0, 2.0]])})
    theirs = evaluation.scores_table({"reward": np.asarray([1.0, 1.0]), "asr_k": np.zeros(3)})
    found = evaluation.paired(ours, theirs)
    assert found == {"reward": metrics.paired_difference(np.asarray([2.0, 2.0]), np.ones(2))}
    assert evaluation.paired(ours, evaluation.scores_table({"reward": np.zeros(5)})) == {}
