"""The model of a finished run: a whole model folder, or an adapter on the model it was made of."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

from torch import nn

from u2a_core.config import ModelSettings, there
from u2a_core.models.checks import check_finite
from u2a_core.models.loading import put_adapter
from u2a_core.models.policy import Policy, load_policy
from u2a_core.models.templates import save_tokenizer


def load_saved(settings: ModelSettings, folder: Path, *, weights: str = "") -> Policy:
    """What `save_policy` wrote, to be measured and not trained.

    Args:
        settings: of the original model, on which an adapter is put; and dtype, device, lengths.
        folder: `model/` of a finished run.
        weights: another model that an adapter was trained on, as for `load_policy`.

    Raises:
        ModelError: if it cannot be loaded, or its adapter does not fit the original model.
    """
    whole = settings.model_copy(update={"parameters": "full"})  # an adapter comes by itself
    if not there(folder / "adapter_config.json"):
        return load_policy(whole.model_copy(update={"path": str(folder)}))
    policy = load_policy(whole, weights=weights)
    base = weights or settings.path
    model: nn.Module = put_adapter(policy.model, str(folder), base).eval()
    model.requires_grad_(False)
    check_finite(model, str(folder))
    return dataclasses.replace(policy, model=model)


def save_merged(settings: ModelSettings, adapter: Path, folder: Path, *, weights: str = "") -> bool:
    """An adapter put into the weights of its model, as a whole model folder.

    Args:
        settings: of the original model.
        adapter: `model/` of a finished run.
        folder: written beside and moved into place.
        weights: another model that the adapter was trained on, as for `load_policy`.

    Returns:
        Whether the model got an output head of its own: one that was tied to the input embedding,
        where the adapter's term must not go.

    Raises:
        ModelError: if the adapter cannot be loaded.
    """
    whole_numbers = {"device": "cpu", "quantize": "none", "activation_checkpointing": False}
    policy = load_saved(settings.model_copy(update=whole_numbers), adapter, weights=weights)
    peft: Any = policy.model
    untied = _untied(peft.get_base_model())
    whole, beside = peft.merge_and_unload(), folder.with_name(f".{folder.name}")
    try:
        whole.save_pretrained(beside, safe_serialization=True)
        save_tokenizer(policy.tokenizer, beside)
        beside.replace(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return untied


def _untied(model: Any) -> bool:
    """Gives an adapted output head weights of its own, where it shares the embedding's."""
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    base = getattr(head, "base_layer", None)
    shared = getattr(embedding, "base_layer", embedding).weight
    if base is None or base.weight is not shared:
        return False
    base.weight = nn.Parameter(base.weight.detach().clone(), requires_grad=False)
    model.config.tie_word_embeddings = False
    return True
