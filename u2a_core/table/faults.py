"""Whether a finished run can stand in a table: its settings are read, its report has its shape."""

from __future__ import annotations

from pydantic import BaseModel, ValidationError

from u2a_core.errors import U2AError
from u2a_core.runs import Run


class _Found(BaseModel, strict=True):
    mean: float | None
    low: float | None
    high: float | None
    n: int


class _Rewards(BaseModel, strict=True):
    before: _Found
    after: _Found


class _Nothing(BaseModel, extra="forbid"):
    pass


class _Objective(BaseModel, strict=True):
    after: float  # by which the best run is chosen


class _Descent(BaseModel, strict=True):
    seconds: float
    objective: _Objective
    reward: _Rewards | _Nothing | None = None
    ledger: dict[str, float | str | None] = {}


class _Evaluation(BaseModel, strict=True):
    metrics: dict[str, _Found]
    missing: dict[str, str]
    target: str


class _Row(BaseModel, strict=True):
    method: str
    metrics: dict[str, _Found]
    ledger: dict[str, float | None]
    runs: int


class _Reproduction(BaseModel, strict=True):
    rows: list[_Row]
    notes: list[str]


_SHAPES: dict[str, type[BaseModel]] = {"evaluate": _Evaluation, "reproduce": _Reproduction}


def fault(run: Run) -> str:
    """Why a finished run cannot be compared; empty where it can.

    Args:
        run: a descent, an evaluation or a reproduction.
    """
    try:
        run.settings()
        report = run.report()
        _SHAPES.get(report["command"], _Descent).model_validate(report)
    except ValidationError as error:
        part = error.errors()[0]["loc"][0]
        return (
            f"{run.path / 'report.json'} must be as its run wrote it; its {part} is damaged. "
            "Run anew."
        )
    except U2AError as error:
        return str(error)
    return ""
