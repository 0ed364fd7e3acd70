"""Which parameters unlearning may move: all, the last layers, or an adapter's."""

from __future__ import annotations

from typing import Any

from torch import nn

from u2a_core.config import ModelSettings
from u2a_core.errors import ConfigError
from u2a_core.models.kernels import beside_text, layers_of
from u2a_core.models.loading import quiet_peft


def with_trainable(model: nn.Module, settings: ModelSettings) -> nn.Module:
    """Marks the parameters that unlearning may move; wraps the model for LoRA.

    What reads images beside the text is never among them.
    """
    if settings.parameters == "lora":
        from peft import LoraConfig, get_peft_model

        config = LoraConfig(
            revision=_commit(model),
            r=settings.lora_rank,
            lora_alpha=settings.lora_alpha,
            target_modules=lora_targets(model, head=settings.lora_head),
            task_type="CAUSAL_LM",
        )
        with quiet_peft():
            adapted = get_peft_model(model, config).eval()
        _own_head(adapted.get_base_model())
        return adapted
    model.requires_grad_(False)
    if settings.parameters == "full":
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(not beside_text(name))
        return model
    if settings.parameters == "last_n":
        layers = layers_of(model)
        if layers is None or len(layers) < settings.last_layers:
            raise ConfigError(
                f"model.last_layers must be at most the model's {len(layers or ())} layers; "
                f"got {settings.last_layers}."
            )
        for layer in list(layers)[-settings.last_layers :]:
            layer.requires_grad_(True)
    return model


def _commit(model: nn.Module) -> str | None:
    """The commit of the hub that a model was loaded from, by which its adapter names it."""
    return getattr(model.config, "_commit_hash", None) or None


def lora_targets(model: nn.Module, *, head: bool) -> list[str] | str:
    """What an adapter adds to: every linear layer, fused and transposed ones included.

    Args:
        model: of any family: LLaMA's q_proj, Phi-3's qkv_proj and gate_up_proj, GPT-NeoX's
            query_key_value, GPT-2's c_attn.
        head: whether the output embedding is one of them.

    Returns:
        Last parts of names; full names where some layers read images and are left out; without the
        head peft's `all-linear`.
    """
    linear = [name for name, module in model.named_modules() if _is_linear(module)]
    text = [name for name in linear if not beside_text(name)]
    if len(text) < len(linear):
        own: Any = model.get_output_embeddings()  # type: ignore[operator]
        modules = dict(model.named_modules())
        return [name for name in text if head or modules[name] is not own]
    return sorted({name.rpartition(".")[2] for name in linear}) if head else "all-linear"


def _own_head(model: Any) -> None:
    """Makes an adapted head's weight a parameter of its own where it is tied, in the same memory.

    The adapter's term beside the head does not move the input embedding, whose part in the losses'
    gradients slopes must not see.
    """
    base = getattr(model.get_output_embeddings(), "base_layer", None)
    if base is not None and base.weight is model.get_input_embeddings().weight:
        base.weight = nn.Parameter(base.weight.detach(), requires_grad=False)


def adapted_weights(model: nn.Module) -> tuple[str, ...]:
    """Names of the frozen weights to which an adapter adds."""
    layers = [m.base_layer for m in model.modules() if hasattr(m, "lora_A")]
    own = {id(getattr(layer, "weight", None)) for layer in layers}
    return tuple(name for name, p in model.named_parameters() if id(p) in own)


def _is_linear(module: nn.Module) -> bool:
    from transformers.pytorch_utils import Conv1D

    return isinstance(module, nn.Linear | Conv1D)
