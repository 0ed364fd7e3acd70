"""Where the names of marks stand, so that none covers another mark, whisker or name."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

PLACES = {
    "middle right": (1, 0), "middle left": (-1, 0), "top right": (1, 1),
    "bottom right": (1, -1), "top left": (-1, 1), "bottom left": (-1, -1),
}  # fmt: skip
_LETTER, _LINE, _MARK = 0.013, 0.1, 0.013
"""Sizes as shares of the marks' range in a narrow chart."""


class Mark(NamedTuple):
    """A mark with its whisker, in the units of the axes."""

    x: float
    y: float
    low: float
    high: float
    name: str


class _Box(NamedTuple):
    left: float
    low: float
    right: float
    high: float

    def covers(self, other: _Box) -> bool:
        sideways = self.left < other.right and other.left < self.right
        return sideways and self.low < other.high and other.low < self.high


def label_places(marks: Sequence[Mark]) -> list[str]:
    """A place of PLACES for every mark's name; empty where there is no room."""
    scaled = _scaled(marks)
    taken = [_Box(m.x - _MARK, m.y - _LINE / 2, m.x + _MARK, m.y + _LINE / 2) for m in scaled]
    taken += [_Box(m.x - 0.003, m.low, m.x + 0.003, m.high) for m in scaled]
    places = []
    for mark in scaled:
        for place in PLACES:
            box = _box(mark, place)
            free = not any(box.covers(other) for other in taken)
            if free and box.left > -0.14 and box.right < 1.14:
                taken.append(box)
                places.append(place)
                break
        else:
            places.append("")
    return places


def _box(mark: Mark, place: str) -> _Box:
    side, rise = PLACES[place]
    width, middle = _LETTER * len(mark.name), mark.y + rise * _LINE * 0.6
    near = mark.x + side * (_MARK + 0.001)
    left, right = sorted((near, near + side * width))
    return _Box(left, middle - _LINE / 2, right, middle + _LINE / 2)


def _scaled(marks: Sequence[Mark]) -> list[Mark]:
    """The marks as shares of the axes' ranges."""
    xs = [mark.x for mark in marks]
    ys = list(chain.from_iterable((mark.low, mark.high) for mark in marks))
    wide, tall = (max(xs) - min(xs)) or 1.0, (max(ys) - min(ys)) or 1.0

    def up(value: float) -> float:
        return (value - min(ys)) / tall

    return [Mark((m.x - min(xs)) / wide, up(m.y), up(m.low), up(m.high), m.name) for m in marks]


def highest(means: Sequence[tuple[str, float]]) -> str:
    """Whose mean is the highest, to the three digits that are told; of more than two, how many."""
    top = f"{max(mean for _, mean in means):+.3f}"
    names = [name for name, mean in means if f"{mean:+.3f}" == top]
    return f"{' and '.join(names) if len(names) < 3 else f'{len(names)} alike'} {top}"
