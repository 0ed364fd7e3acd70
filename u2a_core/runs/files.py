"""Writing that never leaves half a file, and whose failure is a sentence."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from u2a_core.data import replace_file
from u2a_core.errors import RunError


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """The whole file, or the previous one.

    Raises:
        RunError: if it cannot be written.
    """
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    with writing(path):
        replace_file(path, lambda beside: beside.write_text(text, encoding="utf-8"))


def read_json(path: Path) -> dict[str, Any]:
    """An object.

    Raises:
        RunError: if the file is not there, or holds none.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{path} must be readable JSON; got: {error}.") from error
    if not isinstance(content, dict):
        raise RunError(f"{path} must hold an object; got {type(content).__name__}.")
    return content


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns a failed write into a sentence."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise RunError(
            f"{path} must be writable; got: {reason}. Free disk space or name another folder "
            "with --out; what was saved before is still there, and --resume continues from it."
        ) from error
