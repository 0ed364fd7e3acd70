"""The model of a finished run: a whole model folder, or an adapter on the model it was made of."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path
from typing import Any

from u2a_core.config import ModelSettings, there
from u2a_core.errors import ModelError
from u2a_core.models.policy import Policy, check_finite, load_policy


def load_saved(settings: ModelSettings, folder: Path) -> Policy:
    """What `save_policy` wrote, to be measured and not trained.

    Args:
        settings: of the original model, on which an adapter is put; and dtype, device, lengths.
        folder: `model/` of a finished run.

    Raises:
        ModelError: if it cannot be loaded, or its adapter does not fit the original model.
    """
    whole = settings.model_copy(update={"parameters": "full"})
    if not there(folder / "adapter_config.json"):
        return load_policy(whole.model_copy(update={"path": str(folder)}))
    from peft import PeftModel

    policy = load_policy(whole)
    try:
        with warnings.catch_warnings():  # as for load_policy
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
            warnings.filterwarnings("ignore", "Model has `tie_word_embeddings=True`", UserWarning)
            model = PeftModel.from_pretrained(policy.model, folder).eval()
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(
            f"The adapter {folder} must fit the model {settings.path}; got: {reason} Set "
            "model.path to the model that the run was made of."
        ) from error
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
    policy = load_saved(settings.model_copy(update={"device": "cpu"}), adapter)
    peft: Any = policy.model
    whole, beside = peft.merge_and_unload(), folder.with_name(f".{folder.name}")
    whole.save_pretrained(beside, safe_serialization=True)
    policy.tokenizer.save_pretrained(beside)
    beside.replace(folder)
