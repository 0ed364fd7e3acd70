"""From the words of a command line to typed options, and to a run's settings."""

from __future__ import annotations

import re
from dataclasses import dataclass, make_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from u2a_core.errors import ConfigError

if TYPE_CHECKING:
    from u2a_core.config import Settings


@dataclass(frozen=True)
class Place:
    """Where a run is kept, and how its outcome is told."""

    out: Path | None = None
    """The run directory; default runs/<command>-<time>."""
    resume: bool = False
    """Continue the run in --out to the same result."""
    json: bool = False
    """Print the report's JSON on stdout."""


def parse(kind: Any, arguments: list[str], *, prog: str) -> tuple[Any, list[str]]:
    """Typed options from words, and the words that are none of them.

    Raises:
        ConfigError: if an option's value is wrong.
    """
    import contextlib
    import io

    import tyro

    told = io.StringIO()
    try:
        with contextlib.redirect_stderr(told):
            return tyro.cli(kind, args=arguments, prog=prog, return_unknown_args=True)
    except SystemExit as stop:
        if not stop.code:
            raise
        lines = told.getvalue().splitlines()[1:]  # the first is the title of a box
        words = " ".join(" ".join(lines).translate(dict.fromkeys(map(ord, "│─╭╮╰╯"))).split())
        reason = re.split(r"Arguments? helptext|For full helptext", words)[0].strip().rstrip(".")
        raise ConfigError(f"{reason}. See {prog} --help.") from None


def options(kind: Any, arguments: list[str], *, prog: str) -> Any:
    """All of a command's words as its options."""
    options, unknown = parse(kind, arguments, prog=prog)
    if unknown:
        raise ConfigError(f"{prog} must be given options it has; got {unknown[0]}. See --help.")
    return options


def place_and_settings(
    command: str, arguments: list[str], kind: Any = Place
) -> tuple[Any, Settings]:
    """`CONFIG.yaml [--section.field VALUE …] [--out DIR] …`; the words override the file.

    Args:
        command: as it was called.
        arguments: what follows it.
        kind: the options that are no settings.
    """
    from u2a_core.config import load_settings, override

    prog = f"u2a {command}"
    if {"-h", "--help"} & set(arguments):
        _show_settings_help(prog, kind)
    if not arguments or arguments[0].startswith("-"):
        raise ConfigError(f"{prog} must be given a settings file. {prog} CONFIG.yaml")
    place, words = parse(kind, arguments[1:], prog=prog)
    return place, override(load_settings(Path(arguments[0])), words)


def _show_settings_help(prog: str, kind: Any) -> None:
    """Every setting with its default and its meaning; ends the process."""
    import tyro

    from u2a_core.config import Settings

    # made here, because the settings' class and tyro are imported only when a command needs them
    option = Annotated[Settings, tyro.conf.arg(name="")]
    call = make_dataclass("Call", [("settings", option)], bases=(kind,), kw_only=True, frozen=True)
    tyro.cli(call, args=["--help"], prog=f"{prog} CONFIG.yaml", default=call(settings=Settings()))
