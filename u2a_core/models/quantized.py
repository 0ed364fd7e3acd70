"""A base that bitsandbytes quantizes, by its shapes: what its layers hold, and make in a pass.

As its sources (0.50, on CUDA) and those of transformers and peft say; nothing is computed, and
bitsandbytes need not be there. The few columns of outliers of an 8-bit product are left out.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from u2a_core.models.kernels import quantization_config

_BLOCK, _OF_SCALES = 64, 256
"""Weights that share a scale, and scales that share one of theirs."""
_TABLES = 16 + 256 + 1
"""Numbers of a 4-bit layer beside them: the codes of weights and of scales, the scales' mean."""


class Packed(nn.Module):
    """A linear layer as bitsandbytes holds it: half a byte or a byte a weight, and scales.

    4bit: NF4, a byte a scale of 64 weights, and a float a scale of 256 scales. 8bit: a float a row.
    """

    def __init__(self, layer: Any, kind: str) -> None:
        super().__init__()
        self.kind, self.bias = kind, layer.bias
        shape = layer.weight.shape
        # transposed layers (GPT-2's) are turned before they are quantized
        self.shape = shape if isinstance(layer, nn.Linear) else torch.Size(reversed(shape))
        self.blocks = math.ceil(self.numbers / _BLOCK)
        if kind == "4bit":
            halves, scales = math.ceil(self.numbers / 2), self.blocks
            rest = math.ceil(scales / _OF_SCALES) + _TABLES
            self.register_buffer("weight", torch.empty(halves, 1, dtype=torch.uint8))
            self.register_buffer("scales", torch.empty(scales, dtype=torch.uint8))
            self.register_buffer("rest", torch.empty(rest, dtype=torch.float32))
        else:
            self.register_buffer("weight", torch.empty(self.shape, dtype=torch.int8))
            self.register_buffer("scales", torch.empty(self.shape[0], dtype=torch.float32))

    @property
    def numbers(self) -> int:
        """How many weights it stands for."""
        return self.shape.numel()

    def forward(self, inputs: Tensor) -> Tensor:
        """Of (…, in) to (…, out)."""
        out: Tensor = _Product.apply(inputs, self)  # type: ignore[no-untyped-call]
        return out.clone() if self.kind == "4bit" else out  # as peft does

    def product(self, inputs: Tensor) -> Tensor:
        """The layer's output."""
        if self.kind == "4bit":
            return F.linear(inputs, self.whole(inputs.dtype), self.bias)
        rows = inputs.reshape(-1, self.shape[1])
        half = rows.to(torch.float16)
        outliers = half.abs() >= 1.0
        codes = torch.empty_like(rows, dtype=torch.int8)
        del half, outliers
        wide = torch.mm(codes, self.weight.t()).to(torch.int32)  # type: ignore[operator]
        out = torch.empty_like(wide, dtype=torch.float16).to(inputs.dtype)
        return out.reshape(*inputs.shape[:-1], self.shape[0])

    def whole(self, dtype: torch.dtype) -> Tensor:
        """Its weights in full, there for one product; their scales in float32 while it is made."""
        scales = torch.empty(self.blocks if self.kind == "4bit" else 0, dtype=torch.float32)
        weights = torch.empty(self.shape, dtype=dtype)
        del scales
        return weights


class _Product(torch.autograd.Function):
    """Inputs times the layer's weights, which are made whole again in the backward pass."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, layer: Packed) -> Tensor:
        ctx.layer = layer
        ctx.kept = inputs if layer.kind == "8bit" else None  # bitsandbytes keeps these
        return layer.product(inputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = gradients
        return gradient @ ctx.layer.whole(gradient.dtype), None


def layers_quantized(model: Any, kind: str, dtype: torch.dtype) -> list[nn.Module]:
    """The layers that bitsandbytes quantizes in loading.

    All linear ones but the output embedding and what is tied to another, as transformers choose.
    """
    from transformers.pytorch_utils import Conv1D
    from transformers.quantizers.base import HfQuantizer
    from transformers.quantizers.quantizers_utils import should_convert_module

    skipped = quantization_config(kind, dtype).llm_int8_skip_modules
    kept = HfQuantizer.get_modules_to_not_convert(model, skipped, model._keep_in_fp32_modules)
    return [
        module
        for name, module in model.named_modules()
        if (type(module) is nn.Linear or isinstance(module, Conv1D))
        and should_convert_module(name, kept)
    ]


def pack(model: nn.Module, layers: list[nn.Module], kind: str) -> None:
    """Puts the quantized form in the place of these layers, wherever an adapter has put them."""
    chosen = set(layers)
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if child in chosen:
                setattr(module, name, Packed(child, kind))
