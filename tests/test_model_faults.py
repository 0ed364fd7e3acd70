"""Models that cannot be what they are taken for: each its own sentence, none of them trained."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from families import FAMILIES, model_of, saved, tokenizer_of
from safetensors.torch import load_file, save_file

from u2a_core.config import ModelSettings, parse_settings
from u2a_core.data.encode import prompt_ids
from u2a_core.errors import ConfigError, ModelError
from u2a_core.models import RewardModel, load_policy, load_saved, save_policy
from u2a_core.models.kernels import quantization_config
from u2a_core.models.policy import choose_device
from u2a_core.models.skeleton import policy_skeleton
from u2a_core.types import user_prompt

CPU = {"device": "cpu", "dtype": "float32"}


def change(folder: Path, **facts: object) -> None:
    """Edits the folder's config.json."""
    config = json.loads((folder / "config.json").read_text()) | facts
    (folder / "config.json").write_text(json.dumps(config))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return saved(FAMILIES["llama3"], tmp_path / "model")


def refused(folder: Path, words: str, **settings: object) -> None:
    with pytest.raises((ModelError, ConfigError), match=words):
        load_policy(ModelSettings(path=str(folder), **CPU, **settings))


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("bert", "got BertForMaskedLM, an encoder.*…ForCausalLM"),
        ("deberta", "got DebertaV2ForMaskedLM, an encoder"),
        ("t5", "got T5ForConditionalGeneration, an encoder–decoder, which does not continue"),
        ("classifier", r"a classifier\. Name it as objective\.reward, and as model\.path a causal"),
        ("vision", "of the type vit, which has no language model's head"),
    ],
)
def test_a_model_of_another_kind(tmp_path: Path, kind: str, words: str):
    import transformers as t

    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
             "intermediate_size": 16}  # fmt: skip
    made = {
        "bert": lambda: t.BertForMaskedLM(t.BertConfig(vocab_size=400, **small)),
        "deberta": lambda: t.DebertaV2ForMaskedLM(t.DebertaV2Config(vocab_size=400, **small)),
        "t5": lambda: t.T5ForConditionalGeneration(
            t.T5Config(vocab_size=400, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
        ),
        "classifier": lambda: t.LlamaForSequenceClassification(
            t.LlamaConfig(vocab_size=400, **small)
        ),
        "vision": lambda: t.ViTForImageClassification(
            t.ViTConfig(image_size=8, patch_size=4, **small)
        ),
    }[kind]()
    made.save_pretrained(tmp_path)
    tokenizer_of(FAMILIES["llama3"]).save_pretrained(tmp_path)
    refused(tmp_path, words)
    with pytest.raises(ModelError, match=words):
        policy_skeleton(ModelSettings(path=str(tmp_path), **CPU))


def test_code_of_the_models_own_is_not_run_and_its_flag_is_named(folder: Path):
    (folder / "modeling.py").write_text("raise SystemExit('it ran')\n")
    change(folder, model_type="ours", architectures=["OursForCausalLM"], auto_map={
        "AutoConfig": "modeling.Config", "AutoModelForCausalLM": "modeling.OursForCausalLM",
    })  # fmt: skip
    refused(folder, r"set model\.trust_remote_code true")
    with pytest.raises((SystemExit, ModelError)):  # with the flag it would be run
        load_policy(ModelSettings(path=str(folder), trust_remote_code=True, **CPU))


def test_code_beside_an_architecture_that_transformers_knows_is_left_alone(folder: Path):
    """As Phi-3's: transformers' own classes are used, and nothing is run or refused."""
    (folder / "modeling.py").write_text("raise SystemExit('it ran')\n")
    change(folder, auto_map={
        "AutoConfig": "modeling.Config", "AutoModelForCausalLM": "modeling.LlamaForCausalLM",
    })  # fmt: skip
    policy = load_policy(ModelSettings(path=str(folder), **CPU))
    assert type(policy.model).__name__ == "LlamaForCausalLM"


def test_an_architecture_that_transformers_does_not_know(folder: Path):
    change(folder, model_type="nobody", architectures=["NobodyForCausalLM"])
    refused(folder, r"of an architecture that transformers \d.*Upgrade transformers")


def test_pickle_weights_are_not_read_and_the_conversion_is_named(folder: Path):
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    refused(folder, r"must be safetensors; got pytorch_model\.bin.*save_pretrained")


def test_a_folder_without_weights(folder: Path):
    (folder / "model.safetensors").unlink()
    refused(folder, "must hold weights; got none")
    (folder / "model.gguf").write_bytes(b"GGUF")
    refused(folder, r"must be safetensors as transformers saves them; got model\.gguf")


def test_half_a_file_of_weights(folder: Path):
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    refused(folder, "must be whole; a file of them ends too early")


def test_one_of_several_files_is_not_there(folder: Path):
    model_of(FAMILIES["llama3"]).save_pretrained(folder, max_shard_size="20KB")
    (folder / "model.safetensors").unlink()
    first = min(folder.glob("model-*.safetensors"))
    first.unlink()
    refused(
        folder, rf"must hold all \d+ files of its weights; 1 are not there \(first: {first.name}"
    )


def test_a_pointer_of_git_lfs(folder: Path):
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    (folder / "model.safetensors").write_text(pointer)
    refused(folder, "pointer of Git LFS.*git lfs pull")


def test_weights_that_are_not_there_are_not_drawn_at_random(folder: Path):
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    refused(folder, r"1 are not \(first: model\.layers\.1\.mlp\.up_proj\.weight\)")


def test_a_model_saved_without_its_head(folder: Path):
    tensors = load_file(folder / "model.safetensors")
    del tensors["lm_head.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    refused(folder, "saved without a language model's head")


def test_weights_of_other_shapes_than_the_configuration(folder: Path):
    change(folder, intermediate_size=64)
    refused(folder, r"must have the shapes that its config\.json tells")


def test_layers_that_the_configuration_does_not_tell_of(folder: Path):
    """transformers would leave them out, and load half a model."""
    change(folder, num_hidden_layers=1)
    refused(folder, r"9 of them are of layers .*first: model\.layers\.1\.input_layernorm")


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("tokenizer.json", '{"model": {"type": "New"}}', "of a version that transformers"),
        ("tokenizer.json", "{}", "of a version that transformers .* KeyError 'added_tokens'"),
        ("chat_template.jinja", "{% for m in messages %}{{ m.content }", "must be valid Jinja"),
    ],
)
def test_files_of_another_version_and_templates_with_an_error(
    folder: Path, file: str, content: str, words: str
):
    (folder / file).write_text(content)
    with pytest.raises(ModelError, match=words):
        prompt_ids([user_prompt("Hi.")], load_policy(ModelSettings(path=str(folder))).tokenizer)


def test_a_configuration_of_nonsense(folder: Path):
    change(folder, hidden_size="wide")
    refused(folder, "must load; got")


@pytest.mark.parametrize(("tokens", "words"), [(90, "must have an embedding for each"), (0, "")])
def test_a_tokenizer_of_another_vocabulary(folder: Path, tokens: int, words: str):
    """More tokens than embeddings are refused, far fewer are told."""
    tokenizer = tokenizer_of(FAMILIES["llama3"])
    if tokens:
        tokenizer.add_tokens([f"<{i}>" for i in range(tokens)])
        tokenizer.save_pretrained(folder)
        refused(folder, words)
        return
    model_of(FAMILIES["llama3"], vocabulary=2 * len(tokenizer)).save_pretrained(folder)
    policy = load_policy(ModelSettings(path=str(folder), **CPU))
    assert "check that it is the model's own" in policy.warnings[0]


def test_a_length_beyond_the_context_is_refused_before_anything_is_loaded(folder: Path):
    (folder / "model.safetensors").unlink()
    refused(folder, "context of 256 tokens; got 300", max_length=300)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        pytest.param(
            "mps", "this torch has no mps",
            marks=pytest.mark.skipif(torch.backends.mps.is_available(), reason="there is one"),
        ),
        ("vulkan", "this torch has no vulkan"),
        ("hpu", r"No module named 'torch\.hpu'"),
        ("gpu", "Expected one of cpu, cuda"),
    ],
)  # fmt: skip
def test_a_device_that_is_not_there_has_a_short_reason(name: str, reason: str):
    with pytest.raises(ConfigError, match=rf"got '{name}' \({reason}") as found:
        choose_device(name)
    assert len(str(found.value)) < 320
    assert str(found.value).endswith("With auto it is the best one there is.")


@pytest.fixture
def adapter(folder: Path, tmp_path: Path) -> Callable[..., tuple[ModelSettings, Path]]:
    def made(**changes: object) -> tuple[ModelSettings, Path]:
        settings = ModelSettings(
            path=str(folder), parameters="lora", lora_rank=2, lora_head=False, **CPU
        )
        policy = load_policy(settings)
        for name, p in policy.model.named_parameters():
            if "lora_B" in name:
                p.data.normal_(std=0.1)
        save_policy(policy, tmp_path / "adapter", provenance={})
        return settings, tmp_path / "adapter"

    return made


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        (
            {"hidden_size": 64},
            r"must fit its base model \S+; got: a size mismatch, its layers are of another size "
            r"than this model's\. Set model\.path to",
        ),
        (
            {"num_hidden_layers": 3},
            r"must fit its base model.*made of a model of \d+,\d+ parameters",
        ),
        ({"num_hidden_layers": 1}, "14 of its tensors belong to no layer"),
    ],
)
def test_an_adapter_of_another_base(adapter, tmp_path: Path, sizes: dict, words: str):
    _, folder = adapter()
    family = FAMILIES["llama3"]
    saved(replace(family, sizes={**family.sizes, **sizes}), tmp_path / "model")
    refused(folder, words)
    with pytest.raises(ModelError, match=words):
        load_saved(ModelSettings(path=str(tmp_path / "model"), **CPU), folder)


def test_an_adapter_that_leaves_layers_out_is_one_of_another_base(adapter, tmp_path: Path):
    """As other tools write them: layers by the last part of their names."""
    settings, folder = adapter()
    config = json.loads((folder / "adapter_config.json").read_text())
    config["target_modules"] = sorted({n.rpartition(".")[2] for n in config["target_modules"]})
    (folder / "adapter_config.json").write_text(json.dumps(config))
    load_saved(settings, folder)
    (folder / "u2a.json").unlink()
    family = FAMILIES["llama3"]
    saved(replace(family, sizes={**family.sizes, "num_hidden_layers": 3}), tmp_path / "model")
    short = r"missing adapter keys, its file holds none for some of its layers\. Set model\.path"
    refused(folder, f"must fit its base model.*{short}")


def test_an_adapter_of_another_architecture(adapter, tmp_path: Path):
    _, folder = adapter()
    shutil.rmtree(tmp_path / "model")
    saved(FAMILIES["gpt2"], tmp_path / "model")
    short = r"got: it adapts layers that this model does not have\. Set model\.path to"
    refused(folder, rf"must fit its base model \S+; {short}")


def test_an_adapter_in_pickle(adapter, tmp_path: Path):
    _, folder = adapter()
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    refused(folder, r"must be safetensors; got adapter_model\.bin")


def test_an_adapter_is_a_start_and_is_trained_on(adapter):
    """Its terms are in the weights; another adapter is put over them."""
    settings, folder = adapter()
    start = load_policy(settings.model_copy(update={"path": str(folder)}))
    ids = torch.arange(4, 12)[None]
    with torch.no_grad():
        torch.testing.assert_close(
            start.model(ids).logits, load_saved(settings, folder).model(ids).logits
        )
    assert any(p.requires_grad for p in start.model.parameters())


def test_an_adapter_over_an_adapter_names_the_one_below(adapter, tmp_path: Path):
    """Read again it is put on that one; on the model alone it would be another model."""
    settings, folder = adapter()
    above = settings.model_copy(update={"path": str(folder)})
    policy = load_policy(above)
    for name, p in policy.model.named_parameters():
        if "lora_B" in name:
            p.data.normal_(std=0.1)
    save_policy(policy, tmp_path / "second", provenance={})
    ids = torch.arange(4, 12)[None]
    alone = ModelSettings(path=str(tmp_path / "second"), **CPU)
    with torch.no_grad():
        expected = policy.model(ids).logits
        for again in (load_saved(above, tmp_path / "second"), load_policy(alone)):
            torch.testing.assert_close(again.model(ids).logits, expected)
    assert json.loads((tmp_path / "second" / "u2a.json").read_text())["start_adapter"] == str(
        folder
    )


def test_a_language_model_is_no_reward_model(folder: Path):
    with pytest.raises(ModelError, match="saved without a score head"):
        RewardModel.load(str(folder), ModelSettings(**CPU))


@pytest.mark.parametrize("kind", ["8bit", "4bit"])
def test_quantization_needs_a_gpu_and_its_extra(folder: Path, kind: str):
    asked = {"quantize": kind, "parameters": "lora", "lora_slopes": "adapter"}
    refused(folder, rf"model\.quantize {kind} must have a CUDA device.*\[quant\]", **asked)


@pytest.mark.parametrize("other", [{"parameters": "full"}, {"lora_slopes": "weights"}])
def test_quantized_weights_have_no_slopes(other: dict):
    asked = {"quantize": "4bit", "parameters": "lora", "lora_slopes": "adapter"} | other
    with pytest.raises(ConfigError, match="must go with parameters lora and lora_slopes adapter"):
        parse_settings({"model": asked}, source="test")


def test_what_bitsandbytes_is_told():
    eight, four = (quantization_config(kind, torch.bfloat16) for kind in ("8bit", "4bit"))
    assert (eight.load_in_8bit, eight.load_in_4bit) == (True, False)
    assert (four.load_in_4bit, four.bnb_4bit_quant_type) == (True, "nf4")
    assert four.bnb_4bit_compute_dtype == torch.bfloat16
    assert four.bnb_4bit_use_double_quant


def test_flash_attention_that_is_not_there_and_a_kernel_that_a_model_lacks(folder: Path, tmp_path):
    refused(folder, "flash_attention_2 must have a CUDA device", attention="flash_attention_2")
    gemma = saved(FAMILIES["gemma2"], tmp_path / "gemma")
    refused(gemma, "model.attention must be offered by", attention="sdpa")


def test_a_chosen_kernel_is_used_and_gives_the_same_numbers(folder: Path):
    ids = torch.arange(4, 12)[None]
    found = {}
    for kernel in ("eager", "sdpa"):
        policy = load_policy(ModelSettings(path=str(folder), attention=kernel, **CPU))
        assert policy.model.config._attn_implementation == kernel
        found[kernel] = policy.model(ids).logits
    torch.testing.assert_close(found["eager"], found["sdpa"], atol=1e-4, rtol=1e-4)
