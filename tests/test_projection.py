"""Logits in parts: the same losses, gradients and slopes, and memory that does not grow."""

import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from u2a_core import losses, params
from u2a_core.directional import exact_slopes, slopes
from u2a_core.losses import GradientAscent, response_log_probs
from u2a_core.testing import random_batch

SMALL = {
    "vocab_size": 61, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 8,
    "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"tie_word_embeddings": False},
    "qwen2": {"tie_word_embeddings": True},
    "gemma2": {"final_logit_softcapping": 2.0},
    "granite": {"logits_scaling": 8.0},
    "cohere": {"logit_scale": 0.3},
    "gpt2": {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64},
    "gpt_neox": {"tie_word_embeddings": False},
}


def made(family: str) -> torch.nn.Module:
    torch.manual_seed(0)
    own = {"vocab_size": 61} if family == "gpt2" else dict(SMALL)
    config = CONFIG_MAPPING[family](**{**own, **FAMILIES[family]})
    return AutoModelForCausalLM.from_config(config).double().eval()


def found(model: torch.nn.Module) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    batch = random_batch(6, vocabulary=61, longest=14)
    values = GradientAscent()(response_log_probs(model, batch))
    return values.detach(), params.gradient(values.sum(), params.trainable(model))


def plain(model: torch.nn.Module) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The whole logits of the model's own forward pass, nothing left out."""
    batch = random_batch(6, vocabulary=61, longest=14)
    log_probs = model(input_ids=batch.input_ids).logits.log_softmax(-1)
    picked = log_probs[:, :-1].gather(-1, batch.labels[:, 1:, None].clamp_min(0)).squeeze(-1)
    known = batch.labels[:, 1:] != -100
    values = (picked * known).sum(1) / known.sum(1)
    return values.detach(), params.gradient(values.sum(), params.trainable(model))


@pytest.mark.parametrize("together", [61, 5 * 61, 2**25])
@pytest.mark.parametrize("family", FAMILIES)
def test_losses_and_gradients_are_those_of_the_whole_logits(
    family: str, together: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(losses, "TOGETHER", together)
    model = made(family)
    (values, gradient), (expected, wanted) = found(model), plain(model)
    torch.testing.assert_close(values, expected, rtol=1e-9, atol=1e-12)
    for name, tensor in gradient.items():
        torch.testing.assert_close(tensor, wanted[name], rtol=1e-7, atol=1e-10, msg=name)
    assert any(bool(tensor.any()) for tensor in gradient.values())


# peft's own, as u2a_core.models.policy says
ADAPTED = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing`:FutureWarning", "ignore:Model has `tie_word:UserWarning"
)


@ADAPTED
@pytest.mark.parametrize("together", [61, 5 * 61])
@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("family", ["qwen2", "gemma2", "gpt2"])
def test_slopes_are_the_same_in_parts(
    family: str, lora: bool, together: int, monkeypatch: pytest.MonkeyPatch
):
    """An adapter on the head, too, whose own layers see the parts."""
    model = made(family)
    if lora:
        head = "lm_head"
        model = get_peft_model(
            model, LoraConfig(r=2, target_modules=[head], init_lora_weights=False)
        ).double()
    generator = torch.Generator().manual_seed(1)
    along = {
        name: torch.randn(p.shape, generator=generator, dtype=torch.float64)
        for name, p in params.trainable(model).items()
    }
    batches = [random_batch(6, vocabulary=61, longest=14)]
    whole = slopes(model, batches, GradientAscent(), along=along)
    monkeypatch.setattr(losses, "TOGETHER", together)
    parts = slopes(model, batches, GradientAscent(), along=along)
    torch.testing.assert_close(parts, whole, rtol=1e-9, atol=1e-12)
    exact = exact_slopes(model, batches, GradientAscent(), along=along)
    torch.testing.assert_close(parts, exact, rtol=1e-8, atol=1e-10)


@ADAPTED
def test_slopes_of_a_heads_adapter_where_responses_have_as_many_tokens_as_a_row():
    """The head's (1, responses, …) must not pass for an output that all rows share."""
    model = get_peft_model(
        made("llama"), LoraConfig(r=2, target_modules=["lm_head"], init_lora_weights=False)
    ).double()
    batch = random_batch(2, vocabulary=61, longest=4)
    labels = batch.input_ids.clone()
    labels[:, :2] = -100
    batch = replace(batch, labels=labels)
    assert int((labels != -100).sum()) == labels.shape[1]
    along = {name: torch.ones_like(p) for name, p in params.trainable(model).items()}
    ours = slopes(model, [batch], GradientAscent(), along=along)
    torch.testing.assert_close(ours, exact_slopes(model, [batch], GradientAscent(), along=along))


_PEAK = """
import resource, sys, torch
from transformers import LlamaConfig, LlamaForCausalLM
from u2a_core import params
from u2a_core.losses import response_log_probs
from u2a_core.types import Batch
prompt, reply, mode = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
torch.manual_seed(0)
model = LlamaForCausalLM(LlamaConfig(vocab_size=100_000, hidden_size=16, intermediate_size=32,
    num_hidden_layers=1, num_attention_heads=1, max_position_embeddings=8192)).eval()
ids = torch.randint(3, 100_000, (1, prompt + reply))
labels = ids.clone()
labels[:, :prompt] = -100
batch = Batch(input_ids=ids, attention_mask=torch.ones_like(ids), labels=labels,
    index=torch.tensor([0]))
def work(batch):
    if mode == "value":
        with torch.no_grad():
            response_log_probs(model, batch).values.sum()
    else:
        params.gradient(response_log_probs(model, batch).values.sum(), params.trainable(model))
work(batch.select(torch.tensor([True])) if mode == "value" else batch)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


def peak(prompt: int, reply: int, mode: str) -> int:
    call = [sys.executable, "-W", "ignore", "-c", _PEAK, str(prompt), str(reply), mode]
    return int(subprocess.run(call, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak as Linux counts it")
@pytest.mark.parametrize("mode", ["value", "gradient"])
def test_the_peak_does_not_grow_with_vocabulary_times_tokens(mode: str):
    """Logits of 3,000 more tokens of a prompt would take 1.2 GB, of 1,200 of a reply .5 GB."""
    few = peak(100, 400, mode)
    assert peak(3100, 400, mode) - few < 0.2e9
    assert peak(100, 1600, mode) - few < 0.2e9
