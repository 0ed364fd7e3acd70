"""A job's settings as text and as a named configuration, and what in them differs from others.

A configuration is kept with the runs, in `.configs/`, under the hash of its name: a name is shown,
never a path.
"""

import hashlib
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from u2a_core.config import Settings, parse_settings, read_yaml, resolved
from u2a_core.errors import ConfigError, RunError
from u2a_core.runs.files import read_json, write_json, writing

Changes = dict[str, Any]
"""`{section: {field: value}}`, and `{field: value}` of the settings that stand in no section."""

LONGEST_NAME = 80
LONGEST_TEXT = 1_000_000
"""Characters; settings have about three thousand."""


def differences(base: Settings, settings: Settings) -> Changes:
    """What must be changed in the base settings to have the others."""
    before, after = base.model_dump(mode="json"), settings.model_dump(mode="json")
    found: Changes = {}
    for name, value in after.items():
        if isinstance(value, dict):
            changed = {key: own for key, own in value.items() if own != before[name][key]}
            if changed:
                found[name] = changed
        elif value != before[name]:
            found[name] = value
    return found


def applied(base: Settings, changes: Mapping[Any, Any], *, source: str) -> Settings:
    """The base settings with changes.

    Raises:
        ConfigError: if one names no setting, or is out of its range.
    """
    raw: dict[Any, Any] = base.model_dump(mode="json")
    for name, value in changes.items():
        both = isinstance(value, dict) and isinstance(raw.get(name), dict)
        raw[name] = raw[name] | value if both else value
    return parse_settings(resolved(raw, Path()), source=source)


def rows(base: Settings, settings: Settings) -> list[tuple[str, Any, Any]]:
    """The differences one by one: `section.field`, the base's value, the other's."""
    before = base.model_dump(mode="json")
    found = []
    for name, value in differences(base, settings).items():
        if isinstance(value, dict):
            found += [(f"{name}.{key}", before[name][key], own) for key, own in value.items()]
        else:
            found.append((name, before[name], value))
    return found


def words(base: Settings, settings: Settings) -> list[str]:
    """The options of a command that make the settings of the base ones."""
    found: list[str] = []
    for name, _, value in rows(base, settings):
        text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
        found += [f"--{name.replace('_', '-')}", text]
    return found


def as_yaml(command: str, settings: Settings) -> str:
    """A settings file, whose first line tells the command it is for."""
    body = yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    return f"# u2a {command} THIS_FILE\n{body}"


def command_line(command: str, file: Path, base: Settings, settings: Settings) -> str:
    """The command that launches the same, on the file that holds the base settings."""
    return shlex.join(["u2a", command, str(file), *words(base, settings)])


def read(text: str, base: Settings, commands: tuple[str, ...]) -> tuple[str | None, Settings]:
    """The command, if the text tells one of these, and the base settings with the text's own.

    Raises:
        ConfigError: if the text is no YAML, or a setting is wrong; names the line.
    """
    if len(text) > LONGEST_TEXT:
        raise ConfigError(
            f"Settings must be at most {LONGEST_TEXT:,} characters; got {len(text):,}. "
            "Choose the settings file, not a file of samples."
        )
    raw = read_yaml(text, "Settings")
    said = re.match(r"# u2a (\w+)", text)
    command = said.group(1) if said and said.group(1) in commands else None
    try:
        return command, applied(base, raw, source="The settings")
    except ConfigError as error:
        raise _with_lines(error, yaml.compose(text, Loader=yaml.SafeLoader)) from error


def _with_lines(error: ConfigError, tree: yaml.Node | None) -> ConfigError:
    """The error, told with the lines of the settings that are wrong."""
    cause = error.__cause__
    if not isinstance(cause, ValidationError):
        return error
    found = {_line(tree, item["loc"]) for item in cause.errors()} - {0}
    if not found:
        return error
    lines = f"line{'s' * (len(found) > 1)} {', '.join(map(str, sorted(found)))}"
    return ConfigError(str(error).replace("The settings:", f"The settings, {lines}:", 1))


def _line(tree: yaml.Node | None, place: tuple[int | str, ...]) -> int:
    """The line on which a setting stands, or else the nearest around it; 0 if the text has none."""
    line, node = 0, tree
    for part in place:
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        inside = next(((key, value) for key, value in pairs if key.value == str(part)), None)
        if inside is None:
            break
        line, node = inside[0].start_mark.line + 1, inside[1]
    return line


def keep(folder: Path, name: str, command: str, settings: Settings) -> None:
    """Keeps a configuration under a name, in the place of one of the same name.

    Raises:
        ConfigError: if the name is empty or too long.
        RunError: if the folder of runs cannot be written.
    """
    name = name.strip()
    if not 0 < len(name) <= LONGEST_NAME:
        raise ConfigError(
            f"A configuration's name must have 1 to {LONGEST_NAME} characters; got {len(name)}."
        )
    content = {"name": name, "command": command, "settings": settings.model_dump(mode="json")}
    with writing(_file(folder, name)):
        write_json(_file(folder, name), content)


def names(folder: Path, commands: tuple[str, ...]) -> list[str]:
    """The names of what is kept for these commands; a damaged file has none."""
    found = []
    for file in (folder / ".configs").glob("*.json"):
        try:
            content = read_json(file)
        except RunError:
            continue
        if content.get("command") in commands and isinstance(content.get("name"), str):
            found.append(content["name"])
    return sorted(found, key=str.casefold)


def kept(folder: Path, name: str) -> tuple[str, Settings]:
    """The command and the settings of a named configuration.

    Raises:
        RunError: if there is none of this name.
        ConfigError: if it is damaged, or another version of u2a wrote it.
    """
    content = read_json(_file(folder, name))
    settings = content.get("settings")
    if not isinstance(settings, dict):
        raise ConfigError(
            f"The configuration {name!r} must hold settings; it is damaged. Forget it."
        )
    return str(content.get("command")), parse_settings(settings, source=name)


def drop(folder: Path, name: str) -> None:
    """Forgets a named configuration."""
    with writing(_file(folder, name)):
        _file(folder, name).unlink(missing_ok=True)


def _file(folder: Path, name: str) -> Path:
    return folder / ".configs" / f"{hashlib.sha256(name.encode()).hexdigest()[:24]}.json"
