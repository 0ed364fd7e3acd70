"""Models and tokenizers from a folder or the hub.

Weights are read from safetensors only. The token, a mirror (`HF_ENDPOINT`), the cache (`HF_HOME`)
and the offline mode (`HF_HUB_OFFLINE`) are read by the hub's library from the environment.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import errors as hub
from huggingface_hub import try_to_load_from_cache
from safetensors import SafetensorError, safe_open
from torch import nn

from u2a_core import params
from u2a_core.commits import note_commit
from u2a_core.config import there
from u2a_core.errors import ModelError
from u2a_core.models.checks import check_files, check_taken, incomplete
from u2a_core.models.refusals import check_reach, load_failed, misfit, pickle_only

# transformers would have a service of the hub convert a stranger's pickle, in a pull request
os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")

UNLOADABLE = (
    *(OSError, ValueError, RuntimeError, ImportError),
    *(SafetensorError, hub.StrictDataclassError),
    *(KeyError, TypeError, AttributeError),  # a file of another version, which it takes for its own
)
"""What transformers raises for a model that it cannot load."""

_TOKENIZERS = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json")
_ADAPTER = "adapter_config.json"


def located(path: str) -> tuple[str, dict[str, Any]]:
    """The folder or hub id of `owner/name@revision`, and its revision as a keyword."""
    name, at, revision = path.rpartition("@")
    if not at or there(Path(path)):
        return path, {}
    return name, {"revision": revision}


def load_tokenizer(path: str, *, trust: bool = False) -> Any:
    """The tokenizer of a model folder or hub id; of an adapter's without one, that of its base.

    Raises:
        ModelError: if there is none.
    """
    from transformers import AutoTokenizer

    if there(Path(path)) and not any((Path(path) / name).exists() for name in _TOKENIZERS):
        base = adapter_of(path)
        if base:
            return load_tokenizer(base, trust=trust)
        raise ModelError(
            f"The model folder {path} must hold a tokenizer; got none (no tokenizer.json). "
            "Save it there with tokenizer.save_pretrained."
        )
    check_reach(path)
    name, where = located(path)
    try:
        return AutoTokenizer.from_pretrained(name, trust_remote_code=trust, **where)
    except UNLOADABLE as error:
        if base := adapter_of(path):
            return load_tokenizer(base, trust=trust)
        raise load_failed("tokenizer", path, error) from error
    except Exception as error:  # tokenizers raises it bare, and nothing narrower
        if type(error) is not Exception:
            raise
        raise load_failed("tokenizer", path, error) from error


def load_config(path: str, *, trust: bool = False) -> Any:
    """The configuration of a model folder or hub id; of an adapter, that of its base.

    Raises:
        ModelError: if there is none, or the model would run code of its own untrusted.
    """
    from transformers import AutoConfig

    check_reach(path)
    if base := adapter_of(path):
        return load_config(base, trust=trust)
    if there(Path(path)) and not there(Path(path) / "config.json"):
        raise ModelError(
            f"The model folder {path} must hold config.json; got none. Name the folder that "
            "model.save_pretrained wrote."
        )
    name, where = located(path)
    try:
        return AutoConfig.from_pretrained(name, trust_remote_code=trust, **where)
    except UNLOADABLE as error:
        raise load_failed("model", path, error) from error


def pretrained(
    family: Any,
    path: str,
    dtype: torch.dtype,
    *,
    trust: bool = False,
    whole: bool = True,
    **options: Any,
) -> nn.Module:
    """A model from safetensors; an adapter gives its base model with the adapter merged.

    Args:
        family: one of transformers' Auto classes.
        path: folder or hub id.
        dtype: of the weights.
        trust: whether code of the model's own may be run.
        whole: refuses a model some of whose weights are not there, and would be drawn at random.
        options: of from_pretrained.

    Raises:
        ModelError: if there is none that can be loaded.
    """
    base = adapter_of(path)
    if base:
        _check_mergeable(path, options)
        model = pretrained(family, base, dtype, trust=trust, whole=whole, **options)
        return _merged(model, path, base)
    load_config(path, trust=trust)  # what is wrong with it has sentences of its own
    check_files(path)
    name, where = located(path)
    try:
        model, found = family.from_pretrained(
            name, dtype=dtype, use_safetensors=True, trust_remote_code=trust,
            output_loading_info=True, **where, **options,
        )  # fmt: skip
    except UNLOADABLE as error:
        raise load_failed("model", path, error) from error
    if whole and found["missing_keys"]:
        raise incomplete(path, sorted(found["missing_keys"]), model)
    check_taken(path, found["unexpected_keys"])
    assert isinstance(model, nn.Module)
    config: Any = model.config
    # where transformers itself once kept it; no configuration is saved with it
    config._commit_hash = note_commit(path, _commit_of(path, "config.json"))
    return model


def _commit_of(path: str, file: str) -> str:
    """The commit of the hub that a model was just loaded from; empty for a folder."""
    name, where = located(path)
    if there(Path(path)):
        return ""
    found = try_to_load_from_cache(name, file, **where)  # its revision as it was just resolved
    return Path(found).parent.name if isinstance(found, str) else ""


def _check_mergeable(path: str, options: dict[str, Any]) -> None:
    if "quantization_config" in options:
        raise ModelError(
            f"model.quantize must be given a whole model; got the adapter {path}, which merged "
            "into quantized weights would be rounded. Merge and save it first."
        )


def adapter_of(path: str) -> str:
    """The base model that a PEFT adapter was made of, at the revision that the adapter names.

    Empty if a folder or id is a whole model.

    Raises:
        ModelError: if the adapter does not name a base.
    """
    file = _adapter_file(path)
    if file is None:
        return ""
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
        base, revision = config.get("base_model_name_or_path"), config.get("revision")
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(f"{file} must be an adapter's configuration; got: {error}.") from error
    if not base or str(base) == path:
        raise ModelError(
            f"The adapter {path} must name the model it was made of; got {base!r}. Set "
            "base_model_name_or_path in its adapter_config.json."
        )
    return f"{base}@{revision}" if revision and not there(Path(str(base))) else str(base)


def _adapter_file(path: str) -> Path | None:
    """The configuration of an adapter, where a folder or hub id is one and nothing else."""
    if there(Path(path)):
        found = Path(path) / _ADAPTER
        return found if there(found) and not there(Path(path) / "config.json") else None
    from transformers.utils.hub import cached_file

    name, where = located(path)
    asked = {"_raise_exceptions_for_missing_entries": False, **where}
    try:
        if cached_file(name, "config.json", **asked) is not None:
            return None
        file = cached_file(name, _ADAPTER, **asked)
    except UNLOADABLE:  # a hub that does not answer, or refuses: what is loaded next tells it
        return None
    return None if file is None else Path(file)


def put_adapter(model: nn.Module, path: str, base: str) -> Any:
    """An adapter's terms beside the weights of its base.

    Raises:
        ModelError: if the adapter was made for another model.
    """
    from peft import PeftConfig, PeftModel

    name, where = located(path)
    files = [there(Path(path) / f"adapter_model.{kind}") for kind in ("bin", "safetensors")]
    if there(Path(path)) and files == [True, False]:
        raise pickle_only(path, "adapter_model.bin")
    try:
        with quiet_peft(), warnings.catch_warnings():
            warnings.filterwarnings("error", "Found missing adapter keys", UserWarning)
            config = PeftConfig.from_pretrained(name, **where)
            adapted = PeftModel.from_pretrained(model, name, config=config, **where)
        _check_adapter(adapted, path)
    except (*UNLOADABLE, KeyError, UserWarning) as error:
        raise ModelError(
            f"The adapter {path} must fit its base model {base}; got: {misfit(error)} Set "
            "model.path to the model that the adapter was made of, or base_model_name_or_path in "
            "its adapter_config.json."
        ) from error
    return adapted


@contextmanager
def quiet_peft() -> Iterator[None]:
    """Leaves out what peft warns of for nothing."""
    with warnings.catch_warnings():
        # it reads a name that transformers has replaced
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        # the adapter of a tied head is a term of its own beside the embedding, and meant so
        warnings.filterwarnings("ignore", "Model has `tie_word_embeddings=True`", UserWarning)
        # GPT-2's layers are transposed and its head is not; peft tells them apart by itself
        warnings.filterwarnings("ignore", "fan_in_fan_out is set to", UserWarning)
        yield


def base_size(adapted: nn.Module) -> int:
    """How many numbers a model has without its adapter's; 0 where they are packed together."""
    if getattr(adapted, "is_quantized", False):
        return 0
    own = (p for name, p in adapted.named_parameters() if "lora_" not in name)
    return sum(p.numel() for p in params.distinct(own))


def _check_adapter(adapted: Any, path: str) -> None:
    """Refuses tensors that no layer of the model takes, and a base of another size than then."""
    from peft import get_peft_model_state_dict

    file, note = Path(path) / "adapter_model.safetensors", Path(path) / "u2a.json"
    if not there(file):
        return
    with safe_open(file, "pt") as stored:
        names = {name for name in stored.keys() if "lora_" in name}  # noqa: SIM118 - no mapping
    taken = get_peft_model_state_dict(adapted, save_embedding_layers=False)
    if left := sorted(names - set(taken)):
        raise ValueError(f"{len(left)} of its tensors belong to no layer of it, first {left[0]}.")
    size = json.loads(note.read_text(encoding="utf-8")) if there(note) else {}
    then, now = size.get("base_parameters", 0), base_size(adapted)
    if then and now and then != now:
        raise ValueError(f"it was made of a model of {then:,} parameters, and this has {now:,}.")


def _merged(model: nn.Module, path: str, base: str) -> nn.Module:
    """The adapter's terms added to the weights of its base."""
    adapted = put_adapter(model, path, base)
    head = adapted.get_base_model().get_output_embeddings()
    if hasattr(head, "lora_A") and model.config.tie_word_embeddings:  # type: ignore[union-attr]
        raise ModelError(
            f"The adapter {path} must not reach the output head, which {base} shares with its "
            "input embedding: merged, it would change both. Train it with model.lora_head false."
        )
    whole: Any = adapted.merge_and_unload()
    # an adapter that is trained over it names what it was put on: this adapter, not its base
    whole.name_or_path = located(path)[0]
    whole.config._commit_hash = note_commit(path, _commit_of(path, _ADAPTER), base)
    assert isinstance(whole, nn.Module)
    return whole
