"""The model of a finished run: a whole model folder, or an adapter on the model it was made of."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from torch import nn

from u2a_core.config import ModelSettings, there
from u2a_core.models.checks import check_finite
from u2a_core.models.loading import put_adapter
from u2a_core.models.policy import Policy, load_policy


def load_saved(settings: ModelSettings, folder: Path) -> Policy:
    """What `save_policy` wrote, to be measured and not trained.

    Args:
        settings: of the original model, on which an adapter is put; and dtype, device, lengths.
        folder: `model/` of a finished run.

    Raises:
        ModelError: if it cannot be loaded, or its adapter does not fit the original model.
    """
    whole = settings.model_copy(update={"parameters": "full"})  # an adapter comes by itself
    if not there(folder / "adapter_config.json"):
        return load_policy(whole.model_copy(update={"path": str(folder)}))
    policy = load_policy(whole)
    model: nn.Module = put_adapter(policy.model, str(folder), settings.path).eval()
    model.requires_grad_(False)
    check_finite(model, str(folder))
    return dataclasses.replace(policy, model=model)


def save_merged(settings: ModelSettings, adapter: Path, folder: Path) -> None:
    """An adapter put into the weights of its model, as a whole model folder.

    Args:
        settings: of the original model; the adapter must not reach a tied output head, for its
            term would enter the input embedding, too.
        adapter: `model/` of a finished run.
        folder: written beside and moved into place.

    Raises:
        ModelError: if the adapter cannot be loaded.
    """
    whole_numbers = {"device": "cpu", "quantize": "none", "activation_checkpointing": False}
    policy = load_saved(settings.model_copy(update=whole_numbers), adapter)
    peft: Any = policy.model
    whole, beside = peft.merge_and_unload(), folder.with_name(f".{folder.name}")
    whole.save_pretrained(beside, safe_serialization=True)
    policy.tokenizer.save_pretrained(beside)
    beside.replace(folder)
