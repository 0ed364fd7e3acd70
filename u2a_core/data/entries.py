"""What a record says, by its meaning: a prompt, replies, and which of them is better or worse.

An entry only points at cells: whether these hold texts is checked where an item is made of them, so
that a cell that a set does not need cannot spoil its record.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

from u2a_core.data.columns import Kind
from u2a_core.data.files import Record

Cell: TypeAlias = Any
"""A text, the turns of a conversation, or anything else that a file may hold."""


def same(cell: Cell) -> Cell:
    """The cell itself."""
    return cell


class Reply(NamedTuple):
    """A reply of a record.

    Attributes:
        cell: the reply, or a conversation that ends with it.
        column: where it stands.
        which: what tells it from the record's other replies in its id; empty where it is alone.
        kind: a group of samples, such as a category of harm.
    """

    cell: Cell
    column: str
    which: str = ""
    kind: str = ""


@dataclass(frozen=True)
class Entry:
    """A record by its meaning.

    Attributes:
        prompt: what is asked; None where a conversation holds it.
        bad, good: replies that are negatives, and those that are to be kept.
        pairs: a better and a worse reply each.
        asked: the column of the prompt.
        without: kind → why the record gives no item of it, by a rule of its format.
        turns: reads a cell of a reply; of most formats it is the cell itself.
        system: a message before all turns; None or blank: there is none.
        judged: whether each reply is good or bad by a verdict of its own, not beside another reply.
    """

    prompt: Cell = None
    bad: tuple[Reply, ...] = ()
    good: tuple[Reply, ...] = ()
    pairs: tuple[tuple[Reply, Reply], ...] = ()
    asked: str = "prompt"
    without: Mapping[Kind, str] = field(default_factory=dict)
    turns: Callable[[Cell], Cell] = same
    system: Cell = None
    judged: bool = False


def first_of(record: Record, *columns: str) -> Cell:
    """The cell of the first of the columns that the record has."""
    return next((record[column] for column in columns if column in record), None)


def joined(asked: Cell, more: Cell) -> Cell:
    """An instruction with its input; where one of them is empty, the other alone."""
    if not isinstance(asked, str | None):
        return asked
    full = [part for part in (asked, more) if isinstance(part, str) and part.strip()]
    # an empty prompt is told from one that there is no column for
    return "\n".join(full)


def flag(value: Cell) -> bool | None:
    """True or false, however a file writes it; None for anything else."""
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower() if isinstance(value, str | int | float) else ""
    if word in ("true", "yes", "1", "1.0"):
        return True
    return False if word in ("false", "no", "0", "0.0") else None


def is_flag(value: Cell) -> bool:
    """Whether it is true or false, however a file writes it."""
    return flag(value) is not None


def number(value: Cell) -> float | None:
    """A number, however a file writes it; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if found == found else None  # noqa: PLR0124 - NaN is no number


def true_of(categories: Cell) -> str:
    """The categories that hold, between commas."""
    if not isinstance(categories, Mapping):
        return ""
    return ", ".join(str(name) for name, holds in categories.items() if flag(holds))
