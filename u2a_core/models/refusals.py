"""What is said where a tokenizer, a configuration or a model does not load.

Each of these has a sentence of its own: a login, terms to be accepted, another name or revision, no
network, nothing in the cache, half a download, pickle weights, code of the model's own, an unknown
architecture.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx2
import transformers
from huggingface_hub import constants
from huggingface_hub import errors as hub

from u2a_core.config import there
from u2a_core.errors import AccessError, ModelError, TokenError
from u2a_core.reach import knock

_NO_NETWORK = (hub.OfflineModeIsEnabled, hub.LocalEntryNotFoundError, httpx2.TransportError)
_NOT_ALL = "does not appear to have files named"
_NO_SAFETENSORS = ("cannot be loaded with `safetensors`", "Error no file named model.safetensors")
_UNKNOWN = (
    "{path} must be of an architecture that transformers "
    f"{transformers.__version__} knows; got: {{reason}} Upgrade transformers, or choose another "
    "model."
)
_CUT_OFF = (
    "The weights of {path} must be whole; a file of them ends too early or is no safetensors file "
    "({reason}). Download or save the model again."
)
_OTHER_VERSION = (
    f"The files of the {{what}} at {{path}} must be of a version that transformers "
    f"{transformers.__version__} reads; got: {{reason}} Upgrade transformers and tokenizers, or "
    "download them again."
)
_MISFITS = {
    "Target modules": "it adapts layers that this model does not have.",
    "size mismatch": "a size mismatch, its layers are of another size than this model's.",
    "missing adapter keys": "missing adapter keys, its file holds none for some of its layers.",
}
"""Words of peft or torch → the reason in short."""
_BROKEN = (
    "The files of the {what} at {path} must be whole JSON; one of them is broken ({reason}). "
    "Download or save the {what} again."
)
_SAID = {
    "did not match any variant of untagged enum": _OTHER_VERSION,
    "does not recognize this architecture": _UNKNOWN,
    "Unrecognized model in": _UNKNOWN,
    "incomplete metadata": _CUT_OFF,
    "deserializing header": _CUT_OFF,
    "attention implementation": "model.attention must be offered by {path}; got: {reason} Set it "
    "to auto.",
    "ignore_mismatched_sizes": "The weights of {path} must have the shapes that its config.json "
    "tells; got: {reason} Download or save the {what} again.",
    "is not a valid JSON file": _BROKEN,
    "Expecting ": _BROKEN,
    "Unterminated string": _BROKEN,
    "EOF while parsing": _BROKEN,
    "does not appear to have a file named": "{path} must hold a {what}; there is no such file: "
    "{reason} Check the name.",
}
"""Words of transformers → what is said."""


def load_failed(what: str, path: str, error: Exception) -> ModelError:
    """What a user can do about a tokenizer, configuration or model that does not load."""
    reason = " ".join(str(error).split())
    if not there(Path(path)):
        led = list(_causes(error))
        for cause in led:  # what the hub answered says more than that a file was not had
            if said := _answered(path, cause):
                return said
        if any(isinstance(cause, _NO_NETWORK) for cause in led) or _NOT_ALL in reason:
            return _out_of_reach(path)
    if said := _by_its_files(what, path, reason):
        return said
    if isinstance(error, ImportError):
        return ModelError(
            f"The {what} at {path} must load; it needs a package that is not installed: "
            f"{reason[:160]} Install it."
        )
    if isinstance(error, KeyError | TypeError | AttributeError):
        named = f"{type(error).__name__} {reason[:160]}."
        return ModelError(_OTHER_VERSION.format(what=what, path=path, reason=named))
    return ModelError(f"The {what} at {path} must load; got: {reason[:200]} Check the path.")


def pickle_only(path: str, found: str) -> ModelError:
    """Weights in a format that can run code."""
    return ModelError(
        f"The weights of {path} must be safetensors; got {found}, and pickle can run code. If you "
        "trust it, convert it: load it once with from_pretrained(…, use_safetensors=False), and "
        "write it with save_pretrained."
    )


def needs_code(path: str) -> ModelError:
    """A model that brings Python code."""
    return ModelError(
        f"{path} must not run code of its own; it brings Python code that transformers does not "
        "have. Read that code, and set model.trust_remote_code true, or use another model."
    )


def _by_its_files(what: str, path: str, reason: str) -> ModelError | None:
    """By what transformers says of files that it has found."""
    if "trust_remote_code" in reason:
        return needs_code(path)
    if any(words in reason for words in _NO_SAFETENSORS):
        return pickle_only(path, "none")
    for words, sentence in _SAID.items():
        if words in reason:
            return ModelError(sentence.format(what=what, path=path, reason=reason[:160]))
    return None


def _answered(path: str, cause: BaseException) -> ModelError | None:
    """By what the hub answered, or said of the name itself."""
    if isinstance(cause, hub.RevisionNotFoundError):
        name, _, revision = path.rpartition("@")
        return ModelError(
            f"The hub must have the revision {revision!r} of {name}; it has not. Check what "
            "follows the @: a branch, a tag or a commit."
            if name
            else f"The hub must have the revision of {path}; it has not. Check it."
        )
    if isinstance(cause, hub.HfHubHTTPError) and (said := _refused(path, cause)):
        return said
    if isinstance(cause, hub.HFValidationError):
        return ModelError(
            "The model must be a folder or a hub id owner/name or owner/name@revision; got "
            f"{path!r}, which is neither. Check the path."
        )
    return None


def _out_of_reach(path: str) -> ModelError:
    """No answer, and not in the cache either, or not all of it."""
    offline = constants.is_offline_mode()
    kind = "the offline mode (HF_HUB_OFFLINE)" if offline else "no connection"
    part = _in_cache(path)
    if part:
        return ModelError(
            f"{path} must be in the cache as a whole, or the hub be within reach; got {kind}, and "
            f"{part}. Load it once with a connection, which continues the download."
        )
    return ModelError(
        f"{path} must be a folder of this machine, or the hub be within reach; got {kind}, and "
        f"nothing of it in the cache ({constants.HF_HUB_CACHE}). Check the path and the connection "
        f"({constants.ENDPOINT}), or download the model elsewhere and name its folder."
    )


def check_reach(path: str) -> None:
    """Refuses at once what is nowhere: the library would try for a minute.

    Where there is a proxy, or anything in the cache, the library is asked.
    """
    if there(Path(path)) or constants.is_offline_mode() or _in_cache(path):
        return
    try:
        knock()
    except OSError as error:
        raise _out_of_reach(path) from error


def _in_cache(path: str) -> str:
    """What there is of a hub id in the cache, in words; empty for nothing."""
    name = path.partition("@")[0]
    folder = Path(constants.HF_HUB_CACHE) / f"models--{name.replace('/', '--')}"
    if not there(folder):
        return ""
    blobs = list((folder / "blobs").glob("*")) if there(folder / "blobs") else []
    halves = sum(blob.suffix == ".incomplete" for blob in blobs)
    return f"{len(blobs) - halves} of its files in the cache, {halves} half downloaded"


def _refused(path: str, cause: hub.HfHubHTTPError) -> ModelError | None:
    """By the status of the hub's answer."""
    status = cause.response.status_code
    page = f"{constants.ENDPOINT}/{path.partition('@')[0]}"
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
    if status >= 500:
        return ModelError(
            f"The hub at {constants.ENDPOINT} must answer for {path}; it says {status}, a fault of "
            "its own. Try again later, or name a folder of this machine."
        )
    return None


def misfit(error: Exception) -> str:
    """Why an adapter does not fit, where peft lists all of its layers."""
    said = " ".join(str(error).split())
    return next((told for mark, told in _MISFITS.items() if mark in said), said[:200])


def _found_nothing(cause: Exception) -> bool:
    return isinstance(cause, hub.RepositoryNotFoundError) and not isinstance(
        cause, hub.GatedRepoError
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what led to it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
