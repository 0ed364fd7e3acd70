"""A sentence encoder: texts → unit vectors, by any local encoder model of the Hugging Face kind.

Token vectors are pooled as the model's own `1_Pooling/config.json` says (mean or first token);
without that file, by their mean. Further layers of a sentence-transformers folder are left out.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from u2a_core.config import ModelSettings
from u2a_core.errors import ModelError
from u2a_core.models.checks import check_finite
from u2a_core.models.loading import load_tokenizer, located, pretrained
from u2a_core.models.policy import choose_device, context_length

_ROWS = 64
"""Texts encoded together."""
_LONGEST = 512
"""Tokens of a text, where the model does not say less."""


@dataclass(frozen=True)
class SentenceEncoder:
    """Texts → vectors of length 1.

    Attributes:
        model: of token vectors.
        tokenizer: of the model.
        first_token: whether the first token's vector stands for the text; else the mean.
    """

    model: nn.Module
    tokenizer: Any
    first_token: bool = False

    @classmethod
    def load(cls, path: str, settings: ModelSettings) -> SentenceEncoder:
        """From a folder or hub id, onto the policy's device, in float32.

        Raises:
            ModelError: if there is none, or its pooling is neither mean nor first token.
        """
        from transformers import AutoModel

        device = choose_device(settings.device)
        trust = settings.trust_remote_code
        # a pooler of BERT's kind, which is not used, is often not saved
        model = pretrained(AutoModel, path, torch.float32, trust=trust, whole=False)
        check_finite(model, path)
        tokenizer = load_tokenizer(path, trust=trust)
        return cls(model.to(device).eval(), tokenizer, _pools_first(path))

    @torch.no_grad()
    def __call__(self, texts: Sequence[str]) -> Float[Tensor, "n h"]:
        """One vector a text, on the CPU; an empty text has one too."""
        longest = min(context_length(self.model) or _LONGEST, _LONGEST)
        device = next(self.model.parameters()).device
        pad, found = self.tokenizer.pad_token_id or 0, []
        for start in range(0, len(texts), _ROWS):
            part = list(texts[start : start + _ROWS])
            ids = [self.tokenizer(text)["input_ids"][:longest] or [pad] for text in part]
            width = max(len(row) for row in ids)
            tokens = torch.tensor([row + [pad] * (width - len(row)) for row in ids]).to(device)
            mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in ids])
            mask = mask.to(device)
            hidden = self.model(input_ids=tokens, attention_mask=mask).last_hidden_state.float()
            shares = mask[:, :, None] / mask.sum(1)[:, None, None]
            pooled = hidden[:, 0] if self.first_token else (hidden * shares).sum(1)
            found.append(nn.functional.normalize(pooled, dim=1).cpu())
        return torch.cat(found)

    def cosines(self, ours: Sequence[str], theirs: Sequence[str]) -> list[float]:
        """The cosine of each pair of texts, in [−1, 1]."""
        return [float(c) for c in (self(ours) * self(theirs)).sum(1)]


def _pools_first(path: str) -> bool:
    from transformers.utils.hub import cached_file

    name, where = located(path)
    asked = {"_raise_exceptions_for_missing_entries": False, **where}
    try:
        file = cached_file(name, "1_Pooling/config.json", **asked)
    except OSError:  # a hub that cannot be reached: what is loaded decides
        file = None
    if file is None:
        return False
    settings = json.loads(Path(file).read_text(encoding="utf-8"))
    modes = {key for key, value in settings.items() if key.startswith("pooling_mode_") and value}
    modes |= {f"pooling_mode_{settings['pooling_mode']}"} if settings.get("pooling_mode") else set()
    first = {"pooling_mode_cls_token", "pooling_mode_cls"}
    if modes - first - {"pooling_mode_mean_tokens", "pooling_mode_mean"} or len(modes) > 1:
        raise ModelError(
            f"The encoder {path} must pool by the mean or the first token; got "
            f"{', '.join(sorted(modes))}. Name another encoder."
        )
    return bool(modes & first)
