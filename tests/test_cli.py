"""The command line: every bad input is one sentence and exit 2, without a traceback."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file, save_file

from u2a_core import serve
from u2a_core.cli import main
from u2a_core.runs import Run


def sentence(code: int, err: str) -> str:
    """The last message on stderr, once it is known to be one sentence and no traceback."""
    assert code == 2, err
    assert "Traceback" not in err
    told = [line for line in err.splitlines() if line.startswith("u2a: ")]
    assert len(told) == 1, err
    return err[err.index("u2a: ") :]


def change(config: Path, section: str, **values: object) -> None:
    settings = yaml.safe_load(config.read_text(encoding="utf-8"))
    settings[section] |= values
    config.write_text(yaml.safe_dump(settings), encoding="utf-8")


def spoil(config: Path, fault: str) -> None:
    """Puts one fault of a user's own files into a scenario."""
    negatives = config.parent / "data" / "negatives.jsonl"
    lines = negatives.read_text(encoding="utf-8").splitlines(keepends=True)
    model = config.parent / "model"
    match fault:
        case "empty file":
            negatives.write_text("")
        case "half a character":
            negatives.write_text('{"prompt": "a", "response": "b\\ud800"}\n')
        case "no such file":
            change(config, "data", negatives="data/negatves.jsonl")
        case "a path too long":
            change(config, "data", negatives="n" * 5000)
        case "a model path too long":
            change(config, "model", path="m" * 5000)
        case "a reward that fails":
            (config.parent / "mine.py").write_text("def f(prompts, replies):\n    return 1 / 0\n")
            change(config, "objective", reward="mine:f")
        case "a reward that exits":
            (config.parent / "mine.py").write_text("import sys\nsys.exit(3)\n")
            change(config, "objective", reward="mine:f")
        case "wrong columns":
            negatives.write_text('{"question_text": "a", "reply_text": "b"}\n')
        case "broken line 17":
            negatives.write_text("".join([*lines[:16], "{broken\n", *lines[17:]]))
        case "one sample":
            negatives.write_text(lines[0])
        case "no tokenizer":
            for file in model.glob("tokenizer*"):
                file.unlink()
        case "no chat template":
            (model / "chat_template.jinja").unlink()
            change(config, "model", chat_template="own")
        case "no model":
            (model / "config.json").unlink()
        case "NaN weights":
            tensors = load_file(model / "model.safetensors")
            tensors["model.norm.weight"][3] = float("nan")
            save_file(tensors, model / "model.safetensors", metadata={"format": "pt"})
        case "longer than the context":
            change(config, "model", max_length=4096)
        case "prompt without room":
            change(config, "model", max_length=12)
        case "reply without room":
            change(config, "objective", max_new_tokens=90)
        case "more than there are":
            change(config, "inner", samples_per_step=1000)
        case "no such reward":
            change(config, "objective", reward="no_module:no_function")
        case "no preferences":
            change(config, "data", preferences="")
            change(config, "objective", kind="preference")
        case "no reward":
            change(config, "objective", reward="")
        case "a reward of strings":
            (config.parent / "mine.py").write_text("def words(prompts, replies): return replies\n")
            change(config, "objective", reward="mine:words")
        case "flags of other samples":
            change(config, "data", truth="data/preferences.jsonl")
        case "no retain":
            change(config, "data", retain="")
            change(config, "inner", method="graddiff")
        case "unknown setting":
            change(config, "inner", stepz=3)
        case "wrong type":
            change(config, "inner", steps="many")
        case "no such device":
            change(config, "model", device="cuda:77")


FAULTS = {
    "empty file": "it is empty",
    "wrong columns": "question_text, reply_text",
    "half a character": "unpaired surrogate",
    "no such file": r"No such file or directory \(looked for /.*/data/negatves\.jsonl\)",
    "a path too long": "File name too long",
    "a model path too long": "must be a folder or a hub id",
    "a reward that fails": r"ZeroDivisionError: division by zero \(mine\.py, line 2\)",
    "a reward that exits": r"SystemExit: 3 \(mine\.py, line 2\)",
    "broken line 17": "line 17",
    "no tokenizer": "must hold a tokenizer",
    "no chat template": "must have a chat template",
    "no model": r"must hold config\.json",
    "NaN weights": r"NaN or infinity in model\.norm\.weight",
    "longer than the context": "the model's context of 96 tokens; got 4096",
    "prompt without room": "must leave room for a reply in 12 tokens; got 12, none of which does",
    "reply without room": "must leave room for a reply of 90 tokens",
    "more than there are": "at most the 40 negative samples; got 1000",
    "no such reward": "No module named 'no_module'",
    "no reward": r"reward model's folder, or module:function .* or set objective\.kind",
    "a reward of strings": "must return numbers; got: could not convert string",
    "flags of other samples": "got none for 40 of 40",
    "no preferences": r"data\.preferences must name preference pairs",
    "no retain": r"data\.retain must name a retain set",
    "unknown setting": r"inner\.stepz",
    "wrong type": r"inner\.steps.*'many'",
    "no such device": r"device of this machine; got 'cuda:77'",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_input_is_one_sentence(u2a, own: Path, tmp_path: Path, fault: str):
    spoil(own, fault)
    code, _, err = u2a("reweight", "--out", tmp_path / "w", config=own)
    assert re.search(FAULTS[fault], " ".join(sentence(code, err).split()))


def test_negatives_and_a_reward_of_ones_own_are_enough(u2a, own: Path, tmp_path: Path):
    """No pairs: J asks the negatives' own prompts, or those of a file, at most max_prompts."""
    (own.parent / "mine.py").write_text(
        "def brevity(prompts, replies): return [1.0 / (1 + len(r)) for r in replies]\n"
    )
    change(own, "data", preferences="", truth="")
    change(own, "objective", reward="mine:brevity")
    (tmp_path / "asked.txt").write_text("Hello.\nGood morning.\nHello.\n")
    asked = {}
    for name, words in {
        "own": (),
        "drawn": ("--objective.max-prompts", "7"),
        "file": ("--data.objective-prompts", tmp_path / "asked.txt"),
    }.items():
        code, out, _ = u2a("gains", *words, "--out", tmp_path / name, "--json", config=own)
        assert code == 0
        asked[name] = json.loads(out)["objective"]["n"]
    negatives = (own.parent / "data" / "negatives.jsonl").read_text().splitlines()
    prompts = {json.loads(line)["prompt"] for line in negatives}
    assert asked == {"own": len(prompts), "drawn": 7, "file": 2}
    hashed = Run.open(tmp_path / "file").config()["sha256"]
    assert {"objective.reward", "data.objective_prompts"} <= hashed.keys()


def test_identical_samples_are_one_sample_and_keep_its_weight(u2a, own: Path, tmp_path: Path):
    negatives = own.parent / "data" / "negatives.jsonl"
    record = json.loads(negatives.read_text().splitlines()[0])
    copies = [{**record, "id": f"c{i}"} for i in range(5)]
    negatives.write_text("".join(json.dumps(copy) + "\n" for copy in copies))
    change(own, "data", truth="")
    code, out, _ = u2a("reweight", "--out", tmp_path / "w", "--json", config=own)
    assert code == 0
    assert json.loads(out)["data"]["duplicates_dropped"] == 4
    assert json.loads(out)["effective_samples"] == 1


def test_a_reply_longer_than_max_length_is_cut_and_counted(u2a, own: Path, tmp_path: Path):
    negatives = own.parent / "data" / "negatives.jsonl"
    lines = negatives.read_text().splitlines()
    long = json.loads(lines[0]) | {"response": "I do not know. " * 60}
    negatives.write_text("\n".join([json.dumps(long), *lines[1:]]))
    code, out, _ = u2a("gains", "--out", tmp_path / "g", "--json", config=own)
    assert code == 0
    assert json.loads(out)["data"]["truncated"] == 1


def test_a_run_of_another_version_is_refused(u2a, tmp_path: Path):
    u2a("gains", "--out", tmp_path / "g", "--json")
    config = json.loads((tmp_path / "g" / "config.json").read_text())
    (tmp_path / "g" / "config.json").write_text(json.dumps(config | {"layout": 7}))
    code, _, err = u2a("gains", "--out", tmp_path / "g", "--resume")
    assert "run layout 1; got 7" in sentence(code, err)


def test_a_taken_directory_is_left_alone(u2a, tmp_path: Path):
    u2a("gains", "--out", tmp_path / "g", "--json")
    before = (tmp_path / "g" / "report.json").read_bytes()
    code, _, err = u2a("reweight", "--out", tmp_path / "g")
    assert "must be a new directory" in sentence(code, err)
    assert (tmp_path / "g" / "report.json").read_bytes() == before


def test_a_run_whose_files_changed_is_not_resumed(u2a, own: Path, tmp_path: Path):
    out = tmp_path / "g"
    assert u2a("gains", "--out", out, "--json", config=own)[0] == 0
    (out / "report.json").unlink()
    pairs = own.parent / "data" / "preferences.jsonl"
    pairs.write_text("".join(pairs.read_text().splitlines(keepends=True)[1:]))
    code, _, err = u2a("gains", "--out", out, "--resume", config=own)
    assert "data.preferences" in sentence(code, err)


def test_weights_of_another_set_are_refused(u2a, own: Path, tmp_path: Path):
    u2a("reweight", "--inner.steps", "2", "--out", tmp_path / "w", "--json")
    negatives = own.parent / "data" / "negatives.jsonl"
    negatives.write_text("".join(negatives.read_text().splitlines(keepends=True)[1:]))
    change(own, "data", truth="")
    arguments = ("--weights", tmp_path / "w", "--out", tmp_path / "u")
    code, _, err = u2a("unlearn", *arguments, config=own)
    assert "must be of these negatives" in sentence(code, err)


@pytest.mark.parametrize("weight", ["-1", "0", '"much"', "null"])
def test_impossible_weights_are_refused(u2a, tmp_path: Path, weight: str):
    (tmp_path / "w.jsonl").write_text(f'{{"id": "n000", "weight": {weight}}}\n')
    code, _, err = u2a("unlearn", "--weights", tmp_path / "w.jsonl", "--out", tmp_path / "u")
    assert "must" in sentence(code, err)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nonsense"], "The command must be one of"),
        (["gains"], "must be given a settings file"),
        (["gains", "nowhere.yaml"], "must be a readable YAML file"),
        (["reweight", "SCENARIO", "--inner.stepz", "3"], "did you mean inner.steps?"),
        (["reweight", "SCENARIO", "--inner.steps", "many"], "inner.steps: Input should be a valid"),
        (["reweight", "SCENARIO", "--inner.steps=0"], "inner.steps: Input should be greater"),
        (["reweight", "SCENARIO", "steps"], "--section.field VALUE; got 'steps'"),
        (["reweight", "SCENARIO", "--seed.x", "3"], "seed"),
        (["reweight", "SCENARIO", "--inner.method", "rlhf"], "'npo' or 'simnpo'"),
        (["reweight", "SCENARIO", "--inner.method", "graddiff", "--data.retain", ""], "retain set"),
        (["reweight", "SCENARIO", "--out"], "--out"),
        (["reweight", "SCENARIO", "--threads", "9999999999"], "threads: Input should be less"),
        (["reweight", "SCENARIO", "--seed", "9" * 30], "seed: Input should be less"),
        (["reweight", "SCENARIO", "--inner.learning-rate", "inf"], "should be a finite number"),
        (["reweight", "SCENARIO", "--out", "SCENARIO"], "must be a new directory; it is a file"),
        (["gains", "--run"], "must be given a settings file"),
        (["gains", "SCENARIO", "--resume"], "must be told which run to continue; got no --out"),
        (["gains", "SCENARIO", "--out", "a" * 300], "must be writable"),
        (["gains", "--run", "a" * 300], "must be a run directory"),
        (["table", "a" * 300], "must be made of runs"),
        (["report", "a" * 300], "must be made of runs"),
        (["app", "--runs", "a" * 300], "--runs must be a folder"),
        (["demo", "--speed", "9"], "got --speed"),
        (["demo", "--seed", "x"], "--seed"),
        (["demo", "--seed", "3"], "together with --headless"),
        (["app", "--port", "99999"], "must be free on this machine; got 99999"),
    ],
)
def test_a_wrong_call_is_one_sentence(
    arguments: list[str], words: str, scenario: Path, capsys: pytest.CaptureFixture[str]
):
    code = main([str(scenario) if word == "SCENARIO" else word for word in arguments])
    assert words in sentence(code, capsys.readouterr().err)


def test_a_taken_port_is_one_sentence_and_the_next_is_found(
    capsys: pytest.CaptureFixture[str],
):
    with socket.socket() as held:
        held.bind(("localhost", 0))
        held.listen()
        port = held.getsockname()[1]
        assert f"got {port}" in sentence(
            main(["app", "--port", str(port)]), capsys.readouterr().err
        )
    assert serve.free_port(port) == port
    assert serve.free_port(0) in range(8501, 8521)


def test_help_imports_no_torch():
    code = (
        "import sys; from u2a_core.cli import main; main(['--help']); "
        "sys.exit('torch' in sys.modules or 'tyro' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0
    assert "usage: u2a COMMAND" in done.stdout


@pytest.mark.parametrize("command", ["demo", "gains", "reweight", "unlearn", "data", "build-demo"])
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert not stop.value.code
    assert "usage: u2a " + command in capsys.readouterr().out


def test_a_run_is_shown_in_words(u2a, tmp_path: Path):
    _, gains, _ = u2a("gains", "--out", tmp_path / "g")
    _, unlearned, _ = u2a("unlearn", "--out", tmp_path / "u")
    assert "40 negative samples" in gains
    assert "Marginal gain" in gains
    assert "Replies before and after" in unlearned
    assert re.search(r"Reward ↑ after: [+-]\d\.\d{3} \[.*\] \(n = 20\)", unlearned)
    assert Run.open(tmp_path / "u").status().state == "finished"


def test_data_tells_faults_by_line_and_exits_2_on_an_unusable_file(u2a, own: Path):
    assert u2a("data", config=own)[0] == 0
    spoil(own, "broken line 17")
    code, out, _ = u2a("data", "--json", config=own)
    negatives = json.loads(out)["files"][0]
    assert code == 0
    assert [fault["line"] for fault in negatives["faults"]] == [17]
    spoil(own, "empty file")
    code, out, _ = u2a("data", config=own)
    assert code == 2
    assert "it is empty" in out


@pytest.mark.parametrize(
    ("section", "field", "told"),
    [("data", "truth", "truth"), ("baseline", "mixture", "mixture")],
)
def test_data_tells_a_missing_file_of_truth_and_of_the_mixture(
    u2a, own: Path, section: str, field: str, told: str
):
    settings = yaml.safe_load(own.read_text(encoding="utf-8"))
    settings.setdefault(section, {})[field] = "data/nowhere.jsonl"
    own.write_text(yaml.safe_dump(settings), encoding="utf-8")
    code, out, _ = u2a("data", config=own)
    assert code == 2
    assert told in out and "nowhere.jsonl" in out


def test_one_prompt_has_no_interval_and_its_json_is_valid(u2a, own: Path, tmp_path: Path):
    prompts = own.parent / "data" / "test_prompts.jsonl"
    prompts.write_text(prompts.read_text(encoding="utf-8").splitlines()[0] + "\n")
    few = ("--inner.steps", "1", "--objective.max-prompts", "1", "--objective.splits", "0")
    _, out, err = u2a("unlearn", *few, "--out", tmp_path / "u", "--json", config=own)
    assert out, err
    reward = json.loads(out, parse_constant=pytest.fail)["reward"]
    assert (reward["after"]["low"], reward["difference"]["n"]) == (None, 1)
    _, told, _ = u2a("unlearn", *few, "--out", tmp_path / "u", "--resume", config=own)
    assert re.search(r"Reward ↑ after: [+-]\d\.\d{3} \(n = \d+\)", told)


def test_a_start_that_failed_does_not_take_its_directory(u2a, own: Path, tmp_path: Path):
    change(own, "data", truth="data/nowhere.jsonl")
    out = tmp_path / "g"
    code, _, err = u2a("gains", "--out", out, config=own)
    assert "nowhere.jsonl" in sentence(code, err)
    change(own, "data", truth="")
    assert u2a("gains", "--out", out, "--resume", "--json", config=own)[0] == 0
    assert Run.open(out).settings().data.truth == ""
    assert "must be a new directory" in sentence(*u2a("gains", "--out", out, config=own)[::2])


def test_ctrl_c_while_the_command_line_is_loaded_leaves_no_traceback():
    code = (
        "import builtins, os, signal\n"
        "load = builtins.__import__\n"
        "def interrupted(name, *rest):\n"
        "    if name == 'u2a_core.options':\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "    return load(name, *rest)\n"
        "builtins.__import__ = interrupted\n"
        "from u2a_core.start import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, b"")  # a shell tells 130


@pytest.mark.parametrize("words", [["--help"], ["gains", "--help"]])
def test_a_reader_that_leaves_is_no_fault(words: list[str]):
    command = [sys.executable, "-m", "u2a_core.cli", *words]
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")
