"""A reward model: a sequence classifier that reads a conversation as its authors wrote it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from u2a_core.config import ModelSettings
from u2a_core.data.encode import conversation_ids
from u2a_core.errors import ConfigError, ModelError
from u2a_core.models.checks import check_finite
from u2a_core.models.heads import classifier
from u2a_core.models.loading import load_config, load_tokenizer
from u2a_core.models.policy import choose_device, choose_dtype, context_of
from u2a_core.models.templates import own_template, plain, put_template
from u2a_core.types import Prompt, prompt_text

ROWS = 256
"""Rows scored together."""
_NAMED = ("", "plain", "pair")
_PARTS = re.compile(r"\{prompt\}|\{reply\}")


@dataclass(frozen=True)
class RewardModel:
    """A sequence classifier as r(x, y): its logit, or the log-odds of class 1 where it has two.

    Attributes:
        model: the classifier.
        tokenizer: its own.
        template: how it reads a conversation: empty: its turns by its chat template; pair: prompt
            and reply as two segments; else a text with {prompt} and {reply}. Both of these have
            the prompt as one text, its turns in lines.
        logit: which logit is the reward; −1: the only one, or the difference of two.
    """

    model: nn.Module
    tokenizer: Any
    template: str = ""
    logit: int = -1

    @classmethod
    def load(
        cls, path: str, settings: ModelSettings, *, template: str = "", logit: int = -1
    ) -> RewardModel:
        """From a folder or hub id, onto the settings' device.

        Raises:
            ConfigError: if the template is none.
            ModelError: if it cannot be loaded, has no score head, or needs a template declared.
        """
        _check_template(template)
        device = choose_device(settings.device)
        dtype, trust = choose_dtype(settings.dtype, device), settings.trust_remote_code
        model = classifier(path, dtype, trust=trust)
        check_finite(model, path)
        tokenizer, template = _reader(path, template, trust=trust)
        found = cls(model.to(device).eval(), tokenizer, template, logit)
        _check_logit(path, found.classes, logit)
        return found

    @property
    def classes(self) -> int:
        """How many logits it has: of two, the reward is their difference."""
        config: Any = self.model.config
        return int(config.num_labels)

    @torch.no_grad()
    def __call__(self, prompts: Sequence[Prompt], replies: Sequence[str]) -> list[float]:
        """One score per pair."""
        return self._reward(self.logits(prompts, replies)).tolist()

    @torch.no_grad()
    def logits(self, prompts: Sequence[Prompt], replies: Sequence[str]) -> torch.Tensor:
        """(pairs, classes) the logits, in float32 on the CPU."""
        pairs = zip(prompts, replies, strict=True)
        rows = [self._read(prompt, reply) for prompt, reply in pairs]
        self._check_length(rows)
        found: list[torch.Tensor] = []
        device = next(self.model.parameters()).device
        with _padding(self.model, rows) as pad:
            for start in range(0, len(rows), ROWS):
                batch = _padded(rows[start : start + ROWS], pad)
                out = self.model(**{name: t.to(device) for name, t in batch.items()})
                found.append(out.logits.float().cpu())
        return torch.cat(found)

    def _read(self, prompt: Prompt, reply: str) -> dict[str, list[int]]:
        """A conversation as the model's inputs."""
        if not self.template:
            return {"input_ids": conversation_ids(prompt, reply, self.tokenizer)}
        asked = prompt_text(prompt)
        if self.template == "pair":
            read = self.tokenizer(asked, reply)
            return {name: read[name] for name in ("input_ids", "token_type_ids") if name in read}
        parts = {"{prompt}": asked, "{reply}": reply}
        text = _PARTS.sub(lambda part: parts[part[0]], self.template)
        return {"input_ids": self.tokenizer(text)["input_ids"]}

    def _check_length(self, rows: list[dict[str, list[int]]]) -> None:
        config: Any = self.model.config
        context, longest = context_of(config), max((len(r["input_ids"]) for r in rows), default=0)
        if context is not None and longest > context:
            raise ModelError(
                f"The reward model's context of {context} tokens must hold prompt and reply; got "
                f"{longest}. Lower objective.max_new_tokens, drop the longest prompts, or use "
                "another reward model."
            )

    def _reward(self, logits: torch.Tensor) -> torch.Tensor:
        if self.logit >= 0:
            return logits[:, self.logit]
        _check_one_reward(classes := logits.shape[1])
        return logits[:, 0] if classes == 1 else logits[:, 1] - logits[:, 0]


def check_scorer(path: str, settings: ModelSettings, *, template: str, logit: int) -> None:
    """Whether a classifier can be read as a reward; of it only configuration and tokenizer load.

    Raises:
        ConfigError: if the template is none, or the logit is not there.
        ModelError: if it needs a template or a logit declared.
    """
    _check_template(template)
    _reader(path, template, trust=settings.trust_remote_code)
    classes = int(load_config(path, trust=settings.trust_remote_code).num_labels)
    _check_logit(path, classes, logit)
    if logit < 0:
        _check_one_reward(classes)


def _check_template(template: str) -> None:
    if template not in _NAMED and not {"{prompt}", "{reply}"} <= {*_PARTS.findall(template)}:
        raise ConfigError(
            "objective.reward_template must be plain, pair, or a text with {prompt} and "
            f"{{reply}}; got {template!r}."
        )


def _reader(path: str, template: str, *, trust: bool) -> tuple[Any, str]:
    """A classifier's tokenizer, and the template that is not the tokenizer's own."""
    tokenizer = load_tokenizer(path, trust=trust)
    if template not in ("", "plain"):
        return tokenizer, template
    own = plain(tokenizer) if template == "plain" else own_template(tokenizer)
    if not own:
        raise _unread(path)
    put_template(tokenizer, own)
    return tokenizer, ""


def _check_logit(path: str, classes: int, logit: int) -> None:
    if logit >= classes:
        raise ConfigError(
            f"objective.reward_logit must be below the {classes} logits of {path}; got {logit}."
        )


def _check_one_reward(classes: int) -> None:
    if classes > 2:
        raise ModelError(
            f"A reward model must have one or two logits; got {classes}. Set "
            "objective.reward_logit to the one that is the reward, or use another model."
        )


def _unread(path: str) -> ModelError:
    return ModelError(
        f"The reward model {path} must be told how it reads a conversation; its tokenizer "
        "has no chat template. Set objective.reward_template to plain, pair (two "
        "segments), or the text that it was trained on, with {prompt} and {reply}."
    )


@contextmanager
def _padding(model: Any, rows: list[dict[str, list[int]]]) -> Iterator[int]:
    """The id that fills rows, by which the model finds each row's last token.

    It is the one of the model's own configuration. Without one an id that no row holds is lent to
    it, so that a last token is never taken for padding.
    """
    config = model.config.get_text_config()
    own = config.pad_token_id
    size = model.get_input_embeddings().num_embeddings
    if own is not None and 0 <= own < size:
        yield int(own)
        return
    used = {token for row in rows for token in row["input_ids"]}
    config.pad_token_id = next((i for i in range(size) if i not in used), 0)
    try:
        yield config.pad_token_id
    finally:
        config.pad_token_id = own


def _padded(rows: list[dict[str, list[int]]], pad: int) -> dict[str, torch.Tensor]:
    """Right-padded inputs with their mask."""
    width = max(len(row["input_ids"]) for row in rows)
    lengths = torch.tensor([len(row["input_ids"]) for row in rows])
    found = {"attention_mask": (torch.arange(width) < lengths[:, None]).long()}
    for name in rows[0]:
        fill = pad if name == "input_ids" else 0
        found[name] = torch.tensor([row[name] + [fill] * (width - len(row[name])) for row in rows])
    return found
