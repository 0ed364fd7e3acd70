"""Settings from a YAML file and from the words of a command line, with errors that name them."""

from __future__ import annotations

import difflib
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

from u2a_core.config.paths import resolved
from u2a_core.config.section import Section
from u2a_core.config.settings import Settings
from u2a_core.errors import ConfigError

_MERGE = "tag:yaml.org,2002:merge"


class _Once(yaml.SafeLoader):
    """YAML in which a name stands once: of two sections of one name the first would be lost."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping as it stands, but for names that are repeated."""
        names = [(key.value, key.start_mark) for key, _ in node.value if key.tag != _MERGE]
        for place, (name, mark) in enumerate(names):
            if isinstance(name, str) and name in [earlier for earlier, _ in names[:place]]:
                raise yaml.MarkedYAMLError(
                    problem=f"{name} stands there a second time; put both into one",
                    problem_mark=mark,
                )
        return super().construct_mapping(node, deep)


def load_settings(path: Path) -> Settings:
    """Settings of a YAML (or JSON) file, with its relative paths resolved.

    Raises:
        ConfigError: if the file is missing or a setting is wrong; names the setting.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} must be a readable YAML file; got {error}.") from error
    return parse_settings(resolved(read_yaml(text, str(path)), path.parent), source=str(path))


def read_yaml(text: str, source: str) -> dict[Any, Any]:
    """The sections of a YAML text.

    Args:
        text: of a settings file.
        source: what an error calls it.

    Raises:
        ConfigError: if it is no YAML, a value is not what it says it is, or there is no section.
    """
    try:
        raw = yaml.load(text, Loader=_Once)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}" if mark else "an unreadable character"
        reason = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise ConfigError(f"{source} must be valid YAML; got, {where}: {reason}.") from error
    except (ValueError, TypeError, AttributeError, LookupError) as error:  # by its constructors
        raise ConfigError(
            f"{source} must be valid YAML; got a value that is not of its kind: {error}."
        ) from error
    except RecursionError as error:
        raise ConfigError(f"{source} must be valid YAML; got too many levels.") from error
    if not isinstance(raw, dict):
        raise ConfigError(
            f"{source} must hold sections such as model: and data:; got {type(raw).__name__}."
        )
    return raw


def override(settings: Settings, words: Sequence[str]) -> Settings:
    """Settings with `--section.field VALUE` (or `=VALUE`) put over them; a flag alone means true.

    Raises:
        ConfigError: if a word is no option, or its value is wrong.
    """
    raw = settings.model_dump(mode="json")
    rest = deque(words)
    while rest:
        word = rest.popleft()
        if not word.startswith("--"):
            raise ConfigError(f"Settings must be given as --section.field VALUE; got {word!r}.")
        name, given, value = word[2:].partition("=")
        if not given:
            value = rest.popleft() if rest and not rest[0].startswith("--") else "true"
        *sections, key = name.replace("-", "_").split(".")
        target = raw
        for section in sections:
            if not isinstance(target.get(section), dict):
                target[section] = {}  # refused below, by its name
            target = target[section]
        target[key] = value
    return parse_settings(resolved(raw, Path()), source="command line")


def parse_settings(raw: dict[str, Any], *, source: str) -> Settings:
    """Settings from plain data; errors name the setting and the source."""
    try:
        found = Settings.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(validation_message(error, source)) from error
    try:
        found.model_dump_json()
    except PydanticSerializationError as error:
        raise ConfigError(
            f"{source}: texts must be whole characters; got half of one (a surrogate, as \\ud800). "
            "Write the character itself."
        ) from error
    return found


def validation_message(error: ValidationError, source: str) -> str:
    """Pydantic's findings as sentences."""
    findings = []
    for item in error.errors():
        where = ".".join(str(part) for part in item["loc"]) or "settings"
        got = "" if isinstance(item["input"], dict | Section) else f"; got {item['input']!r}"
        reason = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            known = _names() if "." in where else list(Settings.model_fields)
            near = difflib.get_close_matches(where, known, n=1)
            reason = f"is no setting{f' (did you mean {near[0]}?)' if near else ''}"
        findings.append(f"{where}: {reason}{got}.")
    return f"{source}: " + " ".join(findings)


def _names() -> list[str]:
    """`section.field` of every setting."""
    names = []
    for name, field in Settings.model_fields.items():
        own = getattr(field.annotation, "model_fields", None)
        names += [name] if own is None else [f"{name}.{inner}" for inner in own]
    return names
