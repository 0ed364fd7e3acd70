"""Models without weights: their shapes, from the configuration alone.

A skeleton is built on the meta device and then made of fake tensors of the CPU, so that every
operation of a pass goes the way it goes with real ones (its attention kernel, too) and computes
nothing. A pass of billions of parameters takes a second and no memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from u2a_core import params
from u2a_core.config import ModelSettings
from u2a_core.directional.contraction import scoring
from u2a_core.errors import ModelError
from u2a_core.losses import token_log_probs
from u2a_core.models.checks import check_causal
from u2a_core.models.kernels import checkpoint_activations
from u2a_core.models.loading import UNLOADABLE, load_config
from u2a_core.models.noise import add_gumbel
from u2a_core.models.policy import choose_device, choose_dtype
from u2a_core.models.quantized import Packed, layers_quantized, pack
from u2a_core.models.refusals import load_failed
from u2a_core.models.trained import adapted_weights, with_trainable
from u2a_core.types import Batch


@dataclass(frozen=True)
class Skeleton:
    """A model of fake tensors.

    Attributes:
        model: in evaluation mode, with the trainable parameters chosen.
        mode: in which its passes run.
        theta: names of the trained parameters.
        space: names of the parameters in whose space slopes are taken.
    """

    model: nn.Module
    mode: FakeTensorMode
    theta: tuple[str, ...] = ()
    space: tuple[str, ...] = ()

    @property
    def config(self) -> Any:
        """The model's configuration."""
        return self.model.config

    @property
    def parameters(self) -> int:
        """How many numbers it has, those of an adapter included."""
        packed = sum(layer.numbers for layer in self.packed)
        return packed + sum(p.numel() for p in params.distinct(self.model.parameters()))

    @property
    def packed(self) -> list[Packed]:
        """Its quantized layers."""
        return [module for module in self.model.modules() if isinstance(module, Packed)]

    @property
    def weights(self) -> int:
        """Bytes of all parameters and buffers."""
        held = params.distinct([*self.model.parameters(), *self.model.buffers()])
        return sum(t.numel() * t.element_size() for t in held)

    def bytes_of(self, names: tuple[str, ...]) -> int:
        """Bytes of the named parameters."""
        own = dict(self.model.named_parameters())
        return sum(own[name].numel() * own[name].element_size() for name in names)

    def numbers_in(self, names: tuple[str, ...]) -> int:
        """How many numbers the named parameters have."""
        own = dict(self.model.named_parameters())
        return sum(own[name].numel() for name in names)

    def gradient(self, rows: int, width: int, responses: int, names: tuple[str, ...]) -> Any:
        """The gradient of a loss of `responses` tokens, as `losses` computes it."""
        with params.training(self.model, names):
            theta = params.trainable(self.model)
            return params.gradient(-self._log_probs(rows, width, responses).sum(), theta)

    def slopes(self, rows: int, width: int, responses: int, directions: int) -> Any:
        """The pass through the activations with its contraction along directions."""
        with params.training(self.model, self.space):
            theta = params.trainable(self.model)
            # directions of the parameters' own memory: who makes them counts them
            with scoring(self.model, [theta] * directions) as contraction:
                batch = _batch(rows, width)
                contraction.begin(batch, torch.zeros(responses, dtype=torch.long))
                return contraction.contract(-self._log_probs(rows, width, responses).sum())

    def value(self, rows: int, width: int, responses: int) -> Tensor:
        """Log-probabilities of the response tokens, without a gradient."""
        with torch.no_grad():
            return self._log_probs(rows, width, responses)

    def prefill(self, rows: int, width: int) -> Any:
        """Reads the prompts of a generation; returns what it keeps of them."""
        ids, mask = _ids(rows, width), torch.ones(rows, width, dtype=torch.long)
        with torch.no_grad():
            out = self.model(input_ids=ids, attention_mask=mask, use_cache=True, logits_to_keep=1)
        return out.past_key_values

    def decode(self, rows: int, length: int, kept: Any) -> Tensor:
        """One more token of every reply, drawn."""
        mask = torch.ones(rows, length + 1, dtype=torch.long)
        with torch.no_grad():
            out = self.model(
                input_ids=_ids(rows, 1),
                attention_mask=mask,
                past_key_values=kept,
                use_cache=True,
                logits_to_keep=1,
            )
            scores: Tensor = out.logits[:, -1].to(torch.float32, copy=True) / 2.0
            add_gumbel(scores, torch.zeros(rows, dtype=torch.long), step=0)
            return scores.argmax(-1)

    def scores(self, rows: int, width: int) -> Tensor:
        """Of a classifier."""
        mask = torch.ones(rows, width, dtype=torch.long)
        with torch.no_grad():
            logits: Tensor = self.model(input_ids=_ids(rows, width), attention_mask=mask).logits
        return logits

    def _log_probs(self, rows: int, width: int, responses: int) -> Tensor:
        """As `losses.response_log_probs`, whose shapes are read from labels, has it."""
        positions = torch.zeros(responses, dtype=torch.long)
        return token_log_probs(self.model, _ids(rows, width), positions, positions)


def policy_skeleton(settings: ModelSettings) -> Skeleton:
    """The policy that the settings name.

    Raises:
        ModelError: if there is no configuration of a causal language model, or no access to it.
    """
    from transformers import AutoModelForCausalLM

    dtype, kind = choose_dtype(settings.dtype, choose_device(settings.device)), settings.quantize
    config = load_config(settings.path, trust=settings.trust_remote_code)
    check_causal(config, settings.path)
    model = _shapes(AutoModelForCausalLM, config, settings, dtype)
    layers = layers_quantized(model, kind, dtype) if kind != "none" else []
    with torch.device("meta"):
        model = with_trainable(model, settings)
        pack(model, layers, kind)
    if settings.activation_checkpointing:
        checkpoint_activations(model)
    theta = tuple(params.trainable(model))
    seen = settings.parameters == "lora" and settings.lora_slopes == "weights"
    space = adapted_weights(model) if seen else theta
    mode = FakeTensorMode()
    return Skeleton(_faked(model, mode), mode, theta, space)


def reward_skeleton(path: str, settings: ModelSettings) -> Skeleton:
    """The reward model of a folder or hub id, in the policy's number format."""
    from transformers import AutoModelForSequenceClassification

    dtype = choose_dtype(settings.dtype, choose_device(settings.device))
    own = settings.model_copy(update={"path": path, "attention": "auto"})
    config = load_config(path, trust=settings.trust_remote_code)
    mode, family = FakeTensorMode(), AutoModelForSequenceClassification
    return Skeleton(_faked(_shapes(family, config, own, dtype), mode), mode)


def _shapes(family: Any, config: Any, settings: ModelSettings, dtype: torch.dtype) -> nn.Module:
    """A model on the meta device."""
    kernel = {} if settings.attention == "auto" else {"attn_implementation": settings.attention}
    try:
        with torch.device("meta"):
            model = family.from_config(
                config, dtype=dtype, trust_remote_code=settings.trust_remote_code, **kernel
            ).eval()
    except UNLOADABLE as error:
        raise load_failed("model", settings.path, error) from error
    if not isinstance(model, nn.Module):
        raise ModelError(f"{settings.path} must be a model; got {type(model)}.")
    return model


def _faked(model: nn.Module, mode: FakeTensorMode) -> nn.Module:
    """The model with a fake tensor of the CPU in every place; what shares memory still does."""
    done: dict[int, Any] = {}
    memory: dict[Any, Any] = {}
    for module in model.modules():
        for held in (module._parameters, module._buffers):
            for name, tensor in held.items():
                if tensor is not None:
                    if id(tensor) not in done:
                        fake = memory.setdefault(params.place(tensor), _fake(tensor, mode))
                        done[id(tensor)] = (tensor, _kind(fake, tensor))
                    held[name] = done[id(tensor)][1]
    return model


def _fake(tensor: Tensor, mode: FakeTensorMode) -> Tensor:
    shape = torch.empty_like(tensor.detach(), device="meta")
    return FakeTensor(mode, shape, torch.device("cpu"))


def _kind(fake: Tensor, tensor: Tensor) -> Tensor:
    """A parameter where the tensor is one."""
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(fake, requires_grad=tensor.requires_grad)
    return fake


def _ids(rows: int, width: int) -> Tensor:
    return torch.zeros(rows, width, dtype=torch.long)


def _batch(rows: int, width: int) -> Batch:
    ids = _ids(rows, width)
    return Batch(input_ids=ids, attention_mask=ids, labels=ids, index=torch.arange(rows))
