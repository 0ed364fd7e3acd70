"""Figures: what they draw is what the tables say; signs, colours and intervals are right."""

import numpy as np
import pandas as pd
import pytest

from u2a_core import figures
from u2a_core.figures.labels import Mark, highest, label_places
from u2a_core.figures.style import HELPS, HURTS, identity
from u2a_core.table import rewards_table

GAINS = pd.DataFrame(
    {
        "id": [f"s{i}" for i in range(6)],
        "gain": [2.0, 1.0, 0.5, -0.1, -1.0, -3.0],
        "kind": "",
        "response": "<b>a</b>",
    }
)
HISTORY = pd.DataFrame(
    {
        "step": [0.0, 2.0, 4.0],
        "objective": [-0.4, 0.1, 0.3],
        "objective_low": [-0.5, 0.0, 0.2],
        "objective_high": [-0.3, 0.2, 0.4],
        "nll": [np.nan, 0.2, 0.9],
        "effective_samples": [6.0, 4.0, 2.5],
        "support": [6.0, 6.0, 4.0],
    }
)


def traces(figure) -> dict[str, dict]:
    return {trace.name: trace.to_plotly_json() for trace in figure.data if trace.name}


def test_the_histogram_counts_every_sample_once_and_by_sign():
    drawn = traces(figures.gain_histogram(GAINS, "light"))
    assert (sum(drawn["helps"]["y"]), sum(drawn["hurts"]["y"])) == (3, 3)
    assert drawn["helps"]["marker"]["color"] == HELPS["light"]
    assert drawn["hurts"]["marker"]["color"] == HURTS["light"]


def test_the_histogram_is_symmetric_and_tells_what_lies_beyond_its_ends():
    gains = pd.DataFrame({"gain": [*np.linspace(-1, 1, 400), 50.0]})
    figure = figures.gain_histogram(gains, "light")
    low, high = figure.layout.xaxis.range
    assert low == -high
    assert high < 50
    assert "beyond the ends" in figure.layout.xaxis.title.text
    assert sum(sum(trace.y) for trace in figure.data) == 401


def test_the_histogram_tells_how_many_signs_are_uncertain():
    bounds = GAINS.assign(gain_low=GAINS["gain"] - 0.2, gain_high=GAINS["gain"] + 0.2)
    unsure = int((GAINS["gain"].abs() < 0.2).sum())
    assert 0 < unsure < len(GAINS)
    title = figures.gain_histogram(bounds, "light").layout.title.text
    assert f"50.0% of 6 negatives help (sign of {unsure} uncertain)" in title
    assert "uncertain" not in figures.gain_histogram(GAINS, "light").layout.title.text


def test_the_rank_plot_carries_ids_and_follows_the_gains():
    drawn = traces(figures.rank_plot(GAINS, "dark"))
    assert [row[0] for row in drawn["helps"]["customdata"]] == ["s0", "s1", "s2"]
    assert list(drawn["hurts"]["x"]) == [4, 5, 6]
    assert list(drawn["hurts"]["y"]) == [-0.1, -1.0, -3.0]


def test_a_selection_marks_its_points_alone():
    drawn = traces(figures.rank_plot(GAINS, "light", selected=["s1", "s5"]))
    assert (list(drawn["helps"]["selectedpoints"]), list(drawn["hurts"]["selectedpoints"])) == (
        [1],
        [2],
    )


def test_markup_of_a_reply_is_not_followed_in_hover():
    assert traces(figures.rank_plot(GAINS, "light"))["helps"]["text"][0] == "&lt;b>a&lt;/b>"


@pytest.mark.parametrize(("n", "kind"), [(2_000, "scatter"), (2_001, "scattergl")])
def test_many_points_are_drawn_by_webgl(n: int, kind: str):
    table = pd.DataFrame(
        {"id": [str(i) for i in range(n)], "gain": np.linspace(1, -1, n), "response": "a"}
    )
    assert {trace.type for trace in figures.rank_plot(table, "light").data} == {kind}


def test_j_is_drawn_with_its_band():
    figure = figures.objective_curves({"npo-u2a": HISTORY}, "light")
    band, line = figure.data
    assert list(line.y) == [-0.4, 0.1, 0.3]
    assert list(band.y) == [-0.3, 0.2, 0.4, 0.2, 0.0, -0.5]
    assert figure.layout.title.text == "J from -0.400 to +0.300 at its best step"


def test_a_fall_of_j_is_not_titled_as_a_rise():
    fallen = HISTORY.assign(objective=[-0.4, -0.5, -0.4])
    figure = figures.objective_curves({"npo-u2a": fallen}, "light")
    assert figure.layout.title.text == "No step yet with J above the original's -0.400"


def test_only_losses_that_were_measured_are_drawn():
    assert len(figures.loss_curves(HISTORY, "light").data) == 1
    both = HISTORY.assign(retain=[0.1, 0.1, 0.2])
    assert len(figures.loss_curves(both, "light").data) == 2


def test_effective_samples_tell_their_last_value():
    figure = figures.effective_samples(HISTORY, "light")
    assert figure.layout.title.text.startswith("2 effective samples")
    bare = figures.effective_samples(
        HISTORY.drop(columns=["effective_samples", "support"]), "light"
    )
    assert bare.layout.title.text == "Nothing is weighted in this run"
    assert [list(trace.y) for trace in figure.data] == [[6.0, 4.0, 2.5], [6.0, 6.0, 4.0]]


def test_the_weight_path_draws_the_six_largest_over_a_band():
    weights = np.array([[0.1] * 10, [0.91, *[0.01] * 9]])
    path = pd.DataFrame(
        [(r, f"s{i}", weights[r, i]) for r in (0, 1) for i in range(10)],
        columns=["round", "id", "weight"],
    )
    figure = figures.weight_path(path, "light")
    assert len(figure.data) == 7
    assert figure.layout.title.text == "The six largest weights hold 96%"
    assert max(max(trace.y) for trace in figure.data[1:]) == 0.91


def test_rewards_are_markers_with_their_intervals():
    rows = pd.DataFrame(
        [("npo-u2a", 0.5, 0.4, 0.7, 400), ("original", -0.4, -0.5, -0.3, 400)],
        columns=["name", "mean", "low", "high", "n"],
    )
    figure = figures.rewards(rows, "light")
    first = figure.data[0]
    assert first.mode == "markers"
    assert first.error_x.array[0] == pytest.approx(0.2)
    assert first.error_x.arrayminus[0] == pytest.approx(0.1)
    assert "npo-u2a +0.500 [+0.400, +0.700]" in figure.layout.title.text


def test_a_runs_mark_is_that_of_its_method_whatever_the_run_is_called():
    reward = {side: {"mean": 0.5, "low": 0.4, "high": 0.7, "n": 9} for side in ("before", "after")}
    reports = {
        "mine": {"command": "reweight", "method": "npo", "reward": reward},
        "npo-like": {"command": "unlearn", "method": "ga", "reward": reward},
    }
    drawn = figures.rewards(rewards_table(reports), "light").data
    marks = {trace.y[0]: trace.marker.symbol for trace in drawn}
    assert (marks["mine"], marks["npo-like"]) == ("diamond", "triangle-up-open")


def test_a_method_looks_the_same_everywhere_and_ours_is_solid():
    ours, theirs = identity("u2a-npo-0417", "light"), identity("demo-npo-uniform", "light")
    assert ours[1] == theirs[1]
    assert (ours[2], theirs[2]) == ("solid", "dash")
    assert (ours[0], theirs[0]) == ("diamond", "diamond-open")
    assert identity("graddiff-uniform", "light")[1] != identity("ga-uniform", "light")[1]


def curves() -> pd.DataFrame:
    """Two samples at three weights; b ends at its validity limit."""
    rows = []
    for name, slope in (("a", 2.0), ("b", -1.0)):
        for omega in (0.1, 0.2, 0.4):
            solved = not (name == "b" and omega == 0.4)
            found = slope * omega * 1.1 if solved else np.nan
            rows.append(
                {
                    "id": name, "omega": omega, "linear": slope * omega, "paper": found,
                    "trapezoid": found, "measured": found, "measured_low": found - 0.01,
                    "measured_high": found + 0.02, "converged": solved,
                }
            )  # fmt: skip
    return pd.DataFrame(rows)


def test_predictions_are_lines_and_measurements_markers():
    drawn = traces(figures.impact_curves(curves(), "light"))
    assert drawn["predicted, helps"]["mode"] == "lines"
    assert drawn["measured, hurts"]["mode"] == "markers"
    assert list(drawn["measured, hurts"]["x"]) == [0.1, 0.2]
    assert drawn["measured, helps"]["marker"]["color"] == HELPS["light"]


def test_a_chosen_curve_has_intervals_and_its_validity_limit():
    figure = figures.impact_curves(curves(), "dark", selected="b")
    mark = traces(figure)["measured, 95 % over prompts"]
    assert list(mark["error_y"]["array"]) == pytest.approx([0.02, 0.02])
    assert list(mark["error_y"]["arrayminus"]) == pytest.approx([0.01, 0.01])
    (line,) = figure.layout.shapes
    assert line.x0 == line.x1 == 0.4
    assert "1 of 2" in figure.layout.title.text


def test_calibration_has_y_equal_x_and_every_solved_point():
    drawn = traces(figures.calibration(curves(), "light", estimator="linear"))
    assert list(drawn["y = x"]["x"]) == list(drawn["y = x"]["y"])
    assert len(drawn["helps"]["x"]) + len(drawn["hurts"]["x"]) == 5
    assert drawn["hurts"]["customdata"][0][0] == "b"


def test_many_curves_are_drawn_as_a_band():
    many = pd.concat([curves().assign(id=lambda t, i=i: t["id"] + str(i)) for i in range(101)])
    drawn = traces(figures.impact_curves(many, "light"))
    assert set(drawn) == {"middle 90 % of the samples", "median measured"}


def test_names_of_marks_cover_no_other_and_the_last_without_room_are_left_out():
    alone = [Mark(0.0, 0.0, -1.0, 1.0, "GA"), Mark(10.0, 5.0, 4.0, 6.0, "NPO + U2A")]
    assert label_places(alone) == ["middle right", "middle right"]
    crowd = [Mark(5 + i / 1e3, 0.0, -1.0, 1.0, "a name") for i in range(9)]
    found = label_places([*alone, *crowd])
    assert found[:2] == ["middle right", "middle right"]
    assert "" in found[2:]
    placed = [place for place in found[2:] if place]
    assert len(placed) == len(set(placed))


def test_a_method_without_room_for_its_name_has_it_in_the_legend():
    reward = {"reward": {"mean": 0.5, "low": 0.4, "high": 0.6, "n": 9}}
    rows = [
        {"method": f"NPO + U2A ({i})", "metrics": reward, "ledger": {"tokens": cost}}
        for i, cost in enumerate((1, 100, 100, 100, 100, 100, 100, 100, 100))
    ]
    drawn = figures.cost_against_reward(rows, "light").data
    assert all(trace.showlegend != bool(trace.text[0]) for trace in drawn)
    assert {trace.showlegend for trace in drawn} == {True, False}


def test_equally_good_ones_are_named_together():
    assert highest([("GA", 0.4801), ("NPO", 0.4799), ("DPO", 0.1)]) == "GA and NPO +0.480"
    assert highest([("GA", 0.4), ("NPO", 0.4), ("DPO", 0.4)]) == "3 alike +0.400"


def cost_rows(**ledger: float) -> list[dict]:
    reward = {"reward": {"mean": 0.5, "low": 0.4, "high": 0.6, "n": 9}}
    return [{"method": name, "metrics": reward, "ledger": ledger} for name in ("GA", "NPO + U2A")]


def test_cost_is_drawn_of_what_has_one_with_its_interval():
    figure = figures.cost_against_reward(cost_rows(seconds=3.0), "light", cost="seconds")
    assert figure.data[0].error_y.array[0] == pytest.approx(0.1)
    empty = figures.cost_against_reward(cost_rows(), "light")
    assert (len(empty.data), empty.layout.title.text) == (0, "No method with a known cost yet")


def test_a_gain_of_uncertain_sign_is_hollow_and_named():
    known = GAINS.assign(gain_low=GAINS["gain"] - 0.5, gain_high=GAINS["gain"] + 0.5)
    drawn = traces(figures.rank_plot(known, "light"))
    unsure = drawn["hurts, uncertain"]
    assert unsure["marker"]["symbol"] == "circle-open"
    assert "95 % interval holds 0" in unsure["hovertemplate"]
    assert list(unsure["y"]) == [-0.1]
    assert drawn["hurts"]["marker"]["symbol"] == "circle"
    assert list(drawn["hurts"]["y"]) == [-1.0, -3.0]
