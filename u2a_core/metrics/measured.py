"""A metric as it was measured: mean, 95 % interval, n, how many were valid, or why it is missing.

Values are (prompts, samples) or (prompts,), NaN where a value is missing: a failed judgement, a
reply that cannot be scored. Missing values are left out, never counted as 0. The unit of
resampling is the prompt.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from u2a_core.errors import DataError
from u2a_core.metrics.catalogue import METRICS
from u2a_core.metrics.estimates import bootstrap_mean
from u2a_core.types import Estimate


@dataclass(frozen=True)
class Measurement:
    """One metric of one model.

    Attributes:
        name: its key in METRICS.
        mean, low, high: with the 95 % bootstrap interval; NaN where it is missing.
        n: values asked for (replies, pairs, samples).
        n_valid: values that came.
        missing: why there is no mean, and what to set; empty where there is one.
    """

    name: str
    mean: float = math.nan
    low: float = math.nan
    high: float = math.nan
    n: int = 0
    n_valid: int = 0
    missing: str = ""

    def figures(self) -> dict[str, Any]:
        """mean, low, high, n, n_valid for JSON, where a bound that does not exist is None."""
        bounds = {key: getattr(self, key) for key in ("mean", "low", "high")}
        finite = {key: value if math.isfinite(value) else None for key, value in bounds.items()}
        return {**finite, "n": self.n, "n_valid": self.n_valid}

    def row(self) -> dict[str, Any]:
        """A row of the table of metrics, definition included."""
        own = dataclasses.asdict(self)
        own = {"metric": own.pop("name"), **own}
        kind = METRICS[self.name]
        return own | {
            "title": kind.title,
            "direction": kind.direction,
            "formula": kind.formula,
            "unit": kind.unit,
        }


def measured(name: str, values: np.ndarray) -> Measurement:
    """The mean of a metric over prompts, with its interval.

    Args:
        name: a key of METRICS.
        values: (prompts, samples) or (prompts,); NaN is missing.
    """
    array = np.asarray(values, dtype=np.float64)
    valid = int(np.isfinite(array).sum())
    units = per_prompt(array)
    if not valid:
        return unmeasured(name, f"None of {array.size} values could be measured.", n=array.size)
    return of_estimate(name, bootstrap_mean(units[np.isfinite(units)]), array.size, valid)


def of_estimate(name: str, estimate: Estimate, n: int, n_valid: int) -> Measurement:
    """A measurement from an estimate that is made in another way."""
    return Measurement(name, estimate.mean, estimate.low, estimate.high, n, n_valid)


def unmeasured(name: str, reason: str, *, n: int = 0) -> Measurement:
    """A metric that could not be measured, and why."""
    return Measurement(name, n=n, missing=reason)


def per_prompt(values: np.ndarray) -> np.ndarray:
    """(prompts,) the mean of each prompt's valid values; NaN where it has none."""
    array = np.asarray(values, dtype=np.float64)
    array = array[:, None] if array.ndim == 1 else array
    valid = np.isfinite(array)
    counts = valid.sum(axis=1)
    sums = np.where(valid, array, 0.0).sum(axis=1)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def paired_over_prompts(ours: np.ndarray, theirs: np.ndarray) -> Estimate:
    """Mean of ours − theirs over the prompts that both have a valid value of, with its interval.

    Args:
        ours: (prompts, samples) or (prompts,) of one model.
        theirs: of another, for the same prompts; the number of samples may differ.

    Raises:
        DataError: if the prompts do not match, or none has a value of both.
    """
    if len(ours) != len(theirs):
        raise DataError(
            f"Paired values must be of the same prompts; got {len(ours)} and {len(theirs)}."
        )
    difference = per_prompt(ours) - per_prompt(theirs)
    return bootstrap_mean(difference[np.isfinite(difference)])


def share_at_least(values: np.ndarray, threshold: float) -> np.ndarray:
    """1 where a judged value reaches the threshold, 0 where not, NaN where it is missing."""
    array = np.asarray(values, dtype=np.float64)
    return np.where(np.isfinite(array), (array >= threshold).astype(np.float64), np.nan)
