"""Policy and reward model: loading, parameter spaces, generation, saving.

The only module of the core that knows transformers and peft; what it hands out is a plain
`nn.Module` and a tokenizer. Weights are read from safetensors only, and no remote code is run.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from u2a_core import params
from u2a_core.config import ModelSettings
from u2a_core.data.encode import Encoded, batches, conversation_ids, prompt_ids
from u2a_core.errors import ConfigError, ModelError
from u2a_core.types import Prompt, Reward, Rollouts, user_prompt

_ROWS = 256
"""Rows generated or scored together."""


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


def load_policy(settings: ModelSettings) -> Policy:
    """The policy with its trainable parameters chosen.

    Raises:
        ModelError: if the folder holds no model, tokenizer or chat template, or NaN weights.
    """
    from transformers import AutoModelForCausalLM

    if not settings.path:
        raise ConfigError("model.path must name a model folder or hub id; got nothing.")
    device = choose_device(settings.device)
    tokenizer = load_tokenizer(settings.path)
    if not tokenizer.chat_template:
        raise ModelError(
            f"The tokenizer of {settings.path} must have a chat template; got none. "
            "Add chat_template.jinja to the folder, or use the chat version of the model."
        )
    dtype = choose_dtype(settings.dtype, device)
    model = _pretrained(AutoModelForCausalLM, settings.path, dtype).to(device).eval()
    _check_finite(model, settings.path)
    _check_vocabulary(model, tokenizer, settings.path)
    return Policy(_with_trainable(model, settings), tokenizer, settings)


def load_tokenizer(path: str) -> Any:
    """The tokenizer of a model folder or hub id.

    Raises:
        ModelError: if there is none.
    """
    from transformers import AutoTokenizer

    if Path(path).is_dir() and not any(
        (Path(path) / name).exists()
        for name in ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json")
    ):
        raise ModelError(
            f"The model folder {path} must hold a tokenizer; got none (no tokenizer.json). "
            "Save it there with tokenizer.save_pretrained."
        )
    try:
        return AutoTokenizer.from_pretrained(path)
    except (OSError, ValueError) as error:
        raise ModelError(_loading_failed("tokenizer", path, error)) from error


def _pretrained(family: Any, path: str, dtype: torch.dtype) -> nn.Module:
    """A model from safetensors."""
    if Path(path).exists() and not (Path(path) / "config.json").exists():
        raise ModelError(
            f"The model folder {path} must hold config.json; got none. Name the folder that "
            "model.save_pretrained wrote."
        )
    try:
        model = family.from_pretrained(path, dtype=dtype, use_safetensors=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise ModelError(_loading_failed("model", path, error)) from error
    assert isinstance(model, nn.Module)
    return model


def _loading_failed(what: str, path: str, error: Exception) -> str:
    reason = " ".join(str(error).split())[:200]
    return f"The {what} at {path} must load; got: {reason} Check model.path."


def _check_finite(model: nn.Module, path: str) -> None:
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


def _with_trainable(model: nn.Module, settings: ModelSettings) -> nn.Module:
    """Marks the parameters that unlearning may move; wraps the model for LoRA."""
    if settings.parameters == "lora":
        from peft import LoraConfig, get_peft_model

        config = LoraConfig(
            r=settings.lora_rank,
            lora_alpha=settings.lora_alpha,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        )
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


@dataclass(frozen=True)
class Generator:
    """y ~ π_θ(· | x) through the library's own generation; a `types.Sampler`.

    Attributes:
        tokenizer: of the policy.
        max_new_tokens: longest reply.
        temperature: of sampling.
    """

    tokenizer: Any
    max_new_tokens: int
    temperature: float = 1.0

    def __call__(
        self, model: nn.Module, prompts: Sequence[Prompt], *, samples: int, seed: int
    ) -> Rollouts:
        """`samples` replies to each prompt, in prompt order."""
        ids = prompt_ids(prompts, self.tokenizer)
        owners = [i for i in range(len(prompts)) for _ in range(samples)]
        devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
        encoded: list[Encoded] = []
        with torch.random.fork_rng(devices=devices), torch.no_grad():
            torch.manual_seed(seed)
            for start in range(0, len(owners), _ROWS):
                rows = [ids[i] for i in owners[start : start + _ROWS]]
                encoded.extend(self._generate(model, rows))
        replies = self.tokenizer.batch_decode(
            [e.input_ids[e.response_start :] for e in encoded], skip_special_tokens=True
        )
        device = next(model.parameters()).device
        packed = batches(encoded, tokens_per_batch=16384, pad_id=self.tokenizer.pad_token_id or 0)
        return Rollouts(
            prompt_index=tuple(owners),
            replies=tuple(reply.strip() for reply in replies),
            batches=tuple(batch.to(device) for batch in packed),
        )

    def _generate(self, model: Any, rows: list[list[int]]) -> list[Encoded]:
        """One sampled reply per row, up to and including its end token."""
        pad = self.tokenizer.pad_token_id or 0
        width = max(len(row) for row in rows)
        padded = torch.tensor([[pad] * (width - len(row)) + row for row in rows])
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
        device = next(model.parameters()).device
        stops = _stop_ids(model, self.tokenizer)
        out = model.generate(
            input_ids=padded.to(device),
            attention_mask=mask.to(device),
            do_sample=True,
            temperature=self.temperature,
            top_k=0,
            top_p=1.0,
            max_new_tokens=self.max_new_tokens,
            pad_token_id=pad,
            eos_token_id=sorted(stops),
        )
        replies = out[:, width:].tolist()
        return [
            Encoded((*row, *_until_stop(reply, stops)), len(row))
            for row, reply in zip(rows, replies, strict=True)
        ]


def _stop_ids(model: Any, tokenizer: Any) -> set[int]:
    configured = model.generation_config.eos_token_id
    found = set(configured if isinstance(configured, list) else [configured])
    return {int(i) for i in found | {tokenizer.eos_token_id} if i is not None}


def _until_stop(reply: list[int], stops: set[int]) -> list[int]:
    for position, token in enumerate(reply):
        if token in stops:
            return reply[: position + 1]
    return reply


def load_reward(spec: str, settings: ModelSettings) -> Reward:
    """r(x, y) from `module:function`, or from a sequence classifier's folder or hub id.

    Raises:
        ModelError: if it cannot be loaded.
    """
    if not spec:
        raise ConfigError(
            "objective.reward must name a reward; got nothing. Give module:function (prompts, "
            "replies → scores) or a reward model's folder, or set objective.kind to preference."
        )
    if ":" in spec and not Path(spec).exists():
        return _reward_function(spec)
    return RewardModel.load(spec, settings)


def _reward_function(spec: str) -> Reward:
    module, _, name = spec.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ModelError(
            f"The reward {spec!r} must be an importable module:function; got {error}."
        ) from error
    if not callable(found):
        raise ModelError(f"The reward {spec!r} must be a function; got {type(found).__name__}.")
    reward: Reward = found
    return reward


@dataclass(frozen=True)
class RewardModel:
    """A sequence classifier as r(x, y): its logit, or the log-odds of class 1 where it has two."""

    model: nn.Module
    tokenizer: Any

    @classmethod
    def load(cls, path: str, settings: ModelSettings) -> RewardModel:
        """From a folder or hub id, onto the policy's device."""
        from transformers import AutoModelForSequenceClassification

        device = choose_device(settings.device)
        dtype = choose_dtype(settings.dtype, device)
        model = _pretrained(AutoModelForSequenceClassification, path, dtype).to(device).eval()
        _check_finite(model, path)
        return cls(model, load_tokenizer(path))

    @torch.no_grad()
    def __call__(self, prompts: Sequence[str], replies: Sequence[str]) -> list[float]:
        """One score per pair, through the reward model's own chat template."""
        scores: list[float] = []
        device = next(self.model.parameters()).device
        pad = self.tokenizer.pad_token_id or 0
        ids = [
            conversation_ids(user_prompt(prompt), reply, self.tokenizer)
            for prompt, reply in zip(prompts, replies, strict=True)
        ]
        for start in range(0, len(ids), _ROWS):
            rows = ids[start : start + _ROWS]
            width = max(len(row) for row in rows)
            tokens = torch.tensor([row + [pad] * (width - len(row)) for row in rows])
            mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
            out = self.model(input_ids=tokens.to(device), attention_mask=mask.to(device))
            scores.extend(_logit(out.logits.float()).tolist())
        return scores


def _logit(logits: torch.Tensor) -> torch.Tensor:
    classes = logits.shape[1]
    if classes > 2:
        raise ModelError(
            f"A reward model must have one or two logits; got {classes}. Use another model."
        )
    return logits[:, 0] if classes == 1 else logits[:, 1] - logits[:, 0]


def save_policy(policy: Policy, folder: Path, *, provenance: dict[str, Any]) -> None:
    """Writes the trained model: a PEFT adapter for LoRA, else a whole model folder."""
    model: Any = policy.model
    model.save_pretrained(folder, safe_serialization=True)
    policy.tokenizer.save_pretrained(folder)
    note = {**provenance, "parameters": len(params.trainable(policy.model))}
    (folder / "u2a.json").write_text(json.dumps(note, indent=2), encoding="utf-8")
