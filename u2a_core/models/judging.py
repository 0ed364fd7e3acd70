"""Local models as judges: a causal model that answers a judge prompt, a classifier of harm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from u2a_core.config import ModelSettings
from u2a_core.data.encode import prompt_ids
from u2a_core.errors import ModelError
from u2a_core.models.generation import plain_sampling, stop_ids, until_stop
from u2a_core.models.loading import load_config, load_tokenizer
from u2a_core.models.policy import context_length, load_policy
from u2a_core.models.scorer import RewardModel
from u2a_core.types import Prompt

_HARMFUL = ("unsafe", "harmful", "harm", "toxic", "jailbreak", "violation", "bad")
"""Names of the class that a classifier of harm finds, casefolded."""

_JUDGES = {
    "parameters": "full", "max_length": 0, "chat_template": "own", "system": "",
    "quantize": "none", "activation_checkpointing": False,
}  # fmt: skip
"""Settings of the policy that are no judge's."""


@dataclass(frozen=True)
class JudgeModel:
    """A causal model with a chat template that answers greedily.

    Attributes:
        model: the judge.
        tokenizer: with a chat template.
        max_new_tokens: longest answer.
    """

    model: nn.Module
    tokenizer: Any
    max_new_tokens: int = 256

    @torch.no_grad()
    def __call__(self, conversations: Sequence[Prompt]) -> list[tuple[str, int, int] | None]:
        """Answer, tokens read and tokens written; None where the context is too short for both."""
        ids = prompt_ids(conversations, self.tokenizer)
        context = context_length(self.model) or 10**9
        fits = [i for i, row in enumerate(ids) if len(row) + self.max_new_tokens <= context]
        found: list[tuple[str, int, int] | None] = [None] * len(ids)
        if fits:
            answers = self._greedy([ids[i] for i in fits])
            for i, answer in zip(fits, answers, strict=True):
                text = self.tokenizer.decode(answer, skip_special_tokens=True)
                found[i] = (text, len(ids[i]), len(answer))
        return found

    def _greedy(self, rows: list[list[int]]) -> list[list[int]]:
        pad = self.tokenizer.pad_token_id or 0
        width = max(len(row) for row in rows)
        padded = torch.tensor([[pad] * (width - len(row)) + row for row in rows])
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
        device, model = next(self.model.parameters()).device, self.model
        stops = stop_ids(model, self.tokenizer)
        with plain_sampling(model):
            out = model.generate(  # type: ignore[operator]
                input_ids=padded.to(device),
                attention_mask=mask.to(device),
                do_sample=False,
                max_new_tokens=self.max_new_tokens,
                pad_token_id=pad,
                eos_token_id=sorted(stops),
            )
        return [until_stop(answer, stops) for answer in out[:, width:].tolist()]


@dataclass(frozen=True)
class HarmClassifier:
    """A sequence classifier of prompt and reply as P(harmful).

    Attributes:
        scored: the classifier.
        harmful: the class whose probability is meant; with one logit its logistic.
    """

    scored: RewardModel
    harmful: int

    def __call__(self, prompts: Sequence[Prompt], replies: Sequence[str]) -> list[float]:
        """P(harmful) of each reply, in [0, 1]."""
        logits = self.scored.logits(prompts, replies)
        if logits.shape[1] == 1:
            return [float(p) for p in logits[:, 0].sigmoid()]
        return [float(p) for p in logits.softmax(1)[:, self.harmful]]


def load_local_judge(path: str, settings: ModelSettings) -> JudgeModel | HarmClassifier:
    """A judge from a folder or hub id: what its config calls itself decides which.

    A classifier without a chat template reads prompt and reply as two segments.

    Raises:
        ModelError: if it cannot be loaded, or its harmful class cannot be told.
    """
    try:
        config = load_config(path, trust=settings.trust_remote_code)
    except ModelError as error:
        raise type(error)(
            "evaluation.judge must be an address (http…), a model that loads, or module:function. "
            f"{error}"
        ) from error
    kinds = config.architectures or []
    if not any("SequenceClassification" in kind for kind in kinds):
        policy = load_policy(settings.model_copy(update={"path": path, **_JUDGES}))
        return JudgeModel(policy.model, policy.tokenizer)
    harmful = _harmful_class(config, path)
    has_template = load_tokenizer(path, trust=settings.trust_remote_code).chat_template
    scored = RewardModel.load(path, settings, template="" if has_template else "pair")
    return HarmClassifier(scored, harmful)


def _harmful_class(config: Any, path: str) -> int:
    names = {int(i): str(name).casefold() for i, name in config.id2label.items()}
    found = [i for i, name in names.items() if name in _HARMFUL]
    if len(found) == 1:
        return found[0]
    if len(names) <= 2 and not found:
        return len(names) - 1
    raise ModelError(
        f"A classifier that judges must have one class named {' or '.join(_HARMFUL[:3])}, or two "
        f"classes of which the second is the harmful one; {path} has {', '.join(names.values())}."
    )
