"""Samples that may have been flagged as negative by mistake: the list, its marks, its worth."""

import numpy as np
import pandas as pd
import streamlit as st

from app import parts
from app.gain_table import Gains
from u2a_core.data import fingerprint, load_truth
from u2a_core.runs import Run, reviews

_AT = (10, 20, 50, 100)


def told(gains: Gains, marks: dict[str, str]) -> None:
    """What the list is, and the tally of what was marked."""
    count = len(gains.flagged)
    sure = int((~gains.uncertain[gains.flagged]).sum())
    order = (
        f"first the {sure:,} whose whole 95 % interval is below 0, then those of uncertain sign"
        if "gain_low" in gains.frame
        else "this measure has no intervals"
    )
    st.caption(
        f"{count:,} samples whose unlearning would hurt, the worst first ({order}). A good reply "
        "that was flagged by mistake looks like this: read it below and mark it."
    )
    if marks:
        said = reviews.tally(marks)
        words = ", ".join(f"{reviews.MARKS[mark]} {n:,}" for mark, n in said.items() if n)
        st.markdown(f"**You marked {len(marks):,}**: {words}.")


def mark_buttons(sha256: str, sample: str) -> None:
    """What a person says of the sample; the same button again takes it back."""
    said = reviews.marks(parts.workspace(), sha256).get(sample)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption("Flagged by mistake?", width="content")
        for number, (mark, words) in enumerate(reviews.MARKS.items(), start=1):
            # by callback: its arguments are of the sample that was shown when the key was pressed
            st.button(
                words.capitalize(), key=f"mark_{mark}", shortcut=str(number),
                on_click=parts.callback(_put), args=(sha256, sample, mark),
                type="primary" if said == mark else "secondary",
            )  # fmt: skip


def _put(sha256: str, sample: str, mark: str) -> None:
    space = parts.workspace()
    again = reviews.marks(space, sha256).get(sample) == mark
    reviews.put(space, sha256, sample, None if again else mark)


def evaluation(run: Run, gains: Gains) -> None:
    """How many of the list's first K are truly mislabelled, where a file of truth says so."""
    file = run.settings().local_paths().get("data.truth")
    if file is None or not len(gains.flagged):
        return
    with st.expander("Evaluation: how many of this list are mistakes indeed", key="evaluation"):
        truth = _truth(gains, gains.key, str(file), fingerprint(file))
        hits = truth[gains.flagged]
        counts = [k for k in _AT if k < len(hits)] + [len(hits)]
        rows = [_precision(f"first {k}", hits[:k]) for k in counts]
        rows.append(_precision("all negatives, for comparison", truth))
        st.dataframe(pd.DataFrame(rows), hide_index=True, alt="Precision of the list at K")
        st.caption(
            "Share of samples that the file of truth calls mislabelled, with its 95 % interval "
            "(Wilson). The file is read for this alone; the gains know nothing of it."
        )


def _precision(name: str, hits: np.ndarray) -> dict[str, str]:
    from scipy import stats  # 60 MB that no other part of these pages needs

    found = int(hits.sum())
    bounds = stats.binomtest(found, len(hits)).proportion_ci(method="wilson")
    return {
        "samples": name,
        "mislabelled ↑": f"{found / len(hits):.1%}",
        "95 %": f"[{bounds.low:.1%}, {bounds.high:.1%}]",
        "n": f"{found} of {len(hits)}",
    }


@st.cache_data(max_entries=4, show_spinner=False)
def _truth(_gains: Gains, key: str, file: str, sha256: str) -> np.ndarray:
    """(n,) whether each sample, in the table's order, is mislabelled."""
    return np.array(load_truth(file, _gains.frame["id"].tolist()))
