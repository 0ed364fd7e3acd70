"""What an endpoint is for: a judge's answers or replies; its settings, its key, its address."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from u2a_core.errors import ConfigError

KEY = "U2A_JUDGE_KEY"
REPLIES_KEY = "U2A_ENDPOINT_KEY"


@dataclass(frozen=True)
class Role:
    """What an endpoint is for, in the words of its sentences.

    Attributes:
        who: whose endpoint.
        setting: that names it; the model's name bears `_model` after it.
        key: the environment variable of its key.
        options: of a request, dropped where the endpoint refuses them; none are, where they matter.
    """

    who: str
    setting: str
    key: str
    options: Mapping[str, Any] = field(default_factory=dict)


JUDGE = Role("The judge's endpoint", "evaluation.judge", KEY, {"temperature": 0})
REPLIES = Role("The endpoint", "evaluation.endpoint", REPLIES_KEY)


def served(role: Role, address: str, model: str) -> tuple[str, str]:
    """The address of the chat completions, and the model.

    Raises:
        ConfigError: if no model is named, or the HTTP library is not installed.
    """
    if not model:
        raise ConfigError(
            f"{role.setting}_model must name the model to ask for at {shown(address)}; got "
            "nothing. Name one that the endpoint serves."
        )
    try:
        import httpx2  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"{role.who} needs httpx2, which is not installed. "
            "Install it with: pip install 'u2a-workbench[judge]'."
        ) from error
    base, mark, query = address.partition("?")
    base = base.rstrip("/").removesuffix("/chat/completions") + "/chat/completions"
    return f"{base}{mark}{query}", model


def key_header(variable: str) -> dict[str, str]:
    """The header that bears the key, where there is one."""
    key = os.environ.get(variable, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise ConfigError(
            f"The key in {variable} must be one word of ASCII letters. Copy it again."
        )
    return {"Authorization": f"Bearer {key}"} if key else {}


def shown(address: str) -> str:
    """The address without a user name and password in it, and without a query."""
    return re.sub(r"//[^/@]*@", "//", address).partition("?")[0]
