"""The policy: loading, the parameters that unlearning may move, saving."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from u2a_core import params
from u2a_core.config import ModelSettings
from u2a_core.data.encode import prompt_ids
from u2a_core.errors import ConfigError
from u2a_core.models.checks import check_causal, check_finite, check_vocabulary
from u2a_core.models.kernels import checkpoint_activations, loading_options
from u2a_core.models.loading import adapter_of, base_size, load_config, pretrained
from u2a_core.models.templates import chat_tokenizer, save_tokenizer
from u2a_core.models.trained import adapted_weights, with_trainable
from u2a_core.types import Prompt

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
        warnings: what must be told of it, a sentence each.
    """

    model: nn.Module
    tokenizer: Any
    settings: ModelSettings
    warnings: tuple[str, ...] = ()

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.model.parameters()).device

    @property
    def max_length(self) -> int:
        """Longest prompt plus reply, in tokens."""
        return length_limit(self.settings, context_length(self.model))

    def has_room(self, prompt: Prompt) -> bool:
        """Whether a prompt leaves room for a reply in `max_length` tokens."""
        return len(prompt_ids([prompt], self.tokenizer)[0]) < self.max_length

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
        torch.zeros(1, device=device).tolist()  # "meta" holds no numbers
    except (RuntimeError, AssertionError, ImportError) as error:
        unknown = isinstance(error, NotImplementedError)  # whose text is a page of torch's insides
        reason = f"this torch has no {name}" if unknown else str(error).splitlines()[0]
        raise ConfigError(
            "model.device (and objective.reward_device) must be a device of this machine; got "
            f"{name!r} ({reason}). With auto it is the best one there is."
        ) from error
    return device


def is_there(device: torch.device) -> bool:
    """Whether this machine has a graphics card; of other devices nothing is asked."""
    if device.type == "cuda":
        return torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count()
    return device.type != "mps" or torch.backends.mps.is_available()


def planned_device(name: str) -> torch.device:
    """For an estimate: also a graphics card that this machine lacks."""
    if re.fullmatch(r"(cuda|mps)(:\d{1,2})?", name) and not is_there(torch.device(name)):
        return torch.device(name)
    return choose_device(name)


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """`auto` → bfloat16 on a GPU that computes in it (or is planned with), else float32."""
    if name == "auto":
        known = is_there(device)
        half = device.type == "cuda" and (not known or torch.cuda.is_bf16_supported())
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
        ConfigError: if the settings ask for what this machine or model does not have.
        ModelError: if the folder holds no causal model or tokenizer, or NaN weights.
    """
    from transformers import AutoModelForCausalLM

    tokenizer, told = chat_tokenizer(settings)
    device = choose_device(settings.device)
    dtype = choose_dtype(settings.dtype, device)
    options = loading_options(settings, device, dtype)
    path, trust = weights or settings.path, settings.trust_remote_code
    config = load_config(path, trust=trust)
    check_causal(config, path)
    _check_context(context_of(config), settings)
    model = pretrained(AutoModelForCausalLM, path, dtype, trust=trust, **options)
    if "device_map" not in options:
        model = model.to(device)
    model = model.eval()
    check_finite(model, path)
    told += check_vocabulary(model, tokenizer, path)
    model = with_trainable(model, settings)
    if settings.activation_checkpointing:
        checkpoint_activations(model)
    return Policy(model, tokenizer, settings, told)


def hide_loading_bars() -> None:
    """For jobs, which tell their own progress."""
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]


def context_length(model: nn.Module) -> int | None:
    """The most tokens that the model's positions allow, where its config says so."""
    return context_of(getattr(model, "config", None))


def context_of(config: Any) -> int | None:
    """The same of a configuration."""
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    found = getattr(text, "max_position_embeddings", None)
    return int(found) if found else None


def length_limit(settings: ModelSettings, context: int | None) -> int:
    """Longest prompt plus reply, in tokens."""
    return settings.max_length or min(context or LONGEST, LONGEST)


def _check_context(context: int | None, settings: ModelSettings) -> None:
    if context is not None and settings.max_length > context:
        raise ConfigError(
            f"model.max_length must be at most the model's context of {context} tokens; got "
            f"{settings.max_length}. Set model.max_length to {context}: longer replies are cut."
        )


def save_policy(policy: Policy, folder: Path, *, provenance: dict[str, Any]) -> None:
    """Writes the trained model: a PEFT adapter for LoRA, else a whole model folder."""
    model: Any = policy.model
    # an adapted head is a matrix product beside the embedding: the embedding itself is not saved
    only = {"save_embedding_layers": False} if policy.settings.parameters == "lora" else {}
    model.save_pretrained(folder, safe_serialization=True, **only)
    save_tokenizer(policy.tokenizer, folder)
    note = {**provenance, "parameters": len(params.trainable(policy.model))}
    if only:
        start = model.peft_config["default"].base_model_name_or_path
        note["base_parameters"] = base_size(model)
        note["start_adapter"] = start if adapter_of(start) else ""
    (folder / "u2a.json").write_text(json.dumps(note, indent=2), encoding="utf-8")
