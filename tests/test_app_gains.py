"""Gains, Sample and Impact without a browser: selection, slices, review, export, large sets."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import streamlit as st
from pages import opened, run_in
from streamlit.testing.v1 import AppTest
from workbench import many_gains

from app import gain_grid, gain_table, neighbours, selection
from u2a_core import figures
from u2a_core.runs import Run, Workspace, reviews, slices

STATES = ("empty", "running", "failed", "finished")


@pytest.fixture
def space(folder: Path) -> Workspace:
    return Workspace(folder)


@pytest.fixture
def gains(space: Workspace) -> gain_table.Gains:
    return gain_table.of(space.find("demo-gains"), "gain")


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch, gains: gain_table.Gains) -> dict:
    """A session in which nothing is selected yet."""
    state: dict = {}
    monkeypatch.setattr(st, "session_state", state)
    selection.begin("a" * 64)
    selection.settle("demo-gains", "gain", gains)
    return state


def set_of(space: Workspace) -> str:
    return str(space.find("demo-gains").report()["data"]["negatives_sha256"])


def button(app: AppTest, label: str):
    return next(b for b in app.button if b.label == label)


def said(app: AppTest) -> str:
    return " ".join(m.value for m in (*app.markdown, *app.caption))


def event(points=(), box=(), lasso=()) -> dict:
    return {"points": [{"customdata": p} for p in points], "box": list(box), "lasso": list(lasso)}


# the table


def test_the_table_is_read_once_and_stands_by_falling_gain(space: Workspace, gains):
    again = gain_table.of(space.find("demo-gains"), "gain")
    assert again.frame is gains.frame
    assert gains.frame["gain"].is_monotonic_decreasing
    assert gains.frame["rank"].tolist() == list(range(1, 241))
    assert gains.ids(gains.rows(["n010", "nobody", "n002"])) == ["n010", "n002"]


def test_a_table_that_is_written_anew_is_read_anew(space: Workspace):
    run = many_gains(space.folder, 50)
    before = gain_table.of(run, "gain")
    table = run.table("gains")
    run.write_table("gains", table.assign(gain=-table["gain"]))
    assert gain_table.of(run, "gain").frame["id"].iloc[0] == before.frame["id"].iloc[-1]


def test_the_flagged_are_negative_the_certain_first_then_the_worst(gains):
    rows = gains.frame.iloc[gains.flagged]
    certain = rows["gain_high"] < 0
    assert len(rows) == (gains.frame["gain"] < 0).sum()
    assert certain.is_monotonic_decreasing
    assert 0 < certain.sum() < len(rows)
    assert rows.loc[certain, "gain"].is_monotonic_increasing
    assert rows.loc[~certain, "gain"].is_monotonic_increasing


# selections


def test_a_box_around_markers_selects_their_samples(session, gains):
    selection.from_rank(event(points=[["n003", "n003"], ["n001", "n001"]]), gains, aggregated=False)
    assert (session["chosen"], session["sample"]) == (["n003", "n001"], "n003")
    selection.from_rank(event(), gains, aggregated=False)
    assert (session["chosen"], session["sample"]) == ([], None)


def test_a_box_in_the_aggregated_plot_selects_what_lies_in_its_ranks_and_gains(session, gains):
    box = {"x": [10.5, 200.0], "y": [0.5, -0.5]}
    selection.from_rank(event(points=[["", 1, 2]], box=[box]), gains, aggregated=True)
    inside = gains.frame.query("10.5 <= rank <= 200 and -0.5 <= gain <= 0.5")
    assert 0 < len(inside) < 190
    assert session["chosen"] == inside["id"].tolist()


def test_a_lasso_is_the_area_that_its_points_enclose(gains):
    triangle = {"x": [0.0, 241.0, 0.0], "y": [-4.0, -4.0, 4.0]}
    inside = selection.within(gains, triangle)
    rank, gain = gains.frame["rank"], gains.frame["gain"]
    expected = (gain < 4 - 8 * rank / 241) & (gain > -4)
    assert (inside == expected.to_numpy()).all()
    assert 0 < inside.sum() < 240


def test_a_click_on_a_bucket_selects_its_ranks(session, gains):
    selection.from_rank(event(points=[["", 3, 5]]), gains, aggregated=True)
    assert session["chosen"] == gains.frame["id"].iloc[2:5].tolist()


def test_a_bar_selects_exactly_the_samples_that_it_counts(session, gains):
    drawn = figures.gain_histogram(gains.frame, "light")
    for trace in drawn.data:
        for count, ends in zip(trace.y, trace.customdata, strict=True):
            selection.from_bars(event(points=[ends]), gains)
            assert len(session["chosen"]) == count


def test_ticks_keep_what_is_selected_on_other_pages(session, gains):
    selection.choose(["n001", "n002"], "listed")
    selection.from_table([0, 2], ["n002", "n003", "n004"])
    assert session["chosen"] == ["n001", "n002", "n004"]
    assert session["sample"] == "n004"  # the newest is read
    selection.from_table([2], ["n002", "n003", "n004"])
    assert session["chosen"] == ["n001", "n004"]
    assert session["sample"] == "n004"


def test_a_figure_is_redrawn_only_for_what_another_part_selected(session, gains):
    key = selection.picture_key("rank")
    selection.from_rank(event(points=[["n001", "n001"]]), gains, aggregated=False)
    assert (session["told"], selection.picture_key("rank")) == ([], key)
    selection.choose(["n002"], "table")
    assert session["told"] == ["n002"]
    assert selection.picture_key("rank") != key  # its box is gone


def test_a_selection_of_another_set_is_none_here(session):
    selection.choose(["n001"], "table")
    selection.begin("a" * 64)
    assert session["chosen"] == ["n001"]
    selection.begin("b" * 64)
    assert session["chosen"] == []


# the page


@pytest.mark.parametrize("page", ["gains", "sample", "impact"])
@pytest.mark.parametrize("state", STATES)
def test_the_pages_stand_on_every_kind_of_run(folder: Path, page: str, state: str):
    if state != "empty":
        run_in(folder, state)
    app = opened(page, **({} if state == "empty" else {"run": "mine", "sample": "n001"}))
    assert app.title[0].value == page.capitalize()
    if page == "sample" and state in ("running", "failed"):
        assert "must be a finished run" in app.error[0].value


def test_k_is_shaded_and_selected(space: Workspace, gains):
    app = opened("gains", run="demo-gains")
    assert app.number_input("top_number").value == (gains.frame["gain"] > 0).sum()
    app.slider("top_slider").set_value(7).run()
    assert app.number_input("top_number").value == 7
    button(app, "Select top 7").click().run()
    assert "**Selected 7** of 240" in said(app)
    assert app.session_state["chosen"] == gains.frame["id"].iloc[:7].tolist()


def test_a_selection_is_saved_chosen_renamed_and_deleted(space: Workspace):
    run = space.find("demo-gains")
    app = opened("gains", run="demo-gains")
    app.number_input("top_number").set_value(5).run()
    button(app, "Select top 5").click().run()
    app.text_input("slice_name_0").set_value("[worst](x)").run()
    button(app, "Save").click().run()
    (one,) = slices.all_slices(space, run)
    assert (one.name, len(one.ids)) == ("[worst](x)", 5)
    assert one.key in app.query_params["slice"]
    button(app, "Clear").click().run()
    assert "slice" not in app.query_params
    app.selectbox("slice_choice").set_value(one.key).run()
    assert app.session_state["chosen"] == list(one.ids)
    app.text_input(f"rename_{one.key}").set_value("").run()
    button(app, "Rename").click().run()
    assert "1 to 80 characters" in app.error[0].value
    app.text_input(f"rename_{one.key}").set_value("better").run()
    button(app, "Rename").click().run()
    assert [s.name for s in slices.all_slices(space, run)] == ["better"]
    app.button(f"delete_{one.key}").click().run()
    assert slices.all_slices(space, run) == []
    assert "slice" not in app.query_params
    assert not app.exception


def test_a_name_that_is_taken_is_told_and_the_selection_stays(space: Workspace):
    slices.save(space, space.find("demo-gains"), "mine", ["n001"])
    app = opened("gains", run="demo-gains", sample="n002")
    app.text_input("slice_name_0").set_value("mine").run()
    button(app, "Save").click().run()
    assert "is taken" in app.error[0].value
    assert app.session_state["chosen"] == ["n002"]


def test_a_link_to_a_slice_selects_it_and_a_bad_one_is_told(space: Workspace):
    one = slices.save(space, space.find("demo-gains"), "two", ["n005", "n009"])
    app = opened("gains", run="demo-gains", slice=one.key, sample="n009")
    assert "**Selected 2** of 240" in said(app)
    assert "2 of 2 selected" in said(app)
    app = opened("gains", run="demo-gains", slice="![x](http://127.0.0.1:9/a.png)")
    assert "Choose another" in app.warning[0].value
    assert "![x](" not in app.warning[0].value


def test_unlearn_these_keeps_the_selection_as_a_slice_and_goes_to_unlearn(space: Workspace):
    app = opened("gains", run="demo-gains", sample="n001")
    button(app, "Unlearn these").click().run()
    (one,) = slices.all_slices(space, space.find("demo-gains"))
    assert (one.ids, one.name) == (("n001",), "Sample n001")
    assert app.title[0].value == "Unlearn"
    assert any(str(one.path) in shown.value for shown in app.code)  # the command takes it
    app.switch_page("views/gains.py").run()
    button(app, "Unlearn these").click().run()
    assert slices.all_slices(space, space.find("demo-gains")) == [one]  # it is saved already


def test_samples_are_marked_tallied_and_exported(space: Workspace, gains):
    app = opened("gains", run="demo-gains")
    app.segmented_control("side").set_value(gain_grid.FLAGGED).run()
    worst = gains.ids(gains.flagged)
    assert f"listed {len(worst)}" in said(app)
    app.query_params["sample"] = worst[0]
    app.run()
    app.button("mark_mistake").click().run()
    app.query_params["sample"] = worst[1]
    app.run()
    app.button("mark_real").click().run()
    assert "**You marked 2**: mistake 1, real negative 1" in said(app)
    kept = reviews.marks(space, set_of(space))
    table = gain_grid.exported(gains, gains.flagged, kept)
    assert table["mark"].tolist()[:3] == ["mistake", "real", ""]
    assert {"id", "prompt", "response", "gain", "gain_low", "gain_high"} <= set(table)
    app.button("mark_real").click().run()  # again: taken back
    assert reviews.marks(space, set_of(space)) == {worst[0]: "mistake"}


def test_a_mark_that_cannot_be_kept_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("U2A_RUNS", str(tmp_path / "file" / "runs"))
    app = opened("gains", run="demo-gains", sample="n001")
    app.button("mark_real").click().run()
    assert "must be writable" in app.error[0].value
    assert not app.exception


def test_the_lists_precision_is_that_of_the_file_of_truth(space: Workspace, gains):
    run = space.find("demo-gains")
    lines = run.settings().local_paths()["data.truth"].read_text().splitlines()
    wrong = {r["id"] for r in map(json.loads, lines) if r["mislabelled"]}
    app = opened("gains", run="demo-gains")
    app.segmented_control("side").set_value(gain_grid.FLAGGED).run()
    shown = next(f.value for f in app.dataframe if "mislabelled ↑" in f.value)
    found = sum(i in wrong for i in gains.ids(gains.flagged[:50]))
    row = shown[shown["samples"] == "first 50"].iloc[0]
    assert row["n"] == f"{found} of 50"
    assert row["mislabelled ↑"] == f"{found / 50:.1%}"
    assert row["95 %"].startswith("[")


def test_blurred_texts_are_in_no_table_and_no_hover(space: Workspace, gains):
    app = opened("gains", run="demo-gains", sample="n001")
    reply = gains.frame["response"].iloc[gains.places["n001"]]

    def shown() -> str:
        tables = " ".join(str(frame.value.to_dict()) for frame in app.dataframe)
        charts = " ".join(str(chart.proto) for chart in app.get("plotly_chart"))
        return tables + charts

    assert reply in shown()
    app.toggle("blur_gains").set_value(True).run()
    assert reply not in shown()
    panel = " ".join(str(element.proto) for element in app.get("html"))
    assert reply in panel
    assert "u2a-blur" in panel
    for page, key in (("sample", "blur_sample"), ("impact", "blur_impact")):
        assert opened(page, run="demo-gains", sample="n001").toggle(key).value


def test_arrows_go_through_what_is_listed_where_nothing_is_selected(space: Workspace, gains):
    app = opened("gains", run="demo-gains")
    button(app, "Select listed").click().run()
    assert "1 of 240 selected" in said(app)
    app.button("next").click().run()
    assert app.session_state["sample"] == gains.frame["id"].iloc[1]
    app.button("previous").click().run()
    assert app.session_state["sample"] == gains.frame["id"].iloc[0]
    assert app.button("previous").disabled
    app = opened("sample", run="demo-gains", sample=gains.frame["id"].iloc[4])
    assert "5 of 240 by rank" in said(app)


def test_a_run_that_weights_shows_the_way_of_a_samples_weight(space: Workspace):
    run = space.find("demo-npo-u2a")
    path = run.table("weight_path", sample="n001").sort_values("round")
    assert set(path["id"]) == {"n001"}
    app = opened("sample", run="demo-npo-u2a", sample="n001")
    last = path["weight"].iloc[-1]
    charts = " ".join(str(chart.proto) for chart in app.get("plotly_chart"))
    assert f"Weight from {path['weight'].iloc[0]:.5f} to {last:.5f}" in charts


def test_impact_draws_the_selection_alone_if_asked(space: Workspace):
    measured = list(dict.fromkeys(space.find("demo-impact").table("curves")["id"]))
    one = slices.save(space, space.find("demo-gains"), "two", [*measured[:2], "n999"])
    app = opened("impact", run="demo-impact", slice=one.key)
    assert len(app.selectbox("impact_sample").options) == len(measured)
    app.toggle("only_selected").set_value(True).run()
    assert set(app.selectbox("impact_sample").options) == set(measured[:2])


def test_markup_right_to_left_and_emoji_stand_as_they_are(space: Workspace):
    shipped = space.find("demo-gains")
    table = shipped.table("gains")
    odd = "<script>alert(1)</script> **b** $x$ مرحبا 🙂 \u202e"
    table.loc[0, ["id", "kind", "prompt", "response"]] = ["<b>x</b>", "![k](u)", odd, odd]
    run = Run.create(space.folder / "odd", "gains", shipped.settings())
    run.write_table("gains", table)
    run.write_report(shipped.report())
    app = opened("gains", run="odd", sample="<b>x</b>")
    assert "<b>x" not in said(app)
    assert "![k](u)" not in said(app)
    panel = " ".join(element.proto.body for element in app.get("html"))
    assert "<script>alert" not in panel
    assert "&lt;script&gt;alert(1)" in panel
    assert "🙂" in panel


def test_a_very_long_reply_is_cut_in_the_panel_and_whole_in_the_export(space: Workspace):
    shipped = space.find("demo-gains")
    table = shipped.table("gains")
    table.loc[0, "response"] = "ab " * 1_000_000 + "end"
    run = Run.create(space.folder / "long", "gains", shipped.settings())
    run.write_table("gains", table)
    run.write_report(shipped.report())
    app = opened("gains", run="long", sample=table.loc[0, "id"])
    assert "Cut at 20,000 characters" in said(app)
    assert sum(len(element.proto.body) for element in app.get("html")) < 60_000
    gains = gain_table.of(run, "gain")
    assert gain_grid.exported(gains, np.array([0]), {})["response"].iloc[0].endswith("end")


# neighbours


def test_the_nearest_of_a_sample_are_its_duplicates(space: Workspace):
    shipped = space.find("demo-gains")
    table = (
        shipped.table("gains")
        .head(6)
        .assign(
            id=list("abcdef"),
            prompt=["How do I cook rice?"] * 2 + ["How do I boil rice?", "Zzz", "Qqq", "Www"],
            response=["No.  Go AWAY", "no. go away", "Go away.", "no. go away", "5", "7"],
        )
    )
    run = Run.create(space.folder / "near", "gains", shipped.settings())
    run.write_table("gains", table)
    found = gain_table.of(run, "gain")
    alike = neighbours.nearest(found, found.places["a"])
    assert found.ids(alike.rows)[:2] == ["b", "c"]
    assert alike.similarity[0] == 1.0
    assert np.all(np.diff(alike.similarity) <= 0)
    assert set(found.ids(alike.same)) == {"b", "d"}
    assert "a" not in found.ids(alike.rows)


# large sets


def test_large_sets_are_drawn_in_buckets_that_hold_every_sample():
    n = 20_000
    table = pd.DataFrame(
        {"id": np.arange(n).astype(str), "gain": np.linspace(2, -1, n), "response": "a"}
    )
    drawn = figures.rank_plot(table, "light", selected=["7", "19990"], top=500)
    ranks = [row[1:] for t in drawn.data if t.customdata is not None for row in t.customdata
             if row[0] == ""]  # fmt: skip
    assert sum(last - first + 1 for first, last in ranks) == n
    assert sum(len(t.x) for t in drawn.data) < 5_000
    halo = next(t for t in drawn.data if t.name and t.name.startswith("selected"))
    assert (list(halo.x), halo.name) == ([8, 19_991], "selected (2)")
    marked = {row[0] for t in drawn.data if t.mode == "markers" for row in t.customdata}
    assert {"0", "99", "19999"} <= marked
    assert any("K = 500" in a.text for a in drawn.layout.annotations)


def test_a_hundred_thousand_samples_are_paged_and_searched(space: Workspace):
    many_gains(space.folder, 100_000)
    app = opened("gains", run="many")
    assert "Page 1 of 100" in said(app)
    assert len(app.dataframe[0].value) == gain_grid.PAGE
    page = next(n for n in app.number_input if n.label == "Page of 100")
    page.set_value(100).run()
    assert app.dataframe[0].value["rank"].iloc[-1] == 100_000
    app.text_input("search").set_value("question 77777:").run()
    assert "listed 1" in said(app)
    assert not app.exception


def test_a_search_that_finds_nothing_says_so(space: Workspace):
    app = opened("gains", run="demo-gains")
    app.text_input("search").set_value("[no such (text").run()
    assert "No sample matches" in app.info[0].value


def test_the_file_of_an_export_is_made_when_it_is_asked_for(gains, monkeypatch):
    monkeypatch.setattr(gain_grid, "exported", lambda *_: SimpleNamespace(to_csv=lambda **_: "x"))
    assert gain_grid._file("CSV", gains, gains.flagged, {})() == "x"


def test_a_sign_that_is_uncertain_is_told_in_the_table(space: Workspace):
    shown = opened("gains", run="demo-gains").dataframe[0].value
    counts = shown["sign"].value_counts()
    assert counts["uncertain"] == 129
    assert set(counts.index) == {"helps", "hurts", "uncertain"}
