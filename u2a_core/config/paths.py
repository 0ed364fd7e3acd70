"""Paths among the settings: those of a YAML file are relative to that file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

PATHS = {
    "model": ("path",),
    "data": ("negatives", "preferences", "objective_prompts", "retain", "prompts", "truth"),
    "objective": ("reward",),
    "evaluation": (
        *("reward", "target", "harmful", "benign", "reference", "questions", "outsiders"),
        *("encoder", "judge"),
    ),
    "baseline": ("base", "mixture"),
}


def resolved(raw: dict[str, Any], base: Path) -> dict[str, Any]:
    """`raw` with every path that exists beside the file made absolute; hub ids stay."""
    out = dict(raw)
    for section, fields in PATHS.items():
        if isinstance(raw.get(section), dict):
            out[section] = {
                key: _beside(value, base) if key in fields else value
                for key, value in raw[section].items()
            }
    if isinstance(raw.get("weights"), str):
        out["weights"] = _beside(raw["weights"], base)
    return out


def _beside(value: Any, base: Path) -> Any:
    """A path that exists beside the file, or the file of module:function there, made absolute."""
    if not isinstance(value, str) or not value:
        return value
    if there(base / value):
        return str((base / value).resolve())
    module, colon, function = value.rpartition(":")
    file = base / f"{module.removesuffix('.py')}.py"
    if colon and there(file):
        return f"{file.resolve()}:{function}"
    return value


def there(path: Path) -> bool:
    """Whether a path exists; a text that can be no path (too long, a NUL) does not."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def module_file(spec: str) -> str:
    """The file of a resolved `file.py:function`; empty for any other setting."""
    file, _, _ = spec.rpartition(":")
    return file if file.endswith(".py") else ""
