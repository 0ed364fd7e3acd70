"""Models and tokenizers from a folder or the hub, and what is said where they do not load.

A hub model that needs a login, its terms accepted, another name, or a network each has a sentence
of its own. The token is read by the hub's library from the environment (`HF_TOKEN`).
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import torch
from huggingface_hub import errors as hub
from torch import nn

from u2a_core.config import there
from u2a_core.errors import AccessError, ModelError, TokenError

_TOKENIZERS = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json")


def load_tokenizer(path: str) -> Any:
    """The tokenizer of a model folder or hub id.

    Raises:
        ModelError: if there is none.
    """
    from transformers import AutoTokenizer

    if there(Path(path)) and not any((Path(path) / name).exists() for name in _TOKENIZERS):
        base = adapter_of(path)
        if base:
            return load_tokenizer(base)
        raise ModelError(
            f"The model folder {path} must hold a tokenizer; got none (no tokenizer.json). "
            "Save it there with tokenizer.save_pretrained."
        )
    try:
        return AutoTokenizer.from_pretrained(path)
    except (OSError, ValueError) as error:
        raise load_failed("tokenizer", path, error) from error


def pretrained(family: Any, path: str, dtype: torch.dtype) -> nn.Module:
    """A model from safetensors; an adapter's folder gives its base model with the adapter merged.

    Raises:
        ModelError: if there is none that can be loaded.
    """
    base = adapter_of(path)
    if base:
        return _merged(pretrained(family, base, dtype), path, base)
    if there(Path(path)) and not there(Path(path) / "config.json"):
        raise ModelError(
            f"The model folder {path} must hold config.json; got none. Name the folder that "
            "model.save_pretrained wrote."
        )
    try:
        model = family.from_pretrained(path, dtype=dtype, use_safetensors=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise load_failed("model", path, error) from error
    assert isinstance(model, nn.Module)
    return model


def adapter_of(path: str) -> str:
    """The base model that a folder's PEFT adapter was made of; empty if it holds a whole model.

    Raises:
        ModelError: if the adapter does not name a base.
    """
    file = Path(path) / "adapter_config.json"
    if not there(file) or there(Path(path) / "config.json"):
        return ""
    try:
        base = json.loads(file.read_text(encoding="utf-8")).get("base_model_name_or_path")
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(f"{file} must be an adapter's configuration; got: {error}.") from error
    if not base or str(base) == path:
        raise ModelError(
            f"The adapter {path} must name the model it was made of; got {base!r}. Set "
            "base_model_name_or_path in its adapter_config.json."
        )
    return str(base)


def _merged(model: nn.Module, path: str, base: str) -> nn.Module:
    """The adapter's terms added to the weights of its base."""
    from peft import PeftConfig, PeftModel

    try:
        with warnings.catch_warnings():  # as for load_policy
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
            warnings.filterwarnings("ignore", "Model has `tie_word_embeddings=True`", UserWarning)
            adapted: Any = PeftModel.from_pretrained(
                model, path, config=PeftConfig.from_pretrained(path)
            )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(
            f"The adapter {path} must fit its base model {base}; got: {reason} Check "
            "base_model_name_or_path in its adapter_config.json."
        ) from error
    head = adapted.get_base_model().get_output_embeddings()
    if hasattr(head, "lora_A") and model.config.tie_word_embeddings:  # type: ignore[union-attr]
        raise ModelError(
            f"The adapter {path} must not reach the output head, which {base} shares with its "
            "input embedding: merged, it would change both. Train it with model.lora_head false."
        )
    whole: nn.Module = adapted.merge_and_unload()
    return whole


def load_failed(what: str, path: str, error: Exception) -> ModelError:
    """What a user can do about a tokenizer, configuration or model that does not load."""
    local = there(Path(path))
    for cause in () if local else _causes(error):
        if isinstance(cause, hub.HfHubHTTPError) and (said := _refused(path, cause)):
            return said
        if isinstance(cause, hub.RevisionNotFoundError):
            return ModelError(f"The hub must have the revision of {path}; it has not. Check it.")
        if isinstance(cause, hub.HFValidationError):
            return ModelError(
                f"The model must be a folder or a hub id owner/name; got {path!r}, which is "
                "neither. Check the path."
            )
        if isinstance(cause, _NO_NETWORK):
            return ModelError(
                f"{path} must be a folder of this machine, or the hub be within reach; got "
                f"{_kind(cause)}. Check the path and the connection, or download the "
                "model elsewhere and name its folder."
            )
    reason = " ".join(str(error).split())[:200]
    return ModelError(f"The {what} at {path} must load; got: {reason} Check the path.")


_NO_NETWORK = (hub.OfflineModeIsEnabled, hub.LocalEntryNotFoundError, httpx2.TransportError)


def _kind(cause: BaseException) -> str:
    offline = isinstance(cause, hub.OfflineModeIsEnabled)
    return "the offline mode (HF_HUB_OFFLINE)" if offline else "no connection"


def _refused(path: str, cause: hub.HfHubHTTPError) -> ModelError | None:
    """By the status of the hub's answer."""
    status, page = cause.response.status_code, f"https://huggingface.co/{path}"
    if isinstance(cause, hub.GatedRepoError) and status != 401:
        return AccessError(
            f"{path} must be opened to you; the hub says 403: its terms are not accepted. Open "
            f"{page} with the account of your token, accept the terms, then check again."
        )
    if isinstance(cause, hub.GatedRepoError) or (status == 401 and not _found_nothing(cause)):
        return TokenError(
            f"{path} must be read with a token; the hub says 401: none was given, or it is not "
            "valid. Enter one on the Model page, or set HF_TOKEN."
        )
    if _found_nothing(cause):
        return TokenError(
            f"The hub must have the model {path!r}; it has none of this name that it would show "
            "you. Check the name; for a private model enter a token on the Model page, or set "
            "HF_TOKEN."
        )
    if status == 403:
        return AccessError(f"{path} must be opened to you; the hub says 403. See {page} .")
    return None


def _found_nothing(cause: Exception) -> bool:
    return isinstance(cause, hub.RepositoryNotFoundError) and not isinstance(
        cause, hub.GatedRepoError
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what led to it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
