"""How a model is loaded and run beside its weights: quantization, attention, checkpointing."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from u2a_core.config import ModelSettings
from u2a_core.errors import ConfigError


def loading_options(
    settings: ModelSettings, device: torch.device, dtype: torch.dtype
) -> dict[str, Any]:
    """Arguments of from_pretrained that the settings ask for.

    Raises:
        ConfigError: if this machine or environment does not have what they need.
    """
    options: dict[str, Any] = {}
    if settings.attention != "auto":
        _check_attention(settings.attention, device, dtype)
        options["attn_implementation"] = settings.attention
    if settings.quantize != "none":
        _check_quantization(settings.quantize, device)
        options["quantization_config"] = quantization_config(settings.quantize, dtype)
        options["device_map"] = {"": device}
    return options


def quantization_config(kind: str, dtype: torch.dtype) -> Any:
    """Of bitsandbytes: 8bit is LLM.int8, 4bit is NF4 with quantized constants, as for QLoRA."""
    from transformers import BitsAndBytesConfig

    if kind == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)  # type: ignore[no-untyped-call]
    return BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


def _check_quantization(kind: str, device: torch.device) -> None:
    lacking = [
        *(["no CUDA device"] if device.type != "cuda" else []),
        *(["no package bitsandbytes"] if find_spec("bitsandbytes") is None else []),
    ]
    if lacking:
        raise ConfigError(
            f"model.quantize {kind} must have a CUDA device and bitsandbytes; got "
            f"{' and '.join(lacking)}. Install the extra (pip install 'u2a-workbench[quant]') on a "
            "machine with an NVIDIA GPU, or set model.quantize none."
        )


def _check_attention(kind: str, device: torch.device, dtype: torch.dtype) -> None:
    if kind != "flash_attention_2":
        return
    lacking = [
        *(["no CUDA device"] if device.type != "cuda" else []),
        *(["no package flash-attn"] if find_spec("flash_attn") is None else []),
        *([f"dtype {str(dtype).removeprefix('torch.')}"] if dtype == torch.float32 else []),
    ]
    if lacking:
        raise ConfigError(
            "model.attention flash_attention_2 must have a CUDA device, the package flash-attn and "
            f"bfloat16 or float16; got {' and '.join(lacking)}. Set model.attention to auto: "
            "torch's own kernels are used without it."
        )


def layers_of(model: nn.Module) -> nn.ModuleList | None:
    """The transformer layers: the longest list of modules, outside of what reads images."""
    named = [
        module
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and not beside_text(name)
    ]
    return max(named, key=len, default=None)


def beside_text(name: str) -> bool:
    """Whether a module or parameter, by its name, reads images or sound and no text."""
    words = ("vision", "visual", "image", "audio", "multi_modal", "multimodal")
    return any(word in name for word in words)


def checkpoint_activations(model: nn.Module) -> None:
    """From now on each layer keeps its input alone, and computes again in the backward pass.

    Not by the library's switch, which works in training mode only: unlearning runs in evaluation
    mode, without dropout, and generation must keep its cache.
    """
    for layer in layers_of(model) or ():
        layer.forward = partial(_recomputed, layer.forward)


def _recomputed(forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    if not torch.is_grad_enabled() or kwargs.get("past_key_values") is not None:
        return forward(*args, **kwargs)
    return checkpoint(
        partial(forward, **kwargs), *args, use_reentrant=False, preserve_rng_state=False
    )
