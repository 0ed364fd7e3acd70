"""Slopes: one batched pass against the per-sample loop, and against finite differences."""

import warnings
from itertools import chain

import pytest
import torch
from torch import nn

from u2a_core import params
from u2a_core.directional import exact_slopes, identity_error, slopes
from u2a_core.errors import ConfigError
from u2a_core.losses import NPO, GradientAscent, per_sample_losses, sequence_log_probs
from u2a_core.testing import TinyPolicy, random_batch
from u2a_core.types import Batch, PerSampleLoss

Parameters = dict[str, torch.Tensor]

VOCABULARY = 24


def architecture(name: str, *, tied: bool = False) -> nn.Module:
    """A random model of a few thousand parameters, as a user's folder would give it."""
    from transformers import (
        GPT2Config,
        GPT2LMHeadModel,
        LlamaConfig,
        LlamaForCausalLM,
        Qwen2Config,
        Qwen2ForCausalLM,
    )

    torch.manual_seed(0)
    if name == "gpt2":
        sizes = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32}
        return GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, **sizes)).eval()
    family = {
        "llama": (LlamaConfig, LlamaForCausalLM),
        "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    }
    config, model = family[name]
    return model(
        config(
            vocab_size=VOCABULARY,
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=32,
            initializer_range=0.3,
            tie_word_embeddings=tied,
        )
    ).eval()


def trained(model: nn.Module, which: str) -> nn.Module:
    """Marks what is trained; LoRA's B is not zero, or A's slopes would be."""
    if which == "last_layer":
        model.requires_grad_(False)
        layers = next(m for m in model.modules() if isinstance(m, nn.ModuleList))
        layers[-1].requires_grad_(True)
    if which == "lora":
        from peft import LoraConfig, get_peft_model

        config = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about tied weights
            model = get_peft_model(model, config).eval()
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.data.normal_(std=0.2)
    return model


def loss_of(name: str, model: nn.Module, batches: list[Batch]) -> PerSampleLoss:
    if name == "ga":
        return GradientAscent()
    # a reference away from the policy, so that the factors σ(·) differ between samples
    reference = sequence_log_probs(model, batches)
    return NPO(0.5, reference + torch.linspace(-3, 3, len(reference)))


def direction(model: nn.Module, seed: int = 1) -> Parameters:
    generator = torch.Generator().manual_seed(seed)
    theta = params.trainable(model)
    return {n: torch.randn(p.shape, generator=generator).to(p.dtype) for n, p in theta.items()}


def ragged(n: int = 9, longest: int = 14) -> list[Batch]:
    """Two batches of unequal lengths."""
    shapes = {"vocabulary": VOCABULARY, "longest": longest}
    return [random_batch(4, **shapes), random_batch(n - 4, start=4, seed=1, **shapes)]


def central_difference(
    model: nn.Module, batches: list[Batch], loss: PerSampleLoss, along: Parameters, step: float
) -> torch.Tensor:
    origin = params.snapshot(params.trainable(model))
    sides = []
    for sign in (1, -1):
        params.load(model, params.axpy(sign * step, along, origin))
        sides.append(per_sample_losses(model, batches, loss).double())
    params.load(model, origin)
    return (sides[0] - sides[1]) / (2 * step)


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Largest difference, relative to the root mean square of what is expected."""
    return float((found - expected).abs().max() / expected.square().mean().sqrt())


@pytest.mark.parametrize("loss_name", ["ga", "npo"])
@pytest.mark.parametrize("which", ["full", "last_layer", "lora"])
@pytest.mark.parametrize("name", ["llama", "qwen2", "gpt2"])
def test_slopes_agree_with_the_exact_loop(name: str, which: str, loss_name: str) -> None:
    model = trained(architecture(name), which)
    batches = ragged()
    loss, along = loss_of(loss_name, model, batches), direction(model)
    found = slopes(model, batches, loss, along=along)  # a fallback to the loop would warn
    assert relative_error(found, exact_slopes(model, batches, loss, along=along)) < 1e-4
    assert identity_error(model, batches, loss, along=along, slopes=found) < 1e-5


@pytest.mark.parametrize("name", ["llama", "qwen2"])
def test_tied_embeddings_count_both_uses(name: str) -> None:
    model = architecture(name, tied=True)
    batches, loss, along = ragged(), GradientAscent(), direction(model)
    found = slopes(model, batches, loss, along=along)
    assert relative_error(found, exact_slopes(model, batches, loss, along=along)) < 1e-4


@pytest.mark.parametrize("loss_name", ["ga", "npo"])
@pytest.mark.parametrize("which", ["full", "lora"])
def test_slopes_are_directional_derivatives(which: str, loss_name: str) -> None:
    model = trained(architecture("gpt2").double(), which).double()
    batches = ragged()
    loss, along = loss_of(loss_name, model, batches), direction(model)
    expected = central_difference(model, batches, loss, along, step=1e-5)
    assert relative_error(slopes(model, batches, loss, along=along), expected) < 1e-6


def test_tiny_policy_has_the_slopes_of_its_losses() -> None:
    model, batches = TinyPolicy(vocabulary=VOCABULARY), ragged(longest=7)
    loss, along = loss_of("npo", model, batches), direction(model)
    expected = central_difference(model, batches, loss, along, step=1e-6)
    assert relative_error(slopes(model, batches, loss, along=along), expected) < 1e-7


def test_padded_equals_alone_and_batch_of_eight_equals_eight() -> None:
    model = architecture("qwen2")
    batch = random_batch(8, vocabulary=VOCABULARY, longest=14)
    alone = [batch.select(batch.index == i) for i in range(8)]
    loss, along = loss_of("npo", model, [batch]), direction(model)
    together = slopes(model, [batch], loss, along=along)
    assert relative_error(slopes(model, alone, loss, along=along), together) < 1e-4


def test_order_of_batches_does_not_matter() -> None:
    model, (first, second) = architecture("llama"), ragged()
    along = direction(model)
    forward = slopes(model, [first, second], GradientAscent(), along=along)
    backward = slopes(model, [second, first], GradientAscent(), along=along)
    torch.testing.assert_close(forward, backward)


def test_slopes_are_linear_in_the_direction() -> None:
    model, batches = architecture("llama"), ragged()
    one, two = direction(model, 1), direction(model, 2)
    both = slopes(model, batches, GradientAscent(), along=params.axpy(3.0, one, two))
    parts = [slopes(model, batches, GradientAscent(), along=v) for v in (one, two)]
    assert relative_error(3 * parts[0] + parts[1], both) < 1e-4


def test_the_model_is_left_as_it_was() -> None:
    model = architecture("llama").train()
    batches, along = ragged(), direction(model)
    before = params.snapshot(params.trainable(model))
    slopes(model, batches, GradientAscent(), along=along)
    after = params.trainable(model)
    assert model.training
    assert before.keys() == after.keys()
    assert all(torch.equal(before[n], after[n]) and after[n].grad is None for n in before)
    hooks = chain.from_iterable(
        (*m._forward_hooks.values(), *m._forward_pre_hooks.values()) for m in model.modules()
    )
    assert not list(hooks)


def test_hooks_are_removed_when_the_loss_fails() -> None:
    model, batches = architecture("llama"), ragged()

    def broken(_: object) -> torch.Tensor:
        raise RuntimeError("broken loss")

    with pytest.raises(RuntimeError, match="broken loss"):
        slopes(model, batches, broken, along=direction(model))
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in model.modules())
    assert all(p.requires_grad for p in model.parameters())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("which", ["full", "lora"])
def test_slopes_on_the_gpu_agree_with_the_cpu(which: str) -> None:
    model, batches = trained(architecture("llama"), which), ragged()
    loss, along = loss_of("npo", model, batches), direction(model)
    expected = slopes(model, batches, loss, along=along)
    moved = [batch.to("cuda") for batch in batches]
    found = slopes(model.to("cuda"), moved, loss, along={n: v.cuda() for n, v in along.items()})
    assert relative_error(found.cpu(), expected) < 1e-3


class OutsideUse(TinyPolicy):
    """Uses a parameter that no called module owns."""

    def __init__(self) -> None:
        super().__init__(vocabulary=VOCABULARY)
        self.scale = nn.Parameter(torch.tensor(1.5, dtype=torch.float64))

    def forward(self, input_ids: torch.Tensor, **options: object):
        out = super().forward(input_ids, **options)
        out.logits = out.logits * self.scale
        return out


def test_a_parameter_used_outside_its_module_falls_back_to_the_loop() -> None:
    model, batches = OutsideUse(), ragged(longest=7)
    along = direction(model)
    with pytest.warns(UserWarning, match="exact per-sample loop"):
        found = slopes(model, batches, GradientAscent(), along=along)
    expected = central_difference(model, batches, GradientAscent(), along, step=1e-6)
    assert relative_error(found, expected) < 1e-6


def test_identity_error_sees_one_corrupted_slope() -> None:
    model, batches = architecture("llama"), ragged()
    along = direction(model)
    found = slopes(model, batches, GradientAscent(), along=along)
    found[3] *= 1.5
    error = identity_error(model, batches, GradientAscent(), along=along, slopes=found)
    assert error == pytest.approx(float(found[3].abs() / 3 / found.abs().sum()), rel=0.01)


@pytest.mark.parametrize("change", ["missing", "extra", "shape"])
def test_a_direction_of_another_space_is_refused(change: str) -> None:
    model = architecture("llama")
    along = direction(model)
    name = next(iter(along))
    if change == "missing":
        del along[name]
    elif change == "extra":
        along["other.weight"] = torch.ones(2)
    else:
        along[name] = along[name][:1]
    with pytest.raises(ConfigError, match="1 that differ"):
        slopes(model, ragged(), GradientAscent(), along=along)
