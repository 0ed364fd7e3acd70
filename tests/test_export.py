"""What leaves a run: models of equal logits, samples of equal texts, training files, the card."""

import errno
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from workbench import finished_run

from u2a_core.cli import main
from u2a_core.config import load_settings, override
from u2a_core.data import load_negatives
from u2a_core.errors import DataError, RunError
from u2a_core.export import (
    TOOLS,
    Choice,
    ExportOptions,
    Samples,
    Wanted,
    chosen,
    samples_of,
    training_files,
    write_export,
    write_jsonl,
    write_parquet,
)
from u2a_core.export.samples import COLUMNS
from u2a_core.runs import Run, Workspace, demo_assets, reviews, slices
from u2a_core.types import Message, prompt_text

SHIPPED = demo_assets() / "runs"
KINDS = {
    "full": (),
    "last_n": ("--model.parameters", "last_n"),
    "lora": ("--model.parameters", "lora", "--inner.learning_rate", "0.15"),
    "lora without head": ("--model.parameters", "lora", "--model.lora_head", "false"),
    "untied lora": ("--model.parameters", "lora", "--inner.learning_rate", "0.15"),
}
ADAPTERS = [kind for kind in KINDS if "lora" in kind]


STEPS = ("--inner.steps", "2", "--evaluation.samples", "1")
RISING = """
calls = []


def score(prompts, replies):
    calls.append(len(replies))
    return [len(calls) + i % 2 for i in range(len(replies))]
"""
"""A reward that rises from step to step: the last step is kept, whatever the replies are."""


@pytest.fixture(scope="module")
def trained(scenario: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Run]:
    """A run of two steps for each kind of trained parameters, made when it is first asked for."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "rising.py").write_text(RISING)

    def make(kind: str) -> Run:
        run = folder / kind.replace(" ", "-")
        if not run.exists():
            words = [
                str(scenario),
                "--objective.reward",
                f"{folder}/rising.py:score",
                *STEPS,
                *KINDS[kind],
            ]
            if kind == "untied lora":
                words += ["--model.path", str(_untied(scenario, folder))]
            assert main(["unlearn", *words, "--out", str(run)]) == 0
        return Run.open(run)

    return make


def _untied(scenario: Path, folder: Path) -> Path:
    """The demo's model, its output head no longer tied to the embedding."""
    from transformers import AutoModelForCausalLM

    made = folder / "untied-model"
    shutil.copytree(scenario.parent / "model", made)
    model = AutoModelForCausalLM.from_pretrained(made)
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    model.config.tie_word_embeddings = False
    model.save_pretrained(made)
    return made


def exported(run: Run, folder: Path, *words: str) -> Path:
    assert main(["export", str(run.path), "--to", str(folder), *words]) == 0
    return folder


def logits(model: torch.nn.Module) -> torch.Tensor:
    ids = torch.arange(5, 45)[None] % 200
    with torch.no_grad():
        return model(input_ids=ids).logits


def of_the_run(run: Run) -> torch.Tensor:
    from u2a_core.models import load_saved

    return logits(load_saved(run.settings().model, run.model_folder).model)


def of_a_folder(folder: Path | str) -> torch.Tensor:
    from transformers import AutoModelForCausalLM

    return logits(AutoModelForCausalLM.from_pretrained(folder).eval())


@pytest.mark.parametrize("kind", KINDS)
def test_a_merged_model_loads_elsewhere_with_equal_logits(
    trained: Callable[[str], Run], tmp_path: Path, kind: str
):
    from transformers import AutoTokenizer

    run = trained(kind)
    folder = exported(run, tmp_path / "out", "--merged")
    ours, theirs = of_the_run(run), of_a_folder(folder)
    torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-5)
    before = of_a_folder(run.settings().model.path)
    assert float((theirs - before).abs().max()) > 1e-3  # it was trained indeed
    template = AutoTokenizer.from_pretrained(run.model_folder).chat_template
    assert AutoTokenizer.from_pretrained(folder).chat_template == template
    assert not (folder / "adapter_config.json").exists()


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")  # peft's own
@pytest.mark.parametrize("kind", ADAPTERS)
def test_an_adapter_is_exported_as_it_is(
    trained: Callable[[str], Run], tmp_path: Path, kind: str, capsys
):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    run = trained(kind)
    folder = exported(run, tmp_path / "out")
    saved, ours = (load_file(f / "adapter_model.safetensors") for f in (run.model_folder, folder))
    assert saved.keys() == ours.keys()
    assert all(torch.equal(saved[name], ours[name]) for name in saved)
    base = AutoModelForCausalLM.from_pretrained(run.settings().model.path)
    again = PeftModel.from_pretrained(base, folder).eval()
    torch.testing.assert_close(logits(again), of_the_run(run), rtol=0, atol=0)
    assert "names the model by its folder here" in capsys.readouterr().out


def test_an_adapter_over_an_adapter_is_exported_merged_alone(
    trained: Callable[[str], Run], tmp_path: Path, capsys
):
    shutil.copytree(trained("lora").path, tmp_path / "run")
    note = tmp_path / "run" / "model" / "u2a.json"
    note.write_text(json.dumps(json.loads(note.read_text()) | {"start_adapter": "first"}))
    said = refused(capsys, tmp_path / "run", "--to", tmp_path / "out")
    assert "with --merged: it began from the adapter first" in said
    exported(Run.open(tmp_path / "run"), tmp_path / "out", "--merged")


def test_a_head_is_untied_where_the_adapter_reaches_it(
    trained: Callable[[str], Run], tmp_path: Path, capsys
):
    tied = exported(trained("lora without head"), tmp_path / "tied", "--merged")
    assert json.loads((tied / "config.json").read_text())["tie_word_embeddings"] is True
    assert "head of its own" not in capsys.readouterr().out
    own = exported(trained("lora"), tmp_path / "own", "--merged")
    assert json.loads((own / "config.json").read_text())["tie_word_embeddings"] is False
    assert "head of its own" in capsys.readouterr().out


def test_whole_weights_are_copied_and_nothing_is_merged(
    trained: Callable[[str], Run], tmp_path: Path, capsys
):
    run = trained("full")
    folder = exported(run, tmp_path / "out", "--merged")
    saved = run.model_folder / "model.safetensors"
    assert (folder / "model.safetensors").read_bytes() == saved.read_bytes()
    assert "no adapter to merge" in capsys.readouterr().out


def test_an_adapter_is_merged_into_the_model_it_was_trained_on(
    scenario: Path, tmp_path: Path, capsys
):
    """Fine-tuning begins at baseline.base, not at model.path."""
    from transformers import AutoModelForCausalLM

    from u2a_core.models import load_saved

    base = tmp_path / "base"
    shutil.copytree(scenario.parent / "model", base)
    model = AutoModelForCausalLM.from_pretrained(base)
    model.model.layers[0].mlp.down_proj.weight.data *= 1.5
    model.save_pretrained(base)
    words = ["--baseline.method", "sft", "--baseline.base", base, "--baseline.steps", "2",
             "--baseline.batch", "8", "--baseline.learning-rate", "0.01",
             "--model.parameters", "lora", "--evaluation.samples", "1"]  # fmt: skip
    run = tmp_path / "sft"
    assert main(["baseline", str(scenario), *map(str, words), "--out", str(run)]) == 0
    made = Run.open(run)
    ours = logits(load_saved(made.settings().model, made.model_folder, weights=str(base)).model)
    theirs = of_a_folder(exported(made, tmp_path / "out", "--merged"))
    torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-5)
    assert float((theirs - of_a_folder(base)).abs().max()) > 1e-3
    assert "# `base` after SFT" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


# Samples


def shipped(name: str) -> Run:
    return Run.open(SHIPPED / name)


@pytest.mark.parametrize("name", ["demo-gains", "demo-npo-u2a", "demo-npo-uniform"])
@pytest.mark.parametrize("end", ["jsonl", "parquet"])
def test_samples_load_again_as_the_same_set(tmp_path: Path, name: str, end: str):
    folder = exported(shipped(name), tmp_path / "out", "--samples")
    again = load_negatives(folder / "samples" / f"negatives.{end}")
    assert again.sha256 == shipped(name).report()["data"]["negatives_sha256"]
    assert (len(again), again.faults, again.duplicates) == (240, (), 0)


def test_weights_and_gains_are_the_runs_own(tmp_path: Path):
    run = shipped("demo-npo-u2a")
    folder = exported(run, tmp_path / "out", "--samples")
    table = run.table("weights").set_index("id")
    lines = (folder / "samples" / "negatives.jsonl").read_text(encoding="utf-8").splitlines()
    for record in map(json.loads, lines):
        row = table.loc[record["id"]]
        assert record["weight"] == row["weight"]
        assert record["gain"] == pytest.approx(row["gain_first_round"], rel=0, abs=0)
        assert record["gain_se"] == row["gain_first_round_se"]
        assert record["gain_low"] < record["gain"] < record["gain_high"]
    first = min(map(json.loads, lines), key=lambda record: record["rank_accumulated"])
    assert first["gain_accumulated"] == table["gain_accumulated"].max()


def test_marks_stand_beside_what_was_reviewed(tmp_path: Path):
    run = finished_run(tmp_path / "runs", "mine", model=False)
    sha256 = run.report()["data"]["negatives_sha256"]
    reviews.put(Workspace(tmp_path / "runs"), sha256, "n007", "mistake")
    folder = exported(run, tmp_path / "out", "--samples")
    frame = pd.read_parquet(folder / "samples" / "negatives.parquet").set_index("id")
    assert frame.loc["n007", "mark"] == "mistake"
    assert frame["mark"].notna().sum() == 1


def test_marks_reach_the_arms_inside_a_run(tmp_path: Path):
    space = Workspace(tmp_path / "runs")
    finished_run(space.folder, "demo", model=False)
    arm = finished_run(space.folder / "demo" / "arms", "npo-u2a", model=False)
    reviews.put(space, arm.report()["data"]["negatives_sha256"], "n001", "real")
    folder = exported(arm, tmp_path / "out", "--samples")
    frame = pd.read_parquet(folder / "samples" / "negatives.parquet").set_index("id")
    assert frame["mark"].dropna().to_dict() == {"n001": "real"}


def _conversations(folder: Path, records: list[dict]) -> Run:
    """A finished gains run of negatives of one's own."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "own.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    words = ["--data.negatives", str(file), "--data.truth", ""]
    chosen_settings = override(load_settings(demo_assets() / "demo.yaml"), words)
    run = Run.create(folder / "runs" / "own", "gains", chosen_settings)
    found = load_negatives(file)
    table = pd.DataFrame(
        {
            "id": [s.id for s in found.samples],
            "kind": [s.kind for s in found.samples],
            "prompt": [prompt_text(s.prompt) for s in found.samples],
            "response": [s.response for s in found.samples],
            "gain": [float(i) for i in range(len(found))],
        }
    )
    run.write_table("gains", table.iloc[::-1])
    report = shipped("demo-gains").report()
    data = report["data"] | {"negatives": len(found), "negatives_sha256": found.sha256}
    run.write_report(report | {"data": data})
    return run


LONG = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi\nthere"},
    {"role": "assistant", "content": "Hello."},
    {"role": "user", "content": "And now?"},
]
RECORDS = [
    {
        "id": "a",
        "kind": "rude",
        "messages": [*LONG, {"role": "assistant", "content": "No \U0001f44e"}],
    },
    {"id": "b", "prompt": 'שלום \u202e \u2028 "q"', "response": "'a'\t\u0000b"},
    {"id": "c", "messages": [*LONG[:2], LONG[1], {"role": "assistant", "content": "Why?"}]},
]


def test_turns_come_from_the_sets_own_file(tmp_path: Path):
    run = _conversations(tmp_path, RECORDS)
    folder = exported(run, tmp_path / "out", "--samples")
    for end in ("jsonl", "parquet"):
        again = load_negatives(folder / "samples" / f"negatives.{end}")
        assert again.samples == load_negatives(tmp_path / "own.jsonl").samples
    assert again.samples[0].prompt[0] == Message("system", "Be brief.")


def test_samples_that_the_run_left_out_are_left_out_of_the_export(tmp_path: Path):
    """Their prompts had no room in the model: the run's tables do not know them."""
    run = _conversations(tmp_path, RECORDS)
    run.write_table("gains", run.table("gains").query("id != 'b'"))
    folder = exported(run, tmp_path / "out", "--samples")
    again = load_negatives(folder / "samples" / "negatives.jsonl")
    whole = load_negatives(tmp_path / "own.jsonl")
    assert again.samples == tuple(sample for sample in whole.samples if sample.id != "b")


def test_where_the_file_changed_the_texts_of_the_run_are_kept_and_it_is_told(
    tmp_path: Path, capsys
):
    run = _conversations(tmp_path, RECORDS)
    (tmp_path / "own.jsonl").write_text('{"id": "z", "prompt": "x", "response": "y"}\n')
    folder = exported(run, tmp_path / "out", "--samples")
    again = load_negatives(folder / "samples" / "negatives.jsonl")
    assert {s.id: prompt_text(s.prompt) for s in again.samples}["a"] == (
        "Be brief.\nHi\nthere\nHello.\nAnd now?"
    )
    assert "own.jsonl has changed since the run" in capsys.readouterr().out


texts = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=40).filter(
    lambda text: bool(text.strip())
)
odd = st.one_of(
    texts,
    st.sampled_from(
        ["👩‍👩‍👧 ok", "שלום עולם", "a\r\nb\n", '"\\"\'', "a\u2028\u0085b", "\ufeffx", "\u0000x"]
    ),
)
turns = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "assistant", "system"]), "content": odd}
    ),
    min_size=1,
    max_size=3,
)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(
        st.tuples(odd, turns, odd, st.one_of(st.just(""), texts)),
        min_size=1,
        max_size=4,
        unique_by=(lambda row: row[0], lambda row: (_text(row[1]), row[2])),
    )
)
def test_odd_texts_come_back_as_they_were(tmp_path_factory: pytest.TempPathFactory, rows: list):
    folder = tmp_path_factory.mktemp("odd")
    frame = pd.DataFrame(rows, columns=["id", "prompt", "response", "kind"]).assign(weight=0.5)
    samples = Samples(frame, "0" * 64)
    write_jsonl(samples, folder / "a.jsonl")
    write_parquet(samples, folder / "a.parquet")
    for name in ("a.jsonl", "a.parquet"):
        found = load_negatives(folder / name).samples
        told = [
            (s.id, [{"role": t.role, "content": t.content} for t in s.prompt], s.response, s.kind)
            for s in found
        ]
        assert told == [tuple(row) for row in rows]


def _text(prompt: list[dict]) -> str:
    return "\n".join(turn["content"] for turn in prompt)


def test_half_a_character_is_refused_where_it_is_read(tmp_path: Path):
    record = {"id": "a", "prompt": "p", "response": "b\ud800"}
    (tmp_path / "a.jsonl").write_text(json.dumps(record) + "\n", encoding="utf-8")
    with pytest.raises(DataError, match="unpaired surrogate"):
        load_negatives(tmp_path / "a.jsonl")


# Training files


def read(folder: Path, tool: str, name: str) -> list[dict]:
    lines = (folder / "training" / tool / name).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_training_files_hold_the_support_and_its_weights(tmp_path: Path):
    run = shipped("demo-npo-u2a")
    folder = exported(run, tmp_path / "out", "--for", "trl", "llama-factory", "open-unlearning")
    table = run.table("weights").set_index("id")
    support = set(table.index[table["weight"] > 0])
    assert 0 < len(support) < len(table)
    for tool, name in (
        ("trl", "prompt_completion.jsonl"),
        ("trl", "unpaired_preference.jsonl"),
        ("llama-factory", "negatives_alpaca.jsonl"),
        ("llama-factory", "negatives_sharegpt.jsonl"),
        ("open-unlearning", "forget.jsonl"),
    ):
        found = read(folder, tool, name)
        assert {record["id"] for record in found} == support
        assert sum(record["weight"] for record in found) == pytest.approx(1)
        assert all(record["weight"] == table.loc[record["id"], "weight"] for record in found)
        again = load_negatives(folder / "training" / tool / name)  # our own loader reads them
        texts = {s.id: (prompt_text(s.prompt), s.response) for s in again.samples}
        assert texts == {i: tuple(table.loc[i, ["prompt", "response"]]) for i in support}


def test_the_library_that_the_tools_load_with_reads_the_files(tmp_path: Path):
    import datasets

    run = _conversations(tmp_path, RECORDS)
    words = ("--samples", "--for", "trl", "llama-factory", "open-unlearning", "--top", "3")
    folder = exported(run, tmp_path / "out", *words)
    files = [file for file in folder.rglob("*") if file.suffix in (".jsonl", ".parquet")]
    assert len(files) == 7
    for file in files:
        kind = "parquet" if file.suffix == ".parquet" else "json"
        loaded = datasets.load_dataset(
            kind, data_files=str(file), split="train", cache_dir=str(tmp_path / "cache")
        )
        assert sorted(loaded["id"]) == ["a", "b", "c"]


def test_the_formats_are_those_of_the_tools(tmp_path: Path):
    run = _conversations(tmp_path, RECORDS)
    words = ("--for", "trl", "llama-factory", "open-unlearning", "--top", "3")
    folder = exported(run, tmp_path / "out", *words)
    kto = {r["id"]: r for r in read(folder, "trl", "unpaired_preference.jsonl")}
    assert kto["a"] == {
        "prompt": LONG,
        "completion": [{"role": "assistant", "content": "No \U0001f44e"}],
        "label": False,
        "weight": pytest.approx(1 / 3),
        "id": "a",
    }
    alpaca = {r["id"]: r for r in read(folder, "llama-factory", "negatives_alpaca.jsonl")}
    assert (alpaca["a"]["system"], alpaca["a"]["instruction"]) == ("Be brief.", "And now?")
    assert alpaca["a"]["history"] == [["Hi\nthere", "Hello."]]
    assert alpaca["c"]["instruction"] == "Hi\nthere\nHi\nthere"  # two turns of the user in a row
    sharegpt = {r["id"]: r for r in read(folder, "llama-factory", "negatives_sharegpt.jsonl")}
    assert [t["from"] for t in sharegpt["a"]["conversations"]] == ["human", "gpt", "human", "gpt"]
    described = json.loads((folder / "training/llama-factory/dataset_info.json").read_text())
    for one in described.values():
        assert (folder / "training/llama-factory" / one["file_name"]).is_file()
        (record, *_) = read(folder, "llama-factory", one["file_name"])
        optional = {"query"}
        assert {c for part, c in one["columns"].items() if part not in optional} <= set(record)
    answer = {r["id"]: r for r in read(folder, "open-unlearning", "forget.jsonl")}["a"]
    assert answer["question"] == "Be brief.\nHi\nthere\nHello.\nAnd now?"
    configured = yaml.safe_load((folder / "training/open-unlearning/U2A_forget.yaml").read_text())
    keys = configured["U2A_forget"]["args"]
    assert {keys["question_key"], keys["answer_key"]} <= set(answer)


def test_top_and_slice_choose_instead_with_equal_weights(tmp_path: Path):
    samples = samples_of(shipped("demo-npo-u2a"), {})
    top = chosen(samples, Choice(top=5))
    best = samples.frame.nlargest(5, "gain_accumulated")
    assert top["id"].tolist() == best["id"].tolist()
    assert top["weight"].tolist() == [0.2] * 5
    space = Workspace(tmp_path)
    kept = slices.save(space, finished_run(tmp_path, "mine", model=False), "odd", ["n003", "n001"])
    of_slice = chosen(samples, Choice(slice=slices.read_slice(kept.path)))
    assert of_slice["id"].tolist() == ["n003", "n001"]
    lines = list(training_files("trl", of_slice)["prompt_completion.jsonl"])
    assert [json.loads(line)["weight"] for line in lines] == [0.5, 0.5]


@pytest.mark.parametrize(
    ("name", "choice", "said"),
    [
        ("demo-gains", Choice(), "has no weights"),
        ("demo-npo-uniform", Choice(top=3), "measured none"),
        ("demo-gains", Choice(top=241), "1 to the 240 samples"),
    ],
)
def test_a_choice_that_the_run_cannot_make_is_refused(name: str, choice: Choice, said: str):
    with pytest.raises(RunError, match=said):
        chosen(samples_of(shipped(name), {}), choice)


def test_a_slice_of_another_set_is_refused(tmp_path: Path):
    samples = samples_of(shipped("demo-gains"), {})
    for ids, sha256 in ((("n001",), "f" * 64), (("zzz",), "")):
        one = slices.Slice("other", ids, sha256, tmp_path / "other.json")
        with pytest.raises(RunError, match="must be of the run's negatives"):
            chosen(samples, Choice(slice=one))


# The folder


def refused(capsys, *words: object) -> str:
    assert main(["export", *map(str, words)]) == 2
    told = capsys.readouterr().err
    assert told.startswith("u2a: ")
    assert len(told.splitlines()) == 1
    return told


def test_nothing_is_overwritten(tmp_path: Path, capsys):
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine.txt").write_text("precious")
    run = SHIPPED / "demo-gains"
    assert "holds mine.txt" in refused(capsys, run, "--to", full, "--samples")
    assert (full / "mine.txt").read_text() == "precious"
    assert "is a file" in refused(capsys, run, "--to", full / "mine.txt", "--samples")
    (tmp_path / "empty").mkdir()
    exported(Run.open(run), tmp_path / "empty", "--samples")


def test_what_a_run_cannot_give_is_told(tmp_path: Path, capsys, folder: Path):
    to = ("--to", tmp_path / "out")
    said = refused(capsys, SHIPPED / "demo-npo-u2a", *to)
    assert "ship with the demo leave theirs out" in said
    assert "gains trains none" in refused(capsys, SHIPPED / "demo-gains", *to, "--merged")
    assert "run of gains, reweight" in refused(capsys, SHIPPED / "demo-impact", *to)
    made = Run.create(tmp_path / "begun", "unlearn", load_settings(demo_assets() / "demo.yaml"))
    assert "finished" in refused(capsys, made.path, *to)
    assert "without config.json" in refused(capsys, tmp_path / "nowhere", *to)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--model", "--merged"), "--model and --merged"),
        (("--for", "trl", "--top", "3", "--slice", "x.json"), "got both"),
        (("--samples", "--top", "3"), "got no --for"),
        (("--for", "trl", "--top", "-1"), "count of samples"),
        (("--samples", "--public"), "got no --push"),
        (("--for", "axolotl"), "axolotl"),
    ],
)
def test_options_that_contradict_each_other_are_told(
    tmp_path: Path, capsys, words: tuple[str, ...], said: str
):
    assert said in refused(capsys, SHIPPED / "demo-npo-u2a", "--to", tmp_path / "out", *words)


def test_a_full_disk_is_told_and_leaves_nothing(
    tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
):
    run = finished_run(tmp_path / "runs", "mine", model=True)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    said = refused(capsys, run.path, "--to", tmp_path / "place" / "out")
    assert "No space left on device. Free disk space" in said
    assert not list((tmp_path / "place").iterdir())


def test_a_disk_that_fills_while_merging_leaves_nothing(
    trained: Callable[[str], Run], tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
):
    from transformers import PreTrainedTokenizerBase

    run = trained("lora")
    capsys.readouterr()

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(PreTrainedTokenizerBase, "save_pretrained", full)
    said = refused(capsys, run.path, "--to", tmp_path / "place" / "out", "--merged")
    assert "Free disk space" in said
    assert not list((tmp_path / "place").iterdir())


def test_a_disk_without_room_is_told_before_anything_is_written(
    tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
):
    run = finished_run(tmp_path / "runs", "mine", model=True)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))
    assert "must have room for the model" in refused(capsys, run.path, "--to", tmp_path / "out")


def test_what_was_written_is_told_as_json(tmp_path: Path, capsys):
    words = ["export", str(SHIPPED / "demo-gains"), "--to", str(tmp_path / "out"), "--samples"]
    assert main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    for name, size in told["files"].items():
        assert (tmp_path / "out" / name).stat().st_size == size
    assert {"README.md", "settings.yaml", "samples/negatives.jsonl"} <= set(told["files"])


# The card


def front_matter(folder: Path) -> dict:
    _, head, _ = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(head)


def test_the_card_tells_results_with_n_and_how_it_was_made(tmp_path: Path):
    run = finished_run(tmp_path / "runs", "mine", model=True)
    measured = Run.create(
        tmp_path / "runs" / "e",
        "evaluate",
        override(run.settings(), ["--evaluation.target", str(run.path)]),
    )
    perplexity = {"mean": 5.25, "low": 5.0, "high": 5.5, "n": 77, "n_valid": 77}
    figures = {"metrics": {"perplexity": perplexity}, "missing": {}, "target": str(run.path)}
    measured.write_report({"command": "evaluate", **figures})
    folder = exported(run, tmp_path / "out", "--model", "--samples")
    told = (folder / "README.md").read_text(encoding="utf-8")
    after = run.report()["reward"]["after"]
    assert f"{after['mean']:+.3f} [{after['low']:+.3f}, {after['high']:+.3f}] (n = 400)" in told
    assert "5.250 [5.000, 5.500] (n = 77)" in told
    assert "n = 200 prompts" in told  # of the paired difference
    assert run.config()["sha256"]["data.negatives"] in told
    assert "--to FOLDER --model --samples" in told
    assert str(tmp_path) not in told.replace(str(tmp_path / "out"), "")
    assert str(demo_assets()) not in told  # paths of this machine are names alone
    assert front_matter(folder) == {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "configs": [{"config_name": "negatives", "data_files": "samples/negatives.parquet"}],
        "tags": ["unlearning", "alignment", "u2a", "reweight", "npo"],
    }


def test_the_settings_beside_load_again(tmp_path: Path):
    folder = exported(shipped("demo-npo-u2a"), tmp_path / "out", "--samples")
    again = load_settings(folder / "settings.yaml")
    assert again.inner == shipped("demo-npo-u2a").settings().inner
    assert (again.model.path, again.data.negatives) == ("model", "negatives.jsonl")


@pytest.mark.parametrize("revision", ["", "@main"])
def test_a_hub_model_is_named_as_the_base(tmp_path: Path, revision: str):
    path = f"meta-llama/Llama-3.1-8B-Instruct{revision}"
    words = ["--model.path", path, "--model.parameters", "lora"]
    chosen_settings = override(load_settings(demo_assets() / "demo.yaml"), words)
    run = Run.create(tmp_path / "runs" / "mine", "reweight", chosen_settings)
    run.write_report(shipped("demo-npo-u2a").report())
    run.model_folder.mkdir()
    (run.model_folder / "adapter_config.json").write_text("{}")
    write_export(run, tmp_path / "out", Wanted(model="saved"))
    facts = front_matter(tmp_path / "out")
    assert facts["base_model"] == "meta-llama/Llama-3.1-8B-Instruct"
    assert (facts["base_model_relation"], facts["library_name"]) == ("adapter", "peft")
    assert "license" not in facts


def test_every_option_and_column_of_the_documentation_exists():
    text = (Path(__file__).parents[1] / "docs" / "export.md").read_text(encoding="utf-8")
    options = {name.rstrip("_") for name in ExportOptions.__dataclass_fields__}
    assert set(re.findall(r"--([a-z]+)", text)) <= options
    table = text[text.index("| column |") : text.index("What a run does not know")]
    first = re.findall(r"^\| (`[^|]+`) \|", table, re.MULTILINE)
    assert {name for cell in first for name in re.findall(r"`(\w+)`", cell)} == set(COLUMNS)
    assert set(re.findall(r"^\| `([a-z-]+)` \| `[a-z_]+\.jsonl`", text, re.MULTILINE)) == set(TOOLS)
