"""An export uploaded to the hub: private unless it is said to be public, with HF_TOKEN's token.

The folder on this machine is whole before anything is sent, and stays when sending fails. The
addresses of mirrors and the offline mode are read by the hub's library, as everywhere.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from u2a_core.errors import AccessError, ConfigError, ModelError, TokenError

_NAME = re.compile(r"^[\w.-]{1,96}/[\w.-]{1,96}$")


def check_push(name: str) -> None:
    """Refuses, before anything is made, what could not be sent.

    Raises:
        ConfigError: if it is no owner/name, or the offline mode is on.
        TokenError: if there is no token.
    """
    from huggingface_hub.constants import is_offline_mode

    if not _NAME.match(name):
        raise ConfigError(f"--push must be given owner/name on the hub; got {name!r}.")
    if not os.environ.get("HF_TOKEN", "").strip():
        raise TokenError(
            "--push must have a token that may write; HF_TOKEN is not set. Make one at "
            "https://huggingface.co/settings/tokens and set HF_TOKEN for this command."
        )
    if is_offline_mode():
        raise ConfigError(
            "--push must reach the hub; the offline mode is on (HF_HUB_OFFLINE). Unset it."
        )


def push(folder: Path, name: str, *, dataset: bool, public: bool) -> str:
    """Uploads a folder; returns its address.

    Args:
        folder: of an export.
        name: owner/name.
        dataset: whether it is a repository of data, not of a model.
        public: whether everyone may read it; an existing private one stays private.

    Raises:
        TokenError, AccessError, ModelError: if the hub refuses, or is out of reach.
        ConfigError: if it would be published in a repository that exists and is public.
    """
    import httpx2
    from huggingface_hub import HfApi
    from huggingface_hub import errors as hub

    api, kind = HfApi(token=os.environ["HF_TOKEN"].strip()), "dataset" if dataset else "model"
    try:
        made = api.create_repo(name, private=not public, repo_type=kind, exist_ok=True)
        if not public and not api.repo_info(name, repo_type=kind).private:
            raise ConfigError(
                f"{name} must be private, or --public be given; it exists and everyone can read "
                f"it. {_again(folder, name, kind)}"
            )
        api.upload_folder(
            repo_id=name, folder_path=folder, repo_type=kind, commit_message="Export of a U2A run"
        )
    except hub.HfHubHTTPError as error:
        raise _refused(error, folder, name, kind) from error
    except (httpx2.TransportError, OSError) as error:
        raise ModelError(
            f"The hub must be within reach to push {name}; got no connection "
            f"({type(error).__name__}). Check the network or HF_ENDPOINT. "
            f"{_again(folder, name, kind)}"
        ) from error
    return str(made)


def _refused(error: Any, folder: Path, name: str, kind: str) -> ModelError:
    """By the status of the hub's answer."""
    status, again = error.response.status_code, _again(folder, name, kind)
    if status == 401:
        return TokenError(
            f"{name} must be pushed with a valid token; the hub says 401. Make one that may write "
            f"at https://huggingface.co/settings/tokens and set HF_TOKEN. {again}"
        )
    if status == 403:
        return AccessError(
            f"{name} must be open to your token; the hub says 403: it may not write there. Name an "
            f"owner that is you or your organization, or make a token that may write. {again}"
        )
    reason = " ".join(str(error).split())[:200]
    return ModelError(f"The hub must take {name}; it says {status}: {reason} {again}")


def _again(folder: Path, name: str, kind: str) -> str:
    """What remains to be done once the reason is mended."""
    return f"The export itself is whole in {folder}: hf upload {name} {folder} --repo-type {kind}"
