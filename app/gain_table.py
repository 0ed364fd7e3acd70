"""The table that Gains and Sample show: read once for all tabs, found by id, never changed.

A hundred thousand samples are read in a second and kept for the server; pages take what they show
by the places of its rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import streamlit as st

from u2a_core import figures
from u2a_core.runs import Run

MEASURES = {
    "gain": "at the original model",
    "gain_first_round": "first round, at the original model",
    "gain_accumulated": "summed over all rounds of the reweighting",
}
"""What a gain may be, and its words."""
_KEPT = ("id", "kind", "prompt", "response", "weight", "nll", "reward")


@dataclass(frozen=True)
class Gains:
    """The samples of a run by falling gain.

    Attributes:
        key: of this very table, for caches and widgets.
        frame: id, kind, prompt, response, gain, rank, and where the run has them gain_se,
            gain_low, gain_high, weight, nll, reward. Shared: to be read only.
        places: id → row of the frame.
    """

    key: str
    frame: pd.DataFrame
    places: dict[str, int]

    def __len__(self) -> int:
        return len(self.frame)

    def rows(self, ids: Sequence[str]) -> np.ndarray:
        """The places of those ids that are here, in their order."""
        found = (self.places.get(i) for i in ids)
        return np.array([place for place in found if place is not None], dtype=np.int64)

    def ids(self, rows: np.ndarray) -> list[str]:
        """The ids at these places."""
        return [str(i) for i in self.frame["id"].to_numpy()[rows]]

    @property
    def uncertain(self) -> np.ndarray:
        """(n,) whether the 95 % interval of the gain holds 0; without intervals nowhere."""
        return figures.uncertain(self.frame)

    @property
    def flagged(self) -> np.ndarray:
        """Places of the samples that may have been flagged by mistake, the likeliest first.

        Their gain is negative; those whose whole interval is come first, then by the gain.
        """
        gain = self.frame["gain"].to_numpy()
        order = np.lexsort((gain, self.uncertain))
        return order[gain[order] < 0]


def measures(run: Run) -> list[str]:
    """What the run can be ranked by, the default first."""
    return ["gain"] if _name(run) == "gains" else ["gain_accumulated", "gain_first_round"]


def of(run: Run, measure: str) -> Gains:
    """The run's table, ranked by a measure.

    Raises:
        RunError: if the run has no such table, or it is damaged.
    """
    name = _name(run)
    return _read(run, str(run.path), run.table_version(name), name, measure)


def _name(run: Run) -> str:
    return "gains" if run.config()["command"] == "gains" else "weights"


@st.cache_resource(max_entries=2, show_spinner="Reading the gains")
def _read(_run: Run, path: str, version: int, name: str, measure: str) -> Gains:
    table = _run.table(name)
    gains = {
        f"gain{suffix}": table[f"{measure}{suffix}"]
        for suffix in ("", "_se", "_low", "_high")
        if f"{measure}{suffix}" in table
    }
    kept = table[[column for column in _KEPT if column in table]]
    frame = kept.assign(**gains).sort_values("gain", ascending=False, ignore_index=True)
    frame["rank"] = np.arange(1, len(frame) + 1)
    places = {str(sample): place for place, sample in enumerate(frame["id"])}
    return Gains(f"{path}:{version}:{measure}", frame, places)
