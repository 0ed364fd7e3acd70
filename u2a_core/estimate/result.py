"""What an estimate says, as data: for the terminal, for JSON, and for the Model page. No torch."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

MARGIN = 0.2
"""Share by which the memory of a run may differ from its estimate; what was measured differed by
less."""


@dataclass(frozen=True)
class Part:
    """A part of the memory of a command at its worst moment."""

    name: str
    bytes: int
    about: str = ""


@dataclass(frozen=True)
class Need:
    """What a command needs.

    Attributes:
        command: its name.
        phase: what it does when it needs most.
        parts: of its memory then.
        seconds: from, to.
    """

    command: str
    phase: str
    parts: tuple[Part, ...]
    seconds: tuple[float, float]

    @property
    def peak(self) -> int:
        """Bytes at the worst moment."""
        return sum(part.bytes for part in self.parts)


@dataclass(frozen=True)
class Machine:
    """What there is.

    Attributes:
        device: where is computed.
        memory: what the memory is called.
        free: bytes that a job can have.
        total: bytes.
        flops: operations a second in a matrix product of the model's size.
    """

    device: str
    memory: str
    free: int
    total: int
    flops: float


@dataclass(frozen=True)
class Beside:
    """What the reward model needs on a device of its own.

    Attributes:
        machine: that device.
        parts: of its memory.
    """

    machine: Machine
    parts: tuple[Part, ...]

    @property
    def peak(self) -> int:
        """Bytes at the worst moment."""
        return sum(part.bytes for part in self.parts)


@dataclass(frozen=True)
class Suggestion:
    """A change of the settings that needs less.

    Attributes:
        title: what it is.
        changes: `section.field` → value.
        peak: bytes of the command that needs most, with the change.
        saves: bytes.
        price: what it costs otherwise.
    """

    title: str
    changes: dict[str, Any]
    peak: int
    saves: int
    price: str


@dataclass(frozen=True)
class Estimate:
    """Memory and time of the commands on a settings file, before anything is loaded.

    Attributes:
        model: what it is: path, parameters, trained, layers, vocabulary, dtype, context.
        machine: what there is.
        needs: of the commands.
        suggestions: what would help, where something may not fit; the best first.
        assumed: what the settings do not say.
        warnings: what else a user should know.
        margin: share by which the memory may differ.
        beside: of the reward model, where its device is another than the policy's.
    """

    model: dict[str, Any]
    machine: Machine
    needs: tuple[Need, ...]
    suggestions: tuple[Suggestion, ...]
    assumed: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    margin: float = MARGIN
    beside: Beside | None = None

    @property
    def largest(self) -> Need:
        """The command that needs most memory."""
        return max(self.needs, key=lambda need: need.peak)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return dataclasses.asdict(self)


def from_dict(raw: dict[str, Any]) -> Estimate:
    """The inverse of `Estimate.as_dict`, JSON in between.

    Raises:
        KeyError, TypeError, ValueError: if it is none.
    """
    needs = tuple(
        Need(
            command=need["command"],
            phase=need["phase"],
            parts=_parts(need),
            seconds=(float(need["seconds"][0]), float(need["seconds"][1])),
        )
        for need in raw["needs"]
    )
    beside = raw.get("beside")
    return Estimate(
        model=dict(raw["model"]),
        machine=Machine(**raw["machine"]),
        needs=needs,
        suggestions=tuple(Suggestion(**found) for found in raw["suggestions"]),
        assumed=tuple(raw["assumed"]),
        warnings=tuple(raw["warnings"]),
        margin=float(raw["margin"]),
        beside=Beside(Machine(**beside["machine"]), _parts(beside)) if beside else None,
    )


def _parts(raw: dict[str, Any]) -> tuple[Part, ...]:
    return tuple(Part(**part) for part in raw["parts"])


def verdict(peak: int, free: int, margin: float = MARGIN) -> str:
    """fits; tight: within the margin of what is free; too large."""
    if peak * (1 + margin) <= free:
        return "fits"
    return "tight" if peak * (1 - margin) <= free else "too large"


def size(count: float | int) -> str:
    """Bytes in words: GiB, MiB below one."""
    gib = count / 2**30
    return f"{gib:.1f} GiB" if gib >= 1 else f"{max(0, round(count / 2**20))} MiB"


def time_range(seconds: tuple[float, float]) -> str:
    """A range of time in words."""
    low, high = (_unit(value, seconds[1]) for value in seconds)
    return f"{low}–{high} {_unit_of(seconds[1])[0]}"


def _unit_of(seconds: float) -> tuple[str, float]:
    found = ("s", 1.0)
    for name, length in (("min", 60.0), ("h", 3600.0), ("days", 86400.0)):
        if seconds >= 2 * length:
            found = (name, length)
    return found


def _unit(value: float, largest: float) -> str:
    scaled = value / _unit_of(largest)[1]
    return f"{scaled:.0f}" if scaled >= 9.5 else f"{scaled:.1f}"
