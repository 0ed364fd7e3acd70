"""Every file of examples/ loads, holds the numbers it claims, and passes the dry run."""

import json
import re
import shutil
from pathlib import Path

import pytest

from u2a_core.cli import main
from u2a_core.config import Settings, load_settings, override
from u2a_core.config.paths import PATHS, there
from u2a_core.data import is_hub_id, load_negatives, load_preferences, load_prompts
from u2a_core.estimate import from_dict
from u2a_core.runs import demo_assets

EXAMPLES = Path(__file__).parents[1] / "examples"
FILES = sorted(EXAMPLES.glob("*.yaml"))
PAPER = [file for file in FILES if "-cpu" not in file.name and "one-gpu" not in file.name]
BROUGHT = {"qa_data.json", "negatives.jsonl", "prompts.jsonl", "test_prompts.jsonl"}
"""Files that their users bring."""

_LLAMA = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "rms_norm_eps": 1e-5,
          "tie_word_embeddings": False}  # fmt: skip
CONFIGS = {
    "meta-llama/Llama-2-7b-chat-hf": _LLAMA | {
        "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 32, "vocab_size": 32000,
        "max_position_embeddings": 4096,
    },
    "meta-llama/Llama-3.1-8B-Instruct": _LLAMA | {
        "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256,
        "max_position_embeddings": 131072,
    },
    "Qwen/Qwen2.5-14B-Instruct": {
        "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "rms_norm_eps": 1e-6,
        "tie_word_embeddings": False, "hidden_size": 5120, "intermediate_size": 13824,
        "num_hidden_layers": 48, "num_attention_heads": 40, "num_key_value_heads": 8,
        "vocab_size": 152064, "max_position_embeddings": 32768,
    },
}  # fmt: skip
"""What the hub's config.json of each model says."""
PARAMETERS = {
    "meta-llama/Llama-2-7b-chat-hf": 6_738_415_616,
    "meta-llama/Llama-3.1-8B-Instruct": 8_030_261_248,
    "Qwen/Qwen2.5-14B-Instruct": 14_770_033_664,
}


def test_there_are_five_and_each_is_commented():
    assert len(FILES) == 5
    for file in FILES:
        text = file.read_text(encoding="utf-8")
        assert text.startswith("# ")
        assert text.count("#") >= 10
        for command, named in re.findall(r"u2a (\w+) +(?:[\w-]+ )?(examples/\S+\.yaml)", text):
            assert command in ("data", "estimate", "gains", "reweight", "reproduce")
            assert named == f"examples/{file.name}"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_it_loads_and_every_path_is_there_or_on_the_hub_or_brought(file: Path):
    settings = load_settings(file)
    for section, fields in PATHS.items():
        for field in fields:
            value = getattr(getattr(settings, section), field)
            known = not value or there(Path(value)) or is_hub_id(value) or value in BROUGHT
            assert known, f"{section}.{field}: {value}"


@pytest.mark.parametrize("file", PAPER, ids=lambda file: file.stem)
def test_the_papers_numbers_are_in_its_three_tasks(file: Path):
    found = load_settings(file)
    assert (found.model.lora_rank, found.model.lora_alpha, found.model.parameters) == (
        32,
        16,
        "lora",
    )
    assert (found.objective.kind, found.objective.dpo_beta) == ("preference", 0.3)
    assert (found.inner.lam, found.inner.samples_per_step) == (0.1, 8)
    assert 1e-5 <= found.inner.learning_rate <= 1.4e-4
    assert (found.outer.per_round, found.outer.sparsity) == (1024, 0.0)
    assert found.inner.steps == 3 * found.outer.steps_per_round  # three outer steps
    assert found.outer.steps_per_round * found.inner.samples_per_step == 2 * 1024  # two epochs
    assert found.reproduction.scale == "full"
    assert file.name.startswith(found.reproduction.task)


def test_the_three_tasks_are_three_models():
    models = {load_settings(file).model.path for file in PAPER}
    assert models == set(CONFIGS)


def test_halueval_names_the_columns_of_the_sets_own_file(tmp_path: Path):
    record = {"knowledge": "k", "question": "Who?", "right_answer": "She.",
              "hallucinated_answer": "He."}  # fmt: skip
    (tmp_path / "qa_data.json").write_text(json.dumps(record) + "\n" + json.dumps(
        record | {"question": "When?"}) + "\n")  # fmt: skip
    shutil.copy(EXAMPLES / "halueval-qwen2.5-14b.yaml", tmp_path / "own.yaml")
    data = load_settings(tmp_path / "own.yaml").data
    (pair, _), faults = load_preferences(data.preferences, columns=data.columns_of("preferences"))
    assert (pair.chosen, pair.rejected, faults) == ("She.", "He.", [])
    (sample, _) = load_negatives(data.negatives, columns=data.columns_of("negatives")).samples
    assert sample.response == "He."


def test_ones_own_files_are_those_of_the_scenario_until_they_are_replaced():
    data = load_settings(EXAMPLES / "own-jsonl-cpu.yaml").data
    assert len(load_negatives(data.negatives)) == 240
    assert len(load_preferences(data.preferences)[0]) == 64
    assert len(load_prompts(data.prompts)[0]) == 200


# The dry run


def stand_in(folder: Path, name: str, **other: object) -> Path:
    """A folder with a model's config.json, and the demo's tokenizer; no weights."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(demo_assets() / "model" / file, folder)
    (folder / "config.json").write_text(json.dumps(CONFIGS[name] | other))
    return folder


def offline(settings: Settings, folder: Path, **other: object) -> list[str]:
    """Words that put what this machine has in the place of the hub's: data is assumed."""
    words = ["--model.device", "cpu", "--threads", "1"]
    if settings.model.path in CONFIGS:
        words += ["--model.path", str(stand_in(folder, settings.model.path, **other))]
    for section, field in (("data", f) for f in PATHS["data"]):
        value = getattr(getattr(settings, section), field)
        if value and not there(Path(value)):
            words += [f"--{section}.{field}", ""]
    if is_hub_id(settings.objective.reward):
        words += ["--objective.reward", str(demo_assets() / "reward_model")]
    return words


@pytest.fixture
def roomy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with room for all, whose speed is not measured: a product of 4096 × 150,000."""
    from u2a_core.estimate import Machine, estimating
    from u2a_core.estimate.machine import Rates

    monkeypatch.setattr(estimating, "measured_rates", lambda *_, **__: Rates(1e14, 1e12, 1e5))
    much = Machine("cpu", "a test's", 10**14, 10**14, 1e14)
    monkeypatch.setattr(estimating, "machine", lambda *_: much)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_it_passes_the_dry_run(file: Path, tmp_path: Path, roomy: None, capsys):
    """The model's own sizes, but two layers: they are all alike."""
    words = offline(load_settings(file), tmp_path / "model", num_hidden_layers=2)
    assert main(["estimate", str(file), *words, "--json"]) == 0
    told = from_dict(json.loads(capsys.readouterr().out))
    assert {need.command for need in told.needs} == {"gains", "unlearn", "reweight"}
    assert all(need.peak > 2**27 for need in told.needs)
    assert told.model["trained"] > 0
    assert bool(told.assumed) == (file.stem != "own-jsonl-cpu")


@pytest.mark.parametrize("name", CONFIGS)
def test_the_stand_ins_have_the_sizes_of_the_models(name: str, tmp_path: Path):
    from u2a_core.models.skeleton import policy_skeleton

    words = ["--model.path", str(stand_in(tmp_path, name)), "--model.device", "cpu"]
    skeleton = policy_skeleton(override(Settings(), words).model)
    assert skeleton.parameters == PARAMETERS[name]


@pytest.mark.long
def test_lora_on_one_gpu_fits_in_48_gb(tmp_path: Path, roomy: None, capsys):
    file = EXAMPLES / "lora-8b-one-gpu.yaml"
    words = offline(load_settings(file), tmp_path / "model")
    assert main(["estimate", str(file), *words, "--json"]) == 0
    assert from_dict(json.loads(capsys.readouterr().out)).largest.peak < 48e9
