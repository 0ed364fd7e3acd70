"""The policy: loading, the parameters that unlearning may move, saving."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from u2a_core import params
from u2a_core.config import ModelSettings
from u2a_core.errors import ConfigError, ModelError
from u2a_core.models.loading import load_tokenizer, pretrained

LONGEST = 1024
"""Tokens of a prompt plus reply where neither the settings nor the model say less."""
_TINY = 10_000_000
"""Parameters."""
_OWN_THREADS = torch.get_num_threads()


@dataclass(frozen=True)
class Policy:
    """A causal language model ready to be unlearned, and what belongs to it.

    Attributes:
        model: in evaluation mode (dropout stays off while unlearning); its trainable parameters
            are the ones that unlearning may move.
        tokenizer: with a chat template.
        settings: how it was loaded.
    """

    model: nn.Module
    tokenizer: Any
    settings: ModelSettings

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.model.parameters()).device

    @property
    def max_length(self) -> int:
        """Longest prompt plus reply, in tokens."""
        return length_limit(self.settings, context_length(self.model))

    @property
    def slopes_see(self) -> tuple[str, ...]:
        """Names of the parameters in whose space slopes are taken.

        The trained ones; for an adapter the weights that it adapts, unless the settings say
        otherwise: at B = 0 the adapter's A has no slope.
        """
        if self.settings.parameters == "lora" and self.settings.lora_slopes == "weights":
            return adapted_weights(self.model)
        return tuple(params.trainable(self.model))

    @property
    def pad_id(self) -> int:
        """The id that fills padded positions; they are never attended to nor scored."""
        return int(self.tokenizer.pad_token_id or 0)


def choose_device(name: str) -> torch.device:
    """`auto` → CUDA, then Apple's MPS, then the CPU."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"model.device must be a device of this machine; got {name!r} ({reason})."
        ) from error
    return device


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """`auto` → bfloat16 on a GPU that computes in it, else float32."""
    if name == "auto":
        half = device.type == "cuda" and torch.cuda.is_bf16_supported()
        return torch.bfloat16 if half else torch.float32
    dtype = getattr(torch, name)
    assert isinstance(dtype, torch.dtype)
    return dtype


def use_threads(wanted: int, model: nn.Module) -> None:
    """How many CPU threads torch computes with.

    Args:
        wanted: so many; 0: one for a tiny model, whose threads mostly wait for each other (on a
            busy machine twenty times as long), else as many as torch began with.
        model: that will be computed with.
    """
    tiny = sum(parameter.numel() for parameter in model.parameters()) < _TINY
    torch.set_num_threads(wanted or (1 if tiny else _OWN_THREADS))


def load_policy(settings: ModelSettings, *, weights: str = "") -> Policy:
    """The policy with its trainable parameters chosen.

    Args:
        settings: which model, and what is trained of it.
        weights: another model, whose weights are taken instead; with the first one's tokenizer, so
            that both read the same tokens. A base model often has no chat template of its own.

    Raises:
        ModelError: if the folder holds no model, tokenizer or chat template, or NaN weights.
    """
    from transformers import AutoModelForCausalLM

    if not settings.path:
        raise ConfigError("model.path must name a model folder or hub id; got nothing.")
    device = choose_device(settings.device)
    tokenizer = load_tokenizer(settings.path)
    check_template(tokenizer, settings.path)
    dtype = choose_dtype(settings.dtype, device)
    path = weights or settings.path
    model = pretrained(AutoModelForCausalLM, path, dtype).to(device).eval()
    check_finite(model, path)
    _check_vocabulary(model, tokenizer, path)
    _check_context(model, settings)
    return Policy(with_trainable(model, settings), tokenizer, settings)


def check_template(tokenizer: Any, path: str) -> None:
    """Refuses a tokenizer that does not know how a conversation is written."""
    if not tokenizer.chat_template:
        raise ModelError(
            f"The tokenizer of {path} must have a chat template; got none. "
            "Add chat_template.jinja to the folder, or use the chat version of the model."
        )


def hide_loading_bars() -> None:
    """For jobs, which tell their own progress."""
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]


def check_finite(model: nn.Module, path: str) -> None:
    """Refuses a model with NaN or infinite weights."""
    for name, parameter in model.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            raise ModelError(
                f"The model's weights must be finite; got NaN or infinity in {name} of {path}. "
                "Download or save the model again."
            )


def _check_vocabulary(model: nn.Module, tokenizer: Any, path: str) -> None:
    embedding = model.get_input_embeddings()  # type: ignore[operator]
    if len(tokenizer) > embedding.num_embeddings:
        raise ModelError(
            f"The model must have an embedding for each of the tokenizer's {len(tokenizer)} "
            f"tokens; got {embedding.num_embeddings} in {path}. Use the model's own tokenizer."
        )


def context_length(model: nn.Module) -> int | None:
    """The most tokens that the model's positions allow, where its config says so."""
    return context_of(getattr(model, "config", None))


def context_of(config: Any) -> int | None:
    """The same of a configuration."""
    found = getattr(config, "max_position_embeddings", None)
    return int(found) if found else None


def length_limit(settings: ModelSettings, context: int | None) -> int:
    """Longest prompt plus reply, in tokens."""
    return settings.max_length or min(context or LONGEST, LONGEST)


def _check_context(model: nn.Module, settings: ModelSettings) -> None:
    context = context_length(model)
    if context is not None and settings.max_length > context:
        raise ConfigError(
            f"model.max_length must be at most the model's context of {context} tokens; got "
            f"{settings.max_length}. Set model.max_length to {context}: longer replies are cut."
        )


def with_trainable(model: nn.Module, settings: ModelSettings) -> nn.Module:
    """Marks the parameters that unlearning may move; wraps the model for LoRA."""
    if settings.parameters == "lora":
        from peft import LoraConfig, get_peft_model

        config = LoraConfig(
            r=settings.lora_rank,
            lora_alpha=settings.lora_alpha,
            target_modules=_linear_layers(model) if settings.lora_head else "all-linear",
            task_type="CAUSAL_LM",
        )
        with warnings.catch_warnings():  # peft reads a name that transformers has replaced
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
            # the adapter of a tied head is a term of its own beside the embedding, and meant so
            warnings.filterwarnings("ignore", "Model has `tie_word_embeddings=True`", UserWarning)
            return get_peft_model(model, config).eval()
    model.requires_grad_(settings.parameters == "full")
    if settings.parameters == "last_n":
        layers = max(
            (m for m in model.modules() if isinstance(m, nn.ModuleList)), key=len, default=None
        )
        if layers is None or len(layers) < settings.last_layers:
            raise ConfigError(
                f"model.last_layers must be at most the model's {len(layers or ())} layers; "
                f"got {settings.last_layers}."
            )
        for layer in list(layers)[-settings.last_layers :]:
            layer.requires_grad_(True)
    return model


def adapted_weights(model: nn.Module) -> tuple[str, ...]:
    """Names of the frozen weights to which an adapter adds."""
    # by identity: a tied output embedding bears the name of the input's
    layers = [m.base_layer for m in model.modules() if hasattr(m, "lora_A")]
    own = {id(getattr(layer, "weight", None)) for layer in layers}
    return tuple(name for name, p in model.named_parameters() if id(p) in own)


def _linear_layers(model: nn.Module) -> list[str]:
    """The last parts of the names of all linear layers, the output embedding included."""
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    return sorted({name.rpartition(".")[2] for name in linear})


def save_policy(policy: Policy, folder: Path, *, provenance: dict[str, Any]) -> None:
    """Writes the trained model: a PEFT adapter for LoRA, else a whole model folder."""
    model: Any = policy.model
    # an adapted head is a matrix product beside the embedding: the embedding itself is not saved
    only = {"save_embedding_layers": False} if policy.settings.parameters == "lora" else {}
    model.save_pretrained(folder, safe_serialization=True, **only)
    policy.tokenizer.save_pretrained(folder)
    note = {**provenance, "parameters": len(params.trainable(policy.model))}
    (folder / "u2a.json").write_text(json.dumps(note, indent=2), encoding="utf-8")
