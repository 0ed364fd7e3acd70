"""Jobs end to end on a small copy of the embedded scenario, through the command line."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from u2a_core import commands
from u2a_core.commands.descents import _weights_file
from u2a_core.config import load_settings
from u2a_core.errors import DataError
from u2a_core.evaluation.sets import load_sets
from u2a_core.runs import Run

DESCENT_TABLES = ("history", "weight_path", "weights", "generations")


@pytest.fixture(scope="module")
def reweighted(scenario: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One finished, uninterrupted reweight run."""
    from u2a_core.cli import main

    out = tmp_path_factory.mktemp("runs") / "w"
    assert main(["reweight", str(scenario), "--out", str(out), "--json"]) == 0
    return Run.open(out)


def assert_same_outcome(one: Run, other: Run, tables: tuple[str, ...] = DESCENT_TABLES) -> None:
    for name in tables:
        tables = [run.table(name) for run in (one, other)]
        # how the gains were found stands in the history of a run that computes them
        tables = [table.drop(columns=table.filter(like="solve_").columns) for table in tables]
        pd.testing.assert_frame_equal(*tables, check_exact=True)
    ours, theirs = (load_file(r.model_folder / "model.safetensors") for r in (one, other))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_gains_of_every_sample_are_ranked(u2a, tmp_path: Path):
    code, out, _ = u2a("gains", "--out", tmp_path / "g", "--json")
    report, table = json.loads(out), Run.open(tmp_path / "g").table("gains")
    assert code == 0
    assert table["gain"].is_monotonic_decreasing
    assert list(table["rank"]) == list(range(1, 41))
    assert report["identity_error"] < 1e-3
    assert report["objective"]["n"] == 12
    assert report["helps"] == (table["gain"] > 0).sum()


def test_samples_without_room_for_a_reply_are_left_out_and_told(u2a, own: Path, tmp_path: Path):
    """Of every set that is trained on; the others have the gains that they have without them."""
    long = json.dumps({"id": "long", "prompt": "why " * 99, "response": "No.", "chosen": "Yes.",
                       "rejected": "No."})  # fmt: skip
    few = {}
    for name in ("negatives", "preferences", "retain"):
        file = own.parent / "data" / f"{name}.jsonl"
        few[name] = file.read_text()
        file.write_text(f"{long}\n{few[name]}")
    code, out, beside = u2a("estimate", "--json", config=own)
    assert code == 0
    assert "Token indices" not in beside  # the tokenizer's own warning, of errors that cannot come
    assert "1 of 41 negatives are left out" in " ".join(json.loads(out)["warnings"])
    words = ("--data.truth", "", "--json")
    assert u2a("gains", *words, "--out", tmp_path / "g", config=own)[0] == 0
    run = Run.open(tmp_path / "g")
    told = " ".join(run.report()["warnings"])
    for what in ("1 of 41 negatives", "1 of 13 preference pairs", "1 of 13 retain samples"):
        assert f"{what} are left out: their prompts leave no room" in told
    for name, text in few.items():
        (own.parent / "data" / f"{name}.jsonl").write_text(text)
    assert u2a("gains", *words, "--out", tmp_path / "h", config=own)[0] == 0
    found = [r.table("gains").set_index("id")["gain"] for r in (run, Run.open(tmp_path / "h"))]
    assert "long" not in found[0]
    pd.testing.assert_series_equal(*found)


def test_prompts_without_room_for_the_longest_reply_are_left_out_and_told(
    u2a, own: Path, tmp_path: Path
):
    """Of J and of the test; in an evaluation and in an estimate too."""
    folder, runs = own.parent / "data", {}
    long = json.dumps({"prompt": "why " * 40}) + "\n"
    words = ("--inner.steps", "2", "--data.preferences", "", "--json")
    words += ("--data.objective_prompts", folder / "more.jsonl")
    words += ("--objective.max_new_tokens", "40")
    (folder / "more.jsonl").write_text((folder / "test_prompts.jsonl").read_text())
    for name in ("fitting", "more"):
        runs[name] = Run(tmp_path / name)
        assert u2a("unlearn", *words, "--out", runs[name].path, config=own)[0] == 0
        for file in ("test_prompts.jsonl", "more.jsonl"):
            path = folder / file
            path.write_text(long + path.read_text().removeprefix(long))
    assert not runs["fitting"].report()["warnings"]
    fitting, more = (run.table("generations") for run in runs.values())
    pd.testing.assert_frame_equal(more, fitting)
    count = fitting["prompt_index"].nunique() + 1
    told = [
        f"1 of {count} {what} are left out: they leave no room for a reply of 40 tokens "
        "(objective.max_new_tokens) in the model's context of 96."
        for what in ("test prompts", "prompts of J")
    ]
    assert runs["more"].report()["warnings"] == told
    assert set(told) <= set(json.loads(u2a("estimate", *words, config=own)[1])["warnings"])
    out = tmp_path / "evaluated"
    assert u2a("evaluate", *words, "--out", out, config=own)[0] == 0
    assert Run(out).report()["warnings"] == [told[0]]
    asked = Run(out).table("generations")
    asked = asked[asked["set"] == "test"]
    assert sorted(asked["prompt"].unique()) == sorted(fitting["prompt"].unique())
    for file in ("test_prompts.jsonl", "more.jsonl"):
        (folder / file).write_text(long)
    code, _, error = u2a("unlearn", *words, "--out", tmp_path / "none", config=own)
    assert code == 2
    assert "must leave room for a reply of 40 tokens (objective.max_new_tokens)" in error


def test_scoring_tells_how_far_it_is_and_can_be_stopped(scenario: Path, tmp_path: Path):
    settings = load_settings(scenario)
    small = settings.data.model_copy(update={"tokens_per_batch": 256})
    run = Run.create(tmp_path / "g", "gains", settings.model_copy(update={"data": small}))

    def some_scored() -> bool:
        return any(p.stage == "scoring samples" and p.step > 0 for p in run.progress())

    with pytest.raises(commands.Stopped, match=r"at sample \d+ of 40"):
        commands.execute(run, commands.Watch(run, stopping=some_scored), commands.run_gains)
    assert run.status().state == "stopped"
    commands.execute(run, commands.Watch(run), commands.run_gains)
    steps = [p.step for p in run.progress() if p.stage == "scoring samples"]
    assert steps[-1] == 40
    assert len(set(steps)) > 3


def test_conversations_that_the_chat_template_refuses_are_left_out_and_told(
    u2a, own: Path, tmp_path: Path
):
    """Many templates ask for turns in alternation; ShareGPT's dialogues may begin with a reply."""
    model = Path(load_settings(own).model.path)
    shutil.copytree(model, tmp_path / "strict")
    template = tmp_path / "strict" / "chat_template.jinja"
    strict = (
        "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('roles must alternate') }}{% endif %}{% endfor %}"
    )
    template.write_text(strict + template.read_text())
    turns = [{"role": r, "content": "hi"} for r in ("assistant", "user", "assistant")]
    ends = [{"role": r, "content": "hi"} for r in ("user", "assistant")]
    file = own.parent / "data" / "negatives.jsonl"
    odd = [{"id": "odd", "prompt": turns[:2], "response": "No."},
           {"id": "ends", "prompt": ends, "response": "Never."}]  # fmt: skip
    file.write_text("".join(json.dumps(row) + "\n" for row in odd) + file.read_text())
    asked = own.parent / "data" / "test_prompts.jsonl"
    asked.write_text("".join(json.dumps({"prompt": row["prompt"]}) + "\n" for row in odd)
                     + asked.read_text())  # fmt: skip
    words = ("--model.path", tmp_path / "strict", "--data.truth", "", "--json")
    words += ("--data.objective_prompts", asked)
    why = "are left out: the model's chat template refuses their turns"
    told = {f"2 of {n} {what} {why}" for n, what in ((42, "negatives"), (12, "prompts of J"),
                                                     (12, "test prompts"))}  # fmt: skip
    code, out, _ = u2a("estimate", *words, config=own)
    assert code == 0
    assert told <= {text.partition(" (the first")[0] for text in json.loads(out)["warnings"]}
    assert u2a("gains", *words, "--out", tmp_path / "g", config=own)[0] == 0
    run = Run.open(tmp_path / "g")
    assert told == {text.partition(" (the first")[0] for text in run.report()["warnings"]}
    assert len(run.table("gains")) == 40


def test_gains_are_the_first_round_of_reweight(u2a, reweighted: Run, tmp_path: Path):
    u2a("gains", "--out", tmp_path / "g", "--json")
    gains = Run.open(tmp_path / "g").table("gains").set_index("id")["gain"]
    weights = reweighted.table("weights").set_index("id")
    pd.testing.assert_series_equal(
        gains.loc[weights.index], weights["gain_first_round"], check_names=False
    )


def test_reweight_reports_what_its_tables_hold(reweighted: Run):
    report, history = reweighted.report(), reweighted.table("history")
    weights = reweighted.table("weights")
    kept = history.loc[history["step"] == report["steps"]].iloc[0]
    assert kept["objective"] == history["objective"].max() == report["objective"]["after"]
    assert weights["weight"].sum() == pytest.approx(1)
    assert report["effective_samples"] == pytest.approx(1 / (weights["weight"] ** 2).sum())
    generations = reweighted.table("generations")
    assert len(generations) == report["reward"]["after"]["n"] == 20
    assert report["reward"]["after"]["mean"] == pytest.approx(generations["reward_after"].mean())


def test_the_slopes_of_a_job_are_checked_and_said(reweighted: Run):
    assert 0 <= reweighted.report()["identity_error"] < 1e-3


def test_half_precision_ranks_as_float32_does(u2a, tmp_path: Path):
    tables = []
    for dtype in ("float32", "bfloat16"):
        arguments = ("--objective.kind", "preference", "--model.dtype", dtype)
        code, _, _ = u2a("gains", *arguments, "--out", tmp_path / dtype, "--json")
        assert code == 0
        tables.append(Run.open(tmp_path / dtype).table("gains").set_index("id")["gain"])
    assert tables[0].corr(tables[1].loc[tables[0].index], method="spearman") > 0.97


def test_weights_follow_the_gains(reweighted: Run):
    path = reweighted.table("weight_path")
    first = path[path["round"] == 0]
    alive = first[first["weight"] > 0]
    assert alive["gain"].corr(np.log(alive["weight"])) == pytest.approx(1)


def test_zero_step_size_is_the_uniform_baseline(u2a, tmp_path: Path):
    u2a("reweight", "--outer.step-size", "0", "--out", tmp_path / "w", "--json")
    u2a("unlearn", "--out", tmp_path / "u", "--json")
    ours, theirs = Run.open(tmp_path / "w"), Run.open(tmp_path / "u")
    assert_same_outcome(ours, theirs, ("history", "generations"))


def test_a_runs_weights_give_its_model_again(u2a, reweighted: Run, tmp_path: Path):
    code, _, _ = u2a("unlearn", "--weights", reweighted.path, "--out", tmp_path / "r", "--json")
    assert code == 0
    assert_same_outcome(Run.open(tmp_path / "r"), reweighted, ("history", "generations"))


def test_a_repeated_test_prompt_is_asked_once(u2a, own: Path, reweighted: Run, tmp_path: Path):
    """The units of an interval are prompts: the same ones twice are no more evidence."""
    file = own.parent / "data" / "test_prompts.jsonl"
    file.write_text(file.read_text() * 3)
    assert u2a("reweight", "--out", tmp_path / "r", "--json", config=own)[0] == 0
    assert Run.open(tmp_path / "r").report()["reward"] == reweighted.report()["reward"]
    sets = load_sets(load_settings(own))
    assert len(set(sets.prompts["test"])) == len(sets.prompts["test"])


def test_weights_of_a_run_that_left_other_samples_out_are_refused(
    u2a, reweighted: Run, tmp_path: Path
):
    other = tmp_path / "other"
    shutil.copytree(reweighted.path, other)
    path = reweighted.table("weight_path")
    Run.open(other).write_table("weight_path", path[path["id"] != path["id"].iloc[0]])
    code, _, err = u2a("unlearn", "--weights", other, "--out", tmp_path / "r")
    assert code == 2
    assert f"that one of the runs leaves out (first: {path['id'].iloc[0]!r})" in " ".join(
        err.split()
    )


def test_final_weights_are_used_from_the_start(u2a, reweighted: Run, tmp_path: Path):
    arguments = ("--weights", reweighted.path, "--final-weights", "--out", tmp_path / "f")
    u2a("unlearn", *arguments, "--json")
    path = reweighted.table("weight_path")
    last = path[path["round"] == path["round"].max()]["weight"].to_numpy()
    used = Run.open(tmp_path / "f").table("weight_path")
    for _, weights in used.groupby("round")["weight"]:
        np.testing.assert_allclose(weights.to_numpy(), last)


def test_weights_of_a_file_are_normalized(u2a, scenario: Path, tmp_path: Path):
    from u2a_core.data import load_negatives

    ids = [s.id for s in load_negatives(load_settings(scenario).data.negatives).samples]
    (tmp_path / "w.jsonl").write_text(
        "".join(json.dumps({"id": i, "weight": 3}) + "\n" for i in ids[:4])
    )
    u2a("unlearn", "--weights", tmp_path / "w.jsonl", "--out", tmp_path / "u", "--json")
    weights = Run.open(tmp_path / "u").table("weights").set_index("id")["weight"]
    assert (weights[ids[:4]] == 0.25).all()
    assert weights.sum() == 1


def test_the_scenario_elsewhere_gives_the_same_numbers(
    u2a, scenario: Path, reweighted: Run, tmp_path: Path
):
    """Another folder, other file names, without the flags of truth: a user's own."""
    mine = tmp_path / "mine"
    shutil.copytree(scenario.parent / "model", mine / "my-model")
    for name in ("negatives", "preferences", "retain", "test_prompts"):
        shutil.copy(scenario.parent / "data" / f"{name}.jsonl", mine / f"my-{name}.json")
    text = scenario.read_text(encoding="utf-8")
    for name in ("negatives", "preferences", "retain", "test_prompts"):
        text = text.replace(f"data/{name}.jsonl", f"my-{name}.json")
    text = text.replace("path: model", "path: my-model").replace("  truth: data/truth.jsonl\n", "")
    (mine / "my.yaml").write_text(text, encoding="utf-8")
    code, out, _ = u2a("reweight", "--out", tmp_path / "m", "--json", config=mine / "my.yaml")
    assert code == 0
    assert "weight_on_mislabelled" not in json.loads(out)
    assert_same_outcome(Run.open(tmp_path / "m"), reweighted)


@pytest.mark.parametrize("method", ["ga", "graddiff"])
def test_other_methods_run_to_their_report(u2a, method: str, tmp_path: Path):
    code, out, _ = u2a("reweight", "--inner.method", method, "--out", tmp_path / method, "--json")
    assert code == 0
    assert json.loads(out)["method"] == method


def test_preference_objective_and_learned_reward_run(u2a, scenario: Path, tmp_path: Path):
    code, out, _ = u2a("gains", "--objective.kind", "preference", "--out", tmp_path / "p", "--json")
    assert code == 0
    assert -1 < json.loads(out)["objective"]["mean"] < 0  # log σ of margins near zero: −ln 2
    model = scenario.parent / "reward_model"
    code, out, _ = u2a("gains", "--objective.reward", model, "--out", tmp_path / "l", "--json")
    assert code == 0
    assert json.loads(out)["objective"]["low"] < json.loads(out)["objective"]["high"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_gpu_runs_every_command(u2a, tmp_path: Path, dtype: str):
    device = ("--model.device", "cuda", "--model.dtype", dtype, "--json")
    few = ("--impact.samples", "3", "--impact.omegas", "0.002")
    for command in ("gains", "impact", "reweight", "unlearn"):
        code, _, err = u2a(command, *device, *few, "--out", tmp_path / command)
        assert code == 0, err
    arguments = ("--weights", tmp_path / "reweight", "--out", tmp_path / "replay")
    assert u2a("unlearn", *arguments, *device)[0] == 0


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`:UserWarning")
def test_lora_saves_an_adapter_that_loads(u2a, scenario: Path, tmp_path: Path):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    code, _, _ = u2a(
        "reweight", "--model.parameters", "lora", "--inner.learning-rate", "0.5",
        "--out", tmp_path / "w", "--json",
    )  # fmt: skip
    assert code == 0
    base = AutoModelForCausalLM.from_pretrained(scenario.parent / "model")
    model = PeftModel.from_pretrained(base, tmp_path / "w" / "model")
    assert any("lora" in name for name, _ in model.named_parameters())


def test_a_finished_run_resumed_is_read(u2a, reweighted: Run):
    begun = time.monotonic()
    code, out, _ = u2a("reweight", "--out", reweighted.path, "--resume", "--json")
    assert code == 0
    assert json.loads(out) == reweighted.report()
    assert time.monotonic() - begun < 2


def test_resume_with_other_settings_is_refused(u2a, reweighted: Run):
    code, _, err = u2a("reweight", "--out", reweighted.path, "--resume", "--seed", "5")
    assert code == 2
    assert "must have the settings it was started with" in err


def begin(scenario: Path, out: Path, *arguments: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "u2a_core.cli", "reweight", str(scenario), "--out", str(out)]
    return subprocess.Popen(
        [*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(scenario: Path, out: Path) -> None:
    process = begin(scenario, out, "--resume")
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err


def wait_for_step(out: Path, step: int, process: subprocess.Popen) -> None:
    run, until = Run(out), time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        if any(line.stage == "reweighting" and line.step >= step for line in run.progress()):
            return
        time.sleep(0.01)
    raise AssertionError(f"no step {step}: {process.communicate()}")


def test_killed_at_a_random_round_and_resumed_is_identical(
    scenario: Path, reweighted: Run, tmp_path: Path
):
    out = tmp_path / "k"
    process = begin(scenario, out)
    wait_for_step(out, random.randint(1, 4), process)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert Run.open(out).status().state == "failed"
    finish(scenario, out)
    assert_same_outcome(Run.open(out), reweighted)


def test_sigterm_stops_at_a_step_and_resume_is_identical(
    scenario: Path, reweighted: Run, tmp_path: Path
):
    out = tmp_path / "t"
    process = begin(scenario, out)
    wait_for_step(out, 2, process)
    process.terminate()
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "--resume" in err
    assert Run.open(out).status().state == "stopped"
    finish(scenario, out)
    assert_same_outcome(Run.open(out), reweighted)


def test_asked_twice_it_stops_at_once_and_resumes(scenario: Path, reweighted: Run, tmp_path: Path):
    out = tmp_path / "t"
    process = begin(scenario, out)
    while process.poll() is None and not (out / "progress.jsonl").exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)  # while it loads: no step is near
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "stopped at once" in err
    assert Run.open(out).status().state == "stopped"
    finish(scenario, out)
    assert_same_outcome(Run.open(out), reweighted)


def test_the_python_of_the_readme_finds_bad_replies():
    """What it prints are the five best gains of the scenario: not one is a reply to keep."""
    root = Path(__file__).parents[1]
    code = (root / "README.md").read_text("utf-8").split("```python\n")[1].split("```")[0]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    told = [line.split(" ", 1) for line in done.stdout.splitlines()]
    gains = [float(gain) for gain, _ in told]
    assert len(gains) == 5
    assert gains == sorted(gains, reverse=True)
    assert gains[-1] > 0
    data = root / "assets" / "demo" / "data"
    negatives, truth = (
        [json.loads(line) for line in (data / name).read_text("utf-8").splitlines()]
        for name in ("negatives.jsonl", "truth.jsonl")
    )
    mistakes = {row["id"] for row in truth if row["mislabelled"]}
    kept = {row["response"] for row in negatives if row["id"] in mistakes}
    assert not kept & {reply for _, reply in told}


@pytest.mark.parametrize(("text", "why"), [
    ('{"id": "s0", "weight": 1}\n{"id": "s1" "weight": 1}\n', "line 2 is not valid JSON"),
    ('{"id": "s0", "weight": 1}\n{"id": "s0", "weight": 3}\n', "line 2 has 's0' anew"),
])  # fmt: skip
def test_a_file_of_weights_is_read_whole_or_refused(tmp_path: Path, text: str, why: str):
    """A line that is none would leave its sample without weight."""
    file = tmp_path / "w.jsonl"
    file.write_text(text)
    with pytest.raises(DataError, match=why):
        _weights_file(file, ["s0", "s1"])
