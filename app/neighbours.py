"""Samples like a given one, by their letters: for duplicates, and for what was flagged alike."""

from typing import NamedTuple

import numpy as np
import pandas as pd
import streamlit as st
from rapidfuzz import fuzz, process

from app.gain_table import Gains

LETTERS = 400
"""So much of prompt and reply is compared, which keeps a search of 100,000 samples under 1 s."""
_SHOWN = 12
_LEAST = 50.0


class Alike(NamedTuple):
    """The samples most like one.

    Attributes:
        rows: their places, the most similar first.
        similarity: of each, from 0 to 1, the share of letters kept.
        same: places of all others with the very same reply, letter case and spaces apart.
    """

    rows: np.ndarray
    similarity: np.ndarray
    same: np.ndarray


def nearest(gains: Gains, place: int) -> Alike:
    """Those most like the sample at a place, itself left out."""
    return _nearest(gains, gains.key, place)


@st.cache_data(max_entries=256, show_spinner=False)
def _nearest(_gains: Gains, key: str, place: int) -> Alike:
    whole, replies = _normal(_gains, key)
    scores = process.cdist(
        [whole[place]], whole, scorer=fuzz.ratio, score_cutoff=_LEAST, dtype=np.float32, workers=-1
    )[0]
    scores[place] = 0.0
    count = min(_SHOWN, len(scores))
    best = np.argpartition(-scores, count - 1)[:count]
    best = best[np.argsort(-scores[best], kind="stable")]
    best = best[scores[best] > 0]
    same = np.flatnonzero(replies == replies[place])
    return Alike(best, scores[best] / 100, same[same != place])


@st.cache_resource(max_entries=1, show_spinner=False)
def _normal(_gains: Gains, key: str) -> tuple[list[str], np.ndarray]:
    """Prompt and reply in small letters with single spaces; and a number for each reply."""
    texts = {name: _plain(_gains.frame[name]) for name in ("prompt", "response")}
    whole = texts["prompt"].str.slice(0, LETTERS) + "\n" + texts["response"].str.slice(0, LETTERS)
    return whole.tolist(), pd.factorize(texts["response"])[0]


def _plain(texts: pd.Series) -> pd.Series:
    return texts.str.lower().str.replace(r"\s+", " ", regex=True).str.strip()
