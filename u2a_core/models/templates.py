"""How a conversation becomes text: a tokenizer with the chat template that the settings ask for.

The tokenizer's own template is used as it is, unless it lacks something. Then it is mended, in the
template itself, so that a saved model writes its conversations the way it was unlearned:

* no template: `PLAIN`, "User: …" and "Assistant: …", a name that is told;
* no system role (Gemma): a system text is put before the first user turn;
* a system prompt of the settings (`model.system`): put before conversations that have none.

A template that writes the day's date (Llama 3.2) always gets the same one, or no run could be
repeated on another day. That alone is not saved: elsewhere a model may know what day it is.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from u2a_core.config import ModelSettings
from u2a_core.errors import ConfigError, ModelError
from u2a_core.models.loading import load_tokenizer

PLAIN = (
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ message['content'] + '\\n\\n' }}"
    "{% elif message['role'] == 'user' %}"
    "{{ ('' if loop.first or loop.previtem['role'] == 'system' else '\\n') }}"
    "{{ 'User: ' + message['content'] + '\\n' }}"
    "{% else %}{{ 'Assistant: ' + message['content'] }}{{ eos_token }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
"""The fallback named plain: for base models, which have no chat template."""

_BOS = "{{ bos_token }}"
_MERGING = (
    "{% if messages[0]['role'] == 'system' and messages|length > 1 %}"
    "{% set messages = [{'role': messages[1]['role'], 'content': "
    "messages[0]['content'] + '\\n\\n' + messages[1]['content']}] + messages[2:] %}"
    "{% endif %}"
)
_DEFAULT = (
    "{{% if messages[0]['role'] != 'system' %}}"
    "{{% set messages = [{{'role': 'system', 'content': {text}}}] + messages %}}"
    "{{% endif %}}"
)
_MARK = "u2a system text"

_CLOCK = "strftime_now"
"""What chat templates call to know the time."""
_DAY = {
    "a": "Fri", "A": "Friday", "b": "Jul", "B": "July", "d": "26", "-d": "26", "e": "26",
    "m": "07", "-m": "7", "y": "24", "Y": "2024", "j": "208", "F": "2024-07-26", "D": "07/26/24",
    "H": "00", "I": "12", "M": "00", "S": "00", "p": "AM", "T": "00:00:00",
}  # fmt: skip
"""Midnight of the day that Llama 3 takes where it has no clock, by the codes of strftime."""
_STOPPED = (
    f"{{% macro {_CLOCK}(format) %}}{{{{ format"
    + "".join(f" | replace('%{code}', '{text}')" for code, text in _DAY.items())
    # the line break is taken as the block's, so that the template begins as at a file's begin
    + " }}{% endmacro %}\n"
)


def chat_tokenizer(settings: ModelSettings) -> tuple[Any, tuple[str, ...]]:
    """The model's tokenizer with a chat template, and what must be told of it.

    Raises:
        ConfigError: if the settings name no model.
        ModelError: if there is no tokenizer, or no template where its own is asked for.
    """
    if not settings.path:
        raise ConfigError("model.path must name a model folder or hub id; got nothing.")
    tokenizer = load_tokenizer(settings.path, trust=settings.trust_remote_code)
    told: list[str] = []
    own = own_template(tokenizer)
    if settings.chat_template == "plain" or (settings.chat_template == "auto" and not own):
        if settings.chat_template == "auto":
            told.append(
                f"The tokenizer of {settings.path} has no chat template, so conversations are "
                'written plainly ("User: … Assistant: …", the fallback named plain). Is it the '
                "chat version of the model? model.chat_template plain says that this is meant."
            )
        own = plain(tokenizer)
    if not own:
        raise no_template(settings.path)
    if _CLOCK in own:
        told.append(
            f"The chat template of {settings.path} writes the day's date: here it is always 26 "
            "July 2024, so that runs can be repeated. Saved models write the day's again."
        )
    if not put_template(tokenizer, own) and settings.system:
        told.append(
            f"The chat template of {settings.path} has no system role: model.system is put "
            "before the first user turn."
        )
    if settings.system:
        default = _DEFAULT.format(text=json.dumps(settings.system, ensure_ascii=False))
        tokenizer.chat_template = default + tokenizer.chat_template
    return tokenizer, tuple(told)


def put_template(tokenizer: Any, template: str) -> bool:
    """Has a tokenizer write conversations by a template; tells whether that has a system role.

    Without one it is mended, and its clock, if it has one, is stopped.
    """
    template = _STOPPED * (_CLOCK in template) + template
    tokenizer.chat_template = template
    if known := knows_system(tokenizer):
        return known
    tokenizer.chat_template = _MERGING + template
    return False


def save_tokenizer(tokenizer: Any, folder: Path) -> None:
    """Writes it with its mended template, whose clock runs again."""
    template = tokenizer.chat_template
    try:
        tokenizer.chat_template = template.replace(_STOPPED, "")
        tokenizer.save_pretrained(folder)
    finally:
        tokenizer.chat_template = template


def no_template(path: str) -> ModelError:
    """A tokenizer that does not know how a conversation is written."""
    return ModelError(
        f"The tokenizer of {path} must have a chat template; got none. Add chat_template.jinja to "
        "the folder, use the chat version of the model, or set model.chat_template plain."
    )


def plain(tokenizer: Any) -> str:
    """The fallback, with the begin token where the tokenizer puts one before a text."""
    begins = tokenizer.bos_token_id is not None and (
        tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]
    )
    return (_BOS if begins else "") + PLAIN


def knows_system(tokenizer: Any) -> bool:
    """Whether the template takes a system text and does not leave it out."""
    turns = [{"role": "system", "content": _MARK}, {"role": "user", "content": "a"}]
    try:
        return _MARK in str(tokenizer.apply_chat_template(turns, tokenize=False))
    except TemplateError:
        return False


def own_template(tokenizer: Any) -> str:
    """The tokenizer's template; of several the default one; empty without."""
    found = tokenizer.chat_template
    return str((found.get("default", "") if isinstance(found, dict) else found) or "")
