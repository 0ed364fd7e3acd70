"""Sequence classifiers, and language models whose score head bears another name than theirs."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from safetensors import safe_open
from torch import nn

from u2a_core.config import there
from u2a_core.errors import ModelError
from u2a_core.models.loading import located, pretrained

_HEAD = re.compile(
    r"(score_head|reward_head|value_head|regression_head|v_head\.summary|v_head)\.(weight|bias)"
)


def classifier(path: str, dtype: torch.dtype, *, trust: bool = False) -> nn.Module:
    """A classifier of sequences by the last token's hidden state.

    A head of another name (score_head, value_head, v_head, …), as the tools that train reward
    models write it beside a language model, is taken as its `score`, its bias included.

    Raises:
        ModelError: if it cannot be loaded, or has no head.
    """
    from transformers import AutoModelForSequenceClassification as Family

    try:
        return pretrained(Family, path, dtype, trust=trust)
    except ModelError:
        head = _stored_head(path)
        if not head:
            raise
    name = next(iter(head)).rpartition(".")[0]
    weight = head[f"{name}.weight"]
    mapping = {f"^{re.escape(name)}\\.": "score."}
    model = pretrained(
        Family, path, dtype, trust=trust, key_mapping=mapping, num_labels=len(weight)
    )
    bias = head.get(f"{name}.bias")
    if bias is not None:
        score: nn.Linear = model.score  # type: ignore[assignment]
        score.bias = nn.Parameter(bias.to(score.weight))
    return model


def _stored_head(path: str) -> dict[str, torch.Tensor]:
    """Name → tensor of the head in a folder, or in what is cached of a hub id; empty without."""
    found: dict[str, torch.Tensor] = {}
    for file in sorted(_files(path).glob("*.safetensors")):
        with safe_open(file, "pt") as stored:
            names = [name for name in stored.keys() if _HEAD.fullmatch(name)]  # noqa: SIM118
            found |= {name: stored.get_tensor(name) for name in names}
    return found if any(name.endswith(".weight") for name in found) else {}


def _files(path: str) -> Path:
    from huggingface_hub import try_to_load_from_cache

    if there(Path(path)):
        return Path(path)
    name, where = located(path)
    cached = try_to_load_from_cache(name, "config.json", revision=where.get("revision"))
    return Path(cached).parent if isinstance(cached, str) else Path(path)
