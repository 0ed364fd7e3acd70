"""Figures of the data: what they count, in both themes, with nothing empty or beyond the axes."""

import pandas as pd
import pytest

from u2a_core import figures

SETS = pd.DataFrame(
    [("Negatives", 90, 4, 5, 6), ("Retain <set>", 10, 0, 0, 0)],
    columns=["name", "used", "repeated", "left_out", "faulty"],
)


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_the_bars_count_what_is_used_and_what_is_not(mode):
    figure = figures.set_sizes(SETS, mode)
    drawn = {trace.name: list(trace.x) for trace in figure.data}
    assert drawn == {
        "used": [90, 10],
        "exact duplicates": [4, 0],
        "left out by the format's rule": [5, 0],
        "faulty": [6, 0],
    }
    assert figure.layout.title.text == "100 records are used, 15 are not"
    assert list(figure.data[0].y) == ["Negatives", "Retain &lt;set>"]
    assert figure.layout.xaxis.range[1] > 100


def test_one_record_that_is_not_used_is_told_in_the_singular():
    figure = figures.set_sizes(SETS.assign(repeated=0, left_out=0, faulty=[1, 0]), "light")
    assert figure.layout.title.text == "100 records are used, 1 is not"


def test_what_is_not_there_has_no_legend():
    figure = figures.set_sizes(SETS.assign(repeated=0, left_out=0, faulty=0), "light")
    assert [trace.name for trace in figure.data] == ["used"]
    assert not figure.layout.showlegend


@pytest.mark.parametrize("lengths", [[5], [7, 7], [1, 2, 3], list(range(1, 500)), [1] * 50 + [9]])
def test_every_text_is_in_a_bar(lengths: list[int]):
    (bars,) = figures.length_histogram(lengths, "light", what="replies").data
    assert sum(bars.y) == len(lengths)


def test_what_lies_far_beyond_is_in_the_last_bar_and_told():
    figure = figures.length_histogram([*range(100, 300), 5_000_000], "dark", what="replies")
    assert sum(figure.data[0].y) == 201
    assert max(figure.data[0].x) < 400
    assert "the last bar holds 1 longer" in figure.layout.xaxis.title.text
    assert figure.layout.title.text == "Half of the replies have at most 200 characters"


def test_sets_that_cannot_be_read_are_not_said_to_be_lost_or_kept():
    table = pd.DataFrame([("Negatives", 68, 0, 0, 0)], columns=SETS.columns)
    titles = [
        figures.set_sizes(table, "light", unread=unread).layout.title.text
        for unread in (False, True)
    ]
    assert titles[0] == "68 records are used, none is lost"
    assert titles[1] == "68 records are used of the sets that can be read"
