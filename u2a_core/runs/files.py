"""Writing that never leaves half a file, and whose failure is a sentence."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from u2a_core.data import replace_file
from u2a_core.errors import RunError

RESUME = (
    "What was saved before is still there, and --resume continues from it; --out names another "
    "folder."
)
"""What a run says further when it cannot be written."""
_ADVICE = dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "Free disk space.") | dict.fromkeys(
    (errno.EROFS, errno.EACCES, errno.EPERM), "Change its permissions, or use another folder."
)


def write_json(path: Path, content: Mapping[str, Any], *, then: str = "") -> None:
    """The whole file, or the previous one.

    Args:
        path: of the file.
        content: to write, as `finite` makes it.
        then: as for `writing`.

    Raises:
        RunError: if it cannot be written.
    """
    text = json.dumps(finite(content), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    with writing(path, then=then):
        replace_file(path, lambda beside: beside.write_text(text, encoding="utf-8"))


def finite(content: Any, *, plain: Callable[[Any], Any] | None = None) -> Any:
    """The same in JSON's own types; NaN and infinities, which JSON has not, are None.

    Args:
        content: objects, lists, texts and numbers.
        plain: makes these of all else.
    """
    return json.loads(json.dumps(content, default=plain), parse_constant=_nothing)


def read_json(path: Path) -> dict[str, Any]:
    """An object.

    Raises:
        RunError: if the file is not there, or holds none.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=_nothing)
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path} must be readable JSON; got: {error}.") from error
    if not isinstance(content, dict):
        raise RunError(f"{path} must hold an object; got {type(content).__name__}.")
    return content


@contextmanager
def writing(path: Path, *, then: str = "") -> Iterator[None]:
    """Turns a failed write into a sentence, with what to do about its cause.

    Args:
        path: what is written.
        then: what else can be done, such as `RESUME`.
    """
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        # by the words: safetensors tells no number
        advice = next((todo for code, todo in _ADVICE.items() if os.strerror(code) in reason), "")
        told = f"{path} must be writable; got: {reason}. {advice} {then}"
        raise RunError(" ".join(told.split())) from error


@contextmanager
def whole(path: Path) -> Iterator[None]:
    """Turns what follows from a damaged run, whose files are not as it wrote them, into a sentence.

    Args:
        path: of the run.
    """
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise RunError(
            f"{path} must be as its run wrote it; it is damaged ({error!r}). Run anew."
        ) from error


def _nothing(_: str) -> None:
    """What NaN and infinities become."""
