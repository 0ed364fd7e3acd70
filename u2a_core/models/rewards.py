"""r(x, y): a function of the user's, or a sequence classifier."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from u2a_core.config import ModelSettings, there
from u2a_core.data.encode import conversation_ids
from u2a_core.errors import ConfigError, ModelError, U2AError
from u2a_core.models.loading import load_tokenizer, pretrained
from u2a_core.models.policy import check_finite, choose_device, choose_dtype
from u2a_core.types import Reward, user_prompt

_EXPECTED = {
    "reward": "take (prompts, replies), two sequences of texts, and return a number for each reply"
}
"""What is asked of a user's function when it is called."""
ROWS = 256
"""Rows scored together."""


def load_reward(spec: str, settings: ModelSettings) -> Reward:
    """r(x, y) from `module:function`, or from a sequence classifier's folder or hub id.

    Raises:
        ModelError: if it cannot be loaded.
    """
    if not spec:
        raise ConfigError(
            "objective.reward must name a reward; got nothing. Give a reward model's folder, or "
            "module:function (prompts, replies → scores); or set objective.kind to preference and "
            "data.preferences to pairs (prompt, chosen, rejected)."
        )
    if ":" in spec and not there(Path(spec)):
        return _reward_function(spec)
    return _reward_model(spec, settings)


@lru_cache(maxsize=2)
def _reward_model(spec: str, settings: ModelSettings) -> RewardModel:
    """The classifier, once in memory however many ask for it: J, the evaluation, the next arm."""
    return RewardModel.load(spec, settings)


def _reward_function(spec: str) -> Reward:
    found = load_function(spec, "reward")

    def reward(prompts: Sequence[str], replies: Sequence[str]) -> Any:
        return found(prompts, replies)

    return reward


def load_function(spec: str, role: str) -> Callable[..., Any]:
    """A user's `module:function`, whose faults, imported or called, become sentences.

    Args:
        spec: as the settings name it.
        role: what it is used as (reward, judge), for the sentences.

    Raises:
        ModelError: if it cannot be imported or called, or when it raises.
    """
    source, _, name = spec.rpartition(":")
    with _users_code(f"The {role} {spec!r} must be a function that can be imported"):
        module = _module_of(source) if source.endswith(".py") else importlib.import_module(source)
        found = getattr(module, name)
    if not callable(found):
        raise ModelError(f"The {role} {spec!r} must be a function; got {type(found).__name__}.")

    def guarded(*arguments: Any) -> Any:
        with _users_code(f"The {role} {spec!r} must {_EXPECTED.get(role, 'return scores')}"):
            return found(*arguments)

    return guarded


@contextmanager
def _users_code(expected: str) -> Iterator[None]:
    """Turns whatever a user's own code raises, exits included, into a sentence with its line."""
    try:
        yield
    except U2AError:
        raise
    except (Exception, SystemExit) as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        raise ModelError(
            f"{expected}; got {type(error).__name__}: {error} ({Path(last.filename).name}, line "
            f"{last.lineno}). Give module:function of an installed module, or of a file module.py "
            "beside the settings."
        ) from error


def _module_of(file: str) -> ModuleType:
    """A user's file as a module, without its folder on the path of imports."""
    spec = importlib.util.spec_from_file_location(f"u2a_reward_{Path(file).stem}", file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # a dataclass looks its module up there
    spec.loader.exec_module(module)
    return module


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
        model = pretrained(AutoModelForSequenceClassification, path, dtype).to(device).eval()
        check_finite(model, path)
        return cls(model, load_tokenizer(path))

    @property
    def classes(self) -> int:
        """How many logits it has: of two, the reward is their difference."""
        config: Any = self.model.config
        return int(config.num_labels)

    @torch.no_grad()
    def __call__(self, prompts: Sequence[str], replies: Sequence[str]) -> list[float]:
        """One score per pair, through the reward model's own chat template."""
        return _logit(self.logits(prompts, replies)).tolist()

    @torch.no_grad()
    def logits(self, prompts: Sequence[str], replies: Sequence[str]) -> torch.Tensor:
        """(pairs, classes) the logits, in float32 on the CPU."""
        found: list[torch.Tensor] = []
        device = next(self.model.parameters()).device
        pad = self.tokenizer.pad_token_id or 0
        ids = [
            conversation_ids(user_prompt(prompt), reply, self.tokenizer)
            for prompt, reply in zip(prompts, replies, strict=True)
        ]
        for start in range(0, len(ids), ROWS):
            rows = ids[start : start + ROWS]
            width = max(len(row) for row in rows)
            tokens = torch.tensor([row + [pad] * (width - len(row)) for row in rows])
            mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
            out = self.model(input_ids=tokens.to(device), attention_mask=mask.to(device))
            found.append(out.logits.float().cpu())
        return torch.cat(found)


def _logit(logits: torch.Tensor) -> torch.Tensor:
    classes = logits.shape[1]
    if classes > 2:
        raise ModelError(
            f"A reward model must have one or two logits; got {classes}. Use another model."
        )
    return logits[:, 0] if classes == 1 else logits[:, 1] - logits[:, 0]
