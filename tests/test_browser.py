"""The main path in a real browser: the demo, a selection, launch, stop, resume, compare."""

import re
import time
from collections.abc import Callable

import pytest
from workbench import Server, pictured

from u2a_core.runs import Workspace

pytestmark = pytest.mark.browser


def test_the_demo_opens_and_a_box_selects_samples(server: Server, tab):
    from playwright.sync_api import expect

    hosts: set[str] = set()
    errors: list[str] = []
    tab.on("request", lambda request: hosts.add(request.url.split("/")[2].split(":")[0]))
    tab.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
    tab.goto(server.url)
    tab.get_by_role("button", name="Open the demo").click()
    plot = tab.locator(".js-plotly-plot").nth(1)
    plot.locator(".main-svg").first.wait_for()
    tab.wait_for_timeout(1500)
    plot.hover()
    plot.locator("[data-val='select']").click()
    box = plot.locator(".nsewdrag").first.bounding_box()
    tab.mouse.move(box["x"] + 3, box["y"] + 3)
    tab.mouse.down()
    tab.mouse.move(box["x"] + 60, box["y"] + box["height"] - 3, steps=8)
    tab.mouse.up()
    expect(tab.get_by_text(re.compile(r"Selected [1-9]\d* of 240"))).to_be_visible(timeout=30_000)
    expect(tab.get_by_text(re.compile(r"1 of \d+ selected"))).to_be_visible(timeout=30_000)
    tab.wait_for_url(re.compile("sample=n"))
    pictured(tab, "linked-selection")
    tab.get_by_text("Nearest samples").scroll_into_view_if_needed()
    pictured(tab, "sample-by-arrows")
    assert hosts == {"localhost"}
    assert errors == []


def test_a_click_on_a_measured_point_shows_its_sample(server: Server, tab):
    from playwright.sync_api import expect

    tab.goto(f"{server.url}/impact?run=demo-impact")
    plot = tab.locator(".js-plotly-plot").nth(1)
    plot.locator(".scatterlayer .point").last.wait_for()
    tab.wait_for_timeout(1500)
    box = plot.locator(".scatterlayer .trace").last.locator(".point").first.bounding_box()
    tab.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    tab.wait_for_timeout(500)
    tab.mouse.down()
    tab.mouse.up()
    tab.wait_for_url(re.compile("sample=n"))
    expect(tab.get_by_text("Negative reply")).to_be_visible(timeout=30_000)
    expect(tab.get_by_text("linear prediction").first).to_be_visible(timeout=30_000)
    pictured(tab, "predicted-and-measured")


def test_an_ablation_is_drawn_and_a_click_opens_its_runs(server: Server, tab, made_ablation):
    from playwright.sync_api import expect

    run = made_ablation(server.folder)
    errors: list[str] = []
    tab.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
    tab.goto(server.url)
    tab.get_by_role("link", name="Ablation", exact=True).click()
    expect(tab.get_by_text("K*", exact=True)).to_be_visible(timeout=30_000)
    plot = tab.locator(".js-plotly-plot").first
    plot.locator(".scatterlayer .point").first.wait_for()
    expect(plot.get_by_text(re.compile("Highest: Top-K at K = 96"))).to_be_visible()
    expect(tab.locator(".js-plotly-plot")).to_have_count(3)
    tab.wait_for_timeout(1500)
    pictured(tab, "ablation")
    box = plot.locator(".scatterlayer .point").first.bounding_box()
    tab.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    tab.wait_for_timeout(500)
    tab.mouse.down()
    tab.mouse.up()
    tab.get_by_role("link", name="Open seed 1").click()
    tab.wait_for_url(re.compile("unlearn.*run=abl"))
    expect(tab.get_by_text("Back to its ablation")).to_be_visible(timeout=30_000)
    assert errors == []
    run.delete()


def test_a_link_survives_a_reload_and_a_bad_one_is_told(server: Server, tab):
    from playwright.sync_api import expect

    tab.goto(f"{server.url}/gains?run=demo-gains&sample=n001")
    expect(tab.get_by_text("Sample n001")).to_be_visible(timeout=30_000)
    tab.reload()
    expect(tab.get_by_text("Sample n001")).to_be_visible(timeout=30_000)
    tab.goto(f"{server.url}/gains?run=nowhere")
    expect(tab.get_by_text("must be one of this workspace")).to_be_visible(timeout=30_000)


def test_one_click_is_one_step_back(server: Server, tab):
    from playwright.sync_api import expect

    tab.goto(f"{server.url}/gains?run=demo-gains")
    expect(tab.get_by_text("Selected 0 of 240")).to_be_visible(timeout=30_000)
    for page, words in (("Compare", "Reward of B minus A"), ("Unlearn", "The same as a command")):
        tab.get_by_role("link", name=page, exact=True).click()
        expect(tab.get_by_text(words)).to_be_visible(timeout=30_000)
        assert "run=demo-gains" in tab.url
        tab.wait_for_timeout(1000)
    tab.go_back()
    expect(tab.get_by_text("Reward of B minus A")).to_be_visible(timeout=30_000)
    tab.wait_for_timeout(1000)
    tab.go_back()
    expect(tab.get_by_text("Selected 0 of 240")).to_be_visible(timeout=30_000)
    assert tab.url.endswith("/gains?run=demo-gains")


def main(tab):
    """The page without Streamlit's own header, whose Stop ends a script and no run."""
    return tab.get_by_test_id("stMain")


def until(tab, claim: Callable[[], object], seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not claim():
        assert time.monotonic() < end, "it did not come true"
        tab.wait_for_timeout(200)


def test_gains_are_recomputed_by_one_click(server: Server, tab):
    from playwright.sync_api import expect

    tab.goto(f"{server.url}/gains?run=demo-gains")
    main(tab).get_by_role("button", name="Recompute for the demo").click()
    tab.wait_for_url(re.compile("run=gains-npo"))
    run = Workspace(server.folder).find(tab.url.split("run=")[1].split("&")[0])
    until(tab, lambda: run.finished)
    expect(tab.get_by_text("Selected 0 of 240")).to_be_visible(timeout=30_000)
    new, old = (
        r.table("gains").set_index("id")["gain"].sort_index()
        for r in (run, Workspace(server.folder).find("demo-gains"))
    )
    assert new.corr(old) > 0.99


def test_launch_watch_reload_stop_resume_compare(server: Server, tab):
    from playwright.sync_api import expect

    before = len(Workspace(server.folder).runs())
    tab.goto(f"{server.url}/unlearn?run=demo-npo-u2a")
    expect(tab.get_by_text("u2a reweight").first).to_be_visible(timeout=30_000)
    for _ in range(3):
        tab.get_by_role("button", name="Launch").click()
    stop = main(tab).get_by_role("button", name="Stop")
    stop.wait_for()
    run = Workspace(server.folder).runs()[0]
    assert len(Workspace(server.folder).runs()) == before + 1
    until(tab, lambda: any(p.stage == "reweighting" for p in run.progress()))
    tab.reload()
    stop.wait_for()
    server.end()  # a restart of the server loses nothing
    server.start()
    tab.goto(f"{server.url}/unlearn?run={run.path.name}")
    expect(tab.get_by_text(re.compile(r"reweighting \d+ of 30"))).to_be_visible(timeout=30_000)
    expect(tab.locator(".js-plotly-plot").first).to_be_visible(timeout=30_000)
    pictured(tab, "live-run-after-reload-and-restart")
    stop.click()
    expect(main(tab).get_by_text("stopped", exact=True).first).to_be_visible(timeout=30_000)
    main(tab).get_by_role("button", name="Resume").click()
    stop.wait_for()
    worker = run.lock.worker()
    assert worker is not None
    worker.kill()
    expect(tab.get_by_text("The process was ended from outside")).to_be_visible(timeout=10_000)
    pictured(tab, "resume")
    main(tab).get_by_role("button", name="Resume").click()
    link = tab.get_by_role("link", name="Compare replies before and after")
    link.first.wait_for(timeout=150_000)
    assert run.status().state == "finished"
    link.first.click()
    expect(tab.get_by_text("Reward of B minus A")).to_be_visible(timeout=30_000)
    assert f"b={run.path.name}" in tab.url
    difference = run.report()["reward"]["difference"]
    assert difference["low"] > 0
    expect(main(tab).get_by_text(f"{difference['mean']:+.3f}").first).to_be_visible()
    expect(tab.get_by_text("reward -1.00 → +1.00").first).to_be_visible()
    tab.get_by_text("reward -1.00 → +1.00").first.scroll_into_view_if_needed()
    pictured(tab, "text-difference")


def test_a_run_deleted_while_shown_is_told(server: Server, tab):
    from playwright.sync_api import expect

    runs = Workspace(server.folder).runs()
    run = next(run for run in runs if run.config()["command"] == "gains" and run.finished)
    tab.goto(f"{server.url}/gains?run={run.path.name}")
    expect(tab.get_by_text("Selected 0 of 240")).to_be_visible(timeout=30_000)
    run.delete()
    tab.locator("p").get_by_text("helps", exact=True).click()
    expect(tab.get_by_text("must be one of this workspace").first).to_be_visible(timeout=30_000)
