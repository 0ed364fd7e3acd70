"""Whether a model is what it is taken for: its files, its kind, its weights, its vocabulary."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from u2a_core.config import there
from u2a_core.errors import ModelError
from u2a_core.models.kernels import beside_text
from u2a_core.models.refusals import pickle_only

_FEW = 0.8
"""Share of a model's embeddings below which its tokenizer's tokens are told to be few."""


def check_causal(config: Any, path: str) -> None:
    """Refuses a model that does not continue a text: an encoder, a classifier, a seq2seq.

    Args:
        config: of transformers.
        path: for the sentence.
    """
    from transformers.models.auto import modeling_auto as auto

    kinds = ", ".join(config.architectures or ()) or config.model_type
    causal = auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    if getattr(config, "is_encoder_decoder", False):
        what = "an encoder–decoder, which does not continue its prompt"
    elif "SequenceClassification" in kinds:
        what = "a classifier. Name it as objective.reward, and as model.path"
    elif (
        config.model_type in auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
        and not getattr(config, "is_decoder", False)
        and causal.get(config.model_type) not in (config.architectures or ())
    ):
        what = "an encoder"
    elif config.model_type not in causal and not getattr(config, "auto_map", None):
        what = f"of the type {config.model_type}, which has no language model's head"
    else:
        return
    hint = " a causal language model." if what.endswith("model.path") else (
        ". Name a model whose config.json says …ForCausalLM."
    )  # fmt: skip
    raise ModelError(f"{path} must be a causal language model; got {kinds}, {what}{hint}")


def check_finite(model: nn.Module, path: str) -> None:
    """Refuses a model with NaN or infinite weights."""
    for name, parameter in model.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            raise ModelError(
                f"The model's weights must be finite; got NaN or infinity in {name} of {path}. "
                "Download or save the model again."
            )


def check_vocabulary(model: nn.Module, tokenizer: Any, path: str) -> tuple[str, ...]:
    """Refuses more tokens than embeddings; warns of so few that the tokenizer may be another's."""
    rows = int(model.get_input_embeddings().num_embeddings)  # type: ignore[operator]
    if len(tokenizer) > rows:
        raise ModelError(
            f"The model must have an embedding for each of the tokenizer's {len(tokenizer)} "
            f"tokens; got {rows} in {path}. Use the model's own tokenizer."
        )
    if len(tokenizer) < _FEW * rows:
        return (
            f"The tokenizer of {path} knows {len(tokenizer)} tokens and the model has embeddings "
            f"for {rows}: check that it is the model's own.",
        )
    return ()


def check_files(path: str) -> None:
    """Refuses a folder whose weights are pickle, half there, or pointers to where they are."""
    folder = Path(path)
    if not there(folder):
        return
    index = folder / "model.safetensors.index.json"
    shards = {file.name for file in folder.glob("*.safetensors")}
    if there(index):
        try:
            named = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (ValueError, KeyError, AttributeError) as error:
            raise ModelError(
                f"{index} must list the files of the weights; got: {error}."
            ) from error
        if missing := sorted(named - shards):
            raise ModelError(
                f"The model folder {path} must hold all {len(named)} files of its weights; "
                f"{len(missing)} are not there (first: {missing[0]}). Download it again."
            )
    elif not shards:
        raise _no_weights(folder)
    for name in sorted(shards):
        with (folder / name).open("rb") as file:
            if file.read(23) == b"version https://git-lfs":
                raise ModelError(
                    f"{folder / name} must hold weights; got a pointer of Git LFS, 130 bytes that "
                    "say where they are. Run git lfs pull in that folder."
                )


def _no_weights(folder: Path) -> ModelError:
    """What there is instead of safetensors."""
    if pickles := sorted(folder.glob("pytorch_model*.bin")):
        return pickle_only(str(folder), pickles[0].name)
    if others := sorted(f.name for end in ("gguf", "pth") for f in folder.glob(f"*.{end}")):
        return ModelError(
            f"The weights of {folder} must be safetensors as transformers saves them; got "
            f"{others[0]}, which another program reads. Convert the model with transformers' own "
            "script, or name the hub id of the converted one."
        )
    return ModelError(
        f"The model folder {folder} must hold weights; got none (no *.safetensors). Download or "
        "save the model again."
    )


def check_taken(path: str, unexpected: Iterable[str]) -> None:
    """Refuses weights of layers that the model does not have: half a model would be loaded."""
    layers = re.compile(r"(^|\.)(layers|h|blocks)\.\d+\..*weight$")
    lost = sorted(name for name in unexpected if layers.search(name) and not beside_text(name))
    if lost:
        raise ModelError(
            f"The config.json of {path} must fit its weights; {len(lost)} of them are of layers "
            f"that it does not tell of (first: {lost[0]}). Use the config.json that was saved with "
            "these weights."
        )


def incomplete(path: str, missing: list[str], model: Any) -> ModelError:
    """A model some of whose weights would be random numbers."""
    heads = [name for name in missing if name.split(".")[0] in ("score", "classifier", "lm_head")]
    hint = "Download or save the model again, or name another."
    if len(heads) == len(missing) and "SequenceClassification" in type(model).__name__:
        hint = (
            "It is no reward model: it was saved without a score head. Name a sequence classifier, "
            "or module:function."
        )
    elif len(heads) == len(missing):
        hint = "It was saved without a language model's head: save the …ForCausalLM model."
    return ModelError(
        f"All weights of {path} must be there; {len(missing)} are not (first: {missing[0]}), and "
        f"would be random numbers. {hint}"
    )
