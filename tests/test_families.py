"""Every family of models, by path through the real code: slopes, commands, the written model."""

import copy
import gc
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from families import FAMILIES, model_of, saved
from torch import nn

from u2a_core import params
from u2a_core.cli import main
from u2a_core.config import ModelSettings, load_settings
from u2a_core.directional import exact_slopes, identity_error, slopes
from u2a_core.losses import NPO, GradientAscent, sequence_log_probs
from u2a_core.models import Policy, load_policy, load_saved
from u2a_core.models.kernels import checkpoint_activations
from u2a_core.models.trained import adapted_weights, with_trainable
from u2a_core.runs import Run
from u2a_core.testing import random_batch
from u2a_core.types import Batch

VOCABULARY = 40
COUNTS = {"negatives": 6, "preferences": 4, "retain": 4, "test_prompts": 3}


def ragged() -> list[Batch]:
    shapes = {"vocabulary": VOCABULARY, "longest": 13}
    return [random_batch(3, **shapes), random_batch(4, start=3, seed=1, **shapes)]


def adapted(model: nn.Module, **changes: object) -> nn.Module:
    """With an adapter whose B is not zero, or A's slopes would be."""
    model = with_trainable(model, ModelSettings(parameters="lora", lora_rank=3, **changes))
    for name, p in params.trainable(model).items():
        if "lora_B" in name:
            p.data.normal_(std=0.2)
    return model


def far_reference(model: nn.Module, batches: list[Batch]) -> NPO:
    """A reference away from the policy, so that the factors σ(·) differ between samples."""
    reference = sequence_log_probs(model, batches)
    return NPO(0.5, reference + torch.linspace(-3, 3, len(reference)))


def direction(model: nn.Module) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        n: torch.randn(p.shape, generator=generator) for n, p in params.trainable(model).items()
    }


def spread(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).abs().max() / expected.square().mean().sqrt())


@pytest.mark.parametrize("which", ["full", "lora", "weights"])
@pytest.mark.parametrize("name", FAMILIES)
def test_slopes_are_those_of_the_exact_loop(name: str, which: str):
    """Without a fallback to that loop, which would warn; and by the identity of their sum."""
    model = model_of(FAMILIES[name], VOCABULARY)
    model = adapted(model) if which != "full" else model
    seen = adapted_weights(model) if which == "weights" else tuple(params.trainable(model))
    batches = ragged()
    loss = far_reference(model, batches)
    with params.training(model, seen):
        along = direction(model)
        found = slopes(model, batches, loss, along=along)
        assert spread(found, exact_slopes(model, batches, loss, along=along)) < 1e-3
        assert identity_error(model, batches, loss, along=along, slopes=found) < 1e-4


@pytest.mark.parametrize("name", ["qwen2.5", "gemma2", "gpt2"])
def test_slopes_of_an_adapted_head_do_not_see_the_embedding_it_is_tied_to(name: str):
    """They are those of the same model with a head of its own: there the adapter's term is."""
    tied = model_of(FAMILIES[name], VOCABULARY)
    assert tied.get_output_embeddings().weight is tied.get_input_embeddings().weight
    apart = copy.deepcopy(tied)
    apart.get_output_embeddings().weight = nn.Parameter(tied.get_output_embeddings().weight.clone())
    found = []
    for model in (tied, apart):
        torch.manual_seed(0)
        own: Any = adapted(model)
        head, embedding = (f(own.get_base_model()) for f in (output_head, input_embedding))
        assert (head.data_ptr() == embedding.data_ptr()) == (model is tied)  # no second copy
        seen = adapted_weights(own)
        assert any(id(p) == id(head) for n, p in own.named_parameters() if n in seen)
        assert not any(id(p) == id(embedding) for n, p in own.named_parameters() if n in seen)
        with params.training(own, seen):
            batches = ragged()
            loss = far_reference(own, batches)
            found.append(slopes(own, batches, loss, along=direction(own)))
    torch.testing.assert_close(found[0], found[1])


def output_head(model: Any) -> nn.Parameter:
    return model.get_output_embeddings().base_layer.weight


def input_embedding(model: Any) -> nn.Parameter:
    return model.get_input_embeddings().weight


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", ["gemma3", "qwen3", "gpt2", "pythia"])
def test_half_precision_keeps_the_order_of_the_slopes(name: str, dtype: str, tmp_path: Path):
    """Loaded by path in that format; correlation with the slopes in float32 above .98."""
    found = {}
    path = str(saved(FAMILIES[name], tmp_path))
    batches = ragged()
    for kind in ("float32", dtype):
        policy = load_policy(ModelSettings(path=path, device="cpu", dtype=kind))
        assert next(policy.model.parameters()).dtype == getattr(torch, kind)
        v = {n: t.to(policy.model.dtype) for n, t in direction(policy.model).items()}
        found[kind] = slopes(policy.model, batches, GradientAscent(), along=v)
    assert float(torch.corrcoef(torch.stack([found["float32"], found[dtype]]))[0, 1]) > 0.98


@pytest.mark.parametrize("name", FAMILIES)
def test_checkpointing_changes_neither_gradients_nor_slopes(name: str):
    plain, again = (adapted(model_of(FAMILIES[name], VOCABULARY)) for _ in range(2))
    params.load(again, params.snapshot(params.trainable(plain)))
    batches = ragged()
    loss = far_reference(plain, batches)
    along = direction(plain)
    checkpoint_activations(again)
    from u2a_core.losses import response_log_probs

    values = [loss(response_log_probs(m, batches[0])).sum() for m in (plain, again)]
    gradients = [
        params.gradient(v, params.trainable(m)) for v, m in zip(values, (plain, again), strict=True)
    ]
    for key, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][key], gradient)
    expected = slopes(plain, batches, loss, along=along)
    torch.testing.assert_close(slopes(again, batches, loss, along=along), expected)


@pytest.mark.parametrize("name", ["llama3", "gpt2", "pythia"])
def test_checkpointing_holds_fewer_activations(name: str):
    """Bytes that autograd holds between the passes: less than half in a model of two layers."""

    def held(model: nn.Module) -> int:
        total = 0

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal total
            total += 0 if isinstance(tensor, nn.Parameter) else tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            model(input_ids=ragged()[1].input_ids, use_cache=False).logits.sum()
        return total

    plain, again = (model_of(FAMILIES[name], VOCABULARY) for _ in range(2))
    checkpoint_activations(again)
    assert held(again) < held(plain) / 2


@pytest.mark.parametrize("head", [True, False])
@pytest.mark.parametrize("name", FAMILIES)
def test_an_adapter_reaches_every_linear_layer(name: str, head: bool):
    from transformers.pytorch_utils import Conv1D

    model = model_of(FAMILIES[name], VOCABULARY)
    linear = {n for n, m in model.named_modules() if isinstance(m, nn.Linear | Conv1D)}
    own = next(n for n, m in model.named_modules() if m is model.get_output_embeddings())
    wrapped = adapted(model, lora_head=head)
    reached = {
        n.removeprefix("base_model.model.")
        for n, m in wrapped.named_modules()
        if hasattr(m, "lora_A")
    }
    assert reached == (linear if head else linear - {own})


def test_what_reads_images_is_left_alone():
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration, SiglipVisionConfig

    text = model_of(FAMILIES["gemma3"], VOCABULARY).config
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 3}
    vision = SiglipVisionConfig(num_attention_heads=2, image_size=28, patch_size=14, **sizes)
    config = Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4)
    for settings in (ModelSettings(), ModelSettings(parameters="last_n"),
                     ModelSettings(parameters="lora")):  # fmt: skip
        model = with_trainable(Gemma3ForConditionalGeneration(config).eval(), settings)
        names = set(params.trainable(model))
        assert names
        assert not any("vision" in name or "multi_modal" in name for name in names)


@pytest.fixture
def project(scenario: Path, tmp_path: Path) -> Callable[[str], Path]:
    """A user's folder: a family's model, a few records, a reward that varies."""

    def made(name: str) -> Path:
        saved(FAMILIES[name], tmp_path / "model")
        for kind, count in COUNTS.items():
            lines = (scenario.parent / "data" / f"{kind}.jsonl").read_text().splitlines()
            (tmp_path / f"{kind}.jsonl").write_text("\n".join(lines[:count]))
        (tmp_path / "letters.py").write_text(
            "def vowels(prompts, replies):\n"
            "    return [sum(c in 'aeiou' for c in r) / (1 + len(r)) for r in replies]\n"
        )
        settings = {
            "model": {"path": "model", "device": "cpu", "dtype": "float32", "lora_rank": 4,
                      "parameters": "lora" if FAMILIES[name].lora else "full"},
            "data": {"negatives": "negatives.jsonl", "preferences": "preferences.jsonl",
                     "retain": "retain.jsonl", "prompts": "test_prompts.jsonl"},
            "objective": {"reward": "letters:vowels", "samples": 2, "max_new_tokens": 6,
                          "splits": 0},
            "inner": {"steps": 3, "method": "npo", "learning_rate": 0.05, "lam_retain": 1.0},
            "outer": {"steps_per_round": 3}, "evaluation": {"samples": 1}, "threads": 1,
        }  # fmt: skip
        (tmp_path / "u2a.yaml").write_text(yaml.safe_dump(settings))
        return tmp_path / "u2a.yaml"

    return made


def logits(model: nn.Module) -> torch.Tensor:
    ids = torch.arange(5, 29).reshape(2, 12)
    with torch.no_grad():
        return model(input_ids=ids).logits.clone()


def by_the_libraries(folder: Path, original: Path) -> nn.Module:
    """The written model as anyone loads it, without this project."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    if not (folder / "adapter_config.json").exists():
        return AutoModelForCausalLM.from_pretrained(folder).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return PeftModel.from_pretrained(
            AutoModelForCausalLM.from_pretrained(original), folder
        ).eval()


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_passes_every_command_and_its_model_loads_again(
    name: str, project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    config, written = project(name), dict[str, torch.Tensor]()
    from u2a_core.commands import descents

    save = descents.save_policy

    def remembering(policy: Policy, folder: Path, **facts: object) -> None:
        written[folder.parent.name.lstrip(".")] = logits(policy.model)
        save(policy, folder, **facts)

    monkeypatch.setattr(descents, "save_policy", remembering)
    assert main(["data", str(config), "--preview", "1", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)["preview"]
    assert all(sample["response"] > 0 for sample in shown if sample["reply"])
    for command in ("gains", "reweight", "unlearn"):
        out = tmp_path / "runs" / command
        assert main([command, str(config), "--out", str(out)]) == 0, capsys.readouterr().err
    gains = Run.open(tmp_path / "runs" / "gains")
    assert gains.table("gains")["gain"].notna().all()
    assert gains.table("gains")["gain"].abs().max() > 0
    assert gains.report()["identity_error"] < 1e-3
    before = logits(by_the_libraries(tmp_path / "model", tmp_path / "model"))
    for command in ("reweight", "unlearn"):
        run = Run.open(tmp_path / "runs" / command)
        (kept,) = [v for k, v in written.items() if k == command]
        theirs = by_the_libraries(run.model_folder, tmp_path / "model")
        ours = load_saved(load_settings(config).model, run.model_folder).model
        torch.testing.assert_close(logits(theirs), kept)
        torch.testing.assert_close(logits(ours), kept)
        assert run.report()["steps"] == 0 or not torch.equal(kept, before)
        merged = tmp_path / "exported" / command
        assert main(["export", str(run.path), "--to", str(merged), "--merged"]) == 0
        exported = by_the_libraries(merged, tmp_path / "model")
        torch.testing.assert_close(logits(exported), kept, rtol=1e-4, atol=1e-4)
    told = " ".join(gains.report()["warnings"])
    assert ("fallback named plain" in told) == (not FAMILIES[name].template)


@pytest.mark.parametrize(
    "words",
    [
        ["unlearn", "--inner.method", "npo"],
        ["reweight", "--objective.kind", "preference"],
        ["baseline", "--baseline.method", "dpo", "--baseline.steps", "2"],
        ["baseline", "--baseline.method", "ppo", "--baseline.steps", "1"],
    ],
    ids=lambda words: words[2],
)
def test_the_reference_is_never_a_second_copy(
    words: list[str], project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """One model is loaded and one is in memory: the reference's log-probabilities are constants."""
    from transformers import LlamaForCausalLM

    from u2a_core.commands import baselines, descents
    from u2a_core.models import policy

    def alive() -> int:
        gc.collect()
        return sum(type(found) is LlamaForCausalLM for found in gc.get_objects())

    config, loads, found = project("llama3"), list[str](), list[int]()
    before, load = alive(), policy.pretrained

    def counting(family: object, path: str, *args: object, **options: object) -> nn.Module:
        loads.append(path)
        return load(family, path, *args, **options)

    monkeypatch.setattr(policy, "pretrained", counting)
    for module in (baselines, descents):
        monkeypatch.setattr(module, "save_policy", lambda *_, **__: found.append(alive() - before))
    monkeypatch.setattr(Run, "save_model", lambda self, write: write(self.model_folder))
    command, *changes = words
    assert main([command, str(config), *changes, "--out", str(tmp_path / "run")]) == 0
    assert (len(loads), found) == (1, [1])


def test_a_run_with_activation_checkpointing_is_the_same_run(project, tmp_path: Path):
    config, weights = project("qwen3"), []
    for value in ("false", "true"):
        out = tmp_path / value
        words = ["--model.activation_checkpointing", value, "--out", str(out)]
        assert main(["unlearn", str(config), *words]) == 0
        model = load_saved(load_settings(config).model, Run.open(out).model_folder).model
        weights.append(logits(model))
    torch.testing.assert_close(weights[0], weights[1])
