"""How a conversation becomes text: a tokenizer with the chat template that the settings ask for.

The tokenizer's own template is used as it is, unless it lacks something. Then it is mended, in the
template itself, so that a saved model writes its conversations the way it was unlearned:

* no template: `PLAIN`, "User: …" and "Assistant: …", a name that is told;
* no system role (Gemma): a system text is put before the first user turn;
* a system prompt of the settings (`model.system`): put before conversations that have none.
"""

from __future__ import annotations

import json
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

    Without one it is mended.
    """
    tokenizer.chat_template = template
    if known := knows_system(tokenizer):
        return known
    tokenizer.chat_template = _MERGING + template
    return False


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
