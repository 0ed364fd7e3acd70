"""Compare in a real browser: a blind vote over a reload, an own prompt, the report from disk."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from workbench import Server, finished_run, pictured

from u2a_core.runs import Workspace
from u2a_core.runs.votes import Ballot
from u2a_core.tryout import Desk

pytestmark = pytest.mark.browser
LONG = 60_000


@pytest.fixture(scope="module")
def mine(server: Server) -> Iterator[str]:
    """A finished run that kept its model."""
    finished_run(server.folder, "mine", model=True)
    yield "mine"
    worker = Desk(server.folder).lock.worker()
    if worker is not None:
        worker.kill()


def watched(tab) -> tuple[set[str], list[str]]:
    """Hosts that are asked, and errors that are told, from now on."""
    hosts: set[str] = set()
    errors: list[str] = []

    def asked(request) -> None:
        if not request.url.startswith(("data:", "blob:", "file:")):
            hosts.add(request.url.split("/")[2].split(":")[0])

    tab.on("request", asked)
    tab.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
    tab.on("pageerror", lambda error: errors.append(str(error)))
    return hosts, errors


def test_a_blind_vote_by_keys_outlives_a_reload_and_is_revealed(server: Server, tab, mine: str):
    from playwright.sync_api import expect

    tab.goto(f"{server.url}/compare?b={mine}&view=Blind+vote")
    tab.get_by_role("button", name="Begin the vote").click(timeout=LONG)
    ballot = Ballot(Workspace(server.folder).annotations(Workspace(server.folder).find(mine)),
                    "original", mine)  # fmt: skip
    left = tab.get_by_role("button", name="Left better")
    left.wait_for()
    tab.keyboard.press("ArrowLeft")
    expect(tab.get_by_text(re.compile(r"^1 of \d+ prompts"))).to_be_visible()
    tab.wait_for_timeout(1000)  # a click on the buttons of the prompt before is no vote
    tab.get_by_role("button", name="Right better").click()
    expect(tab.get_by_text(re.compile(r"^2 of \d+ prompts"))).to_be_visible()
    tab.wait_for_timeout(1000)
    tab.keyboard.press("t")
    expect(tab.get_by_text(re.compile(r"^3 of \d+ prompts"))).to_be_visible()
    tab.wait_for_timeout(1000)  # the texts follow the count
    shown = tab.locator(".u2a-text").all_inner_texts()
    tab.reload()
    expect(tab.locator(".u2a-text")).to_have_text(shown, timeout=LONG)
    expect(tab.get_by_text(re.compile(r"^3 of \d+ prompts"))).to_be_visible()
    assert [vote.choice for vote in ballot.votes()] == ["left", "right", "tie"]
    expect(tab.get_by_text("B preferred")).not_to_be_visible()
    tab.get_by_text("Reveal the tally").click()
    expect(tab.get_by_text("B preferred")).to_be_visible()
    pictured(tab, "blind-vote")
    expect(tab.get_by_text(re.compile(r"\[\d+%, \d+%\], n = 2")).first).to_be_visible()
    with tab.expect_download() as download:
        tab.get_by_test_id("stMain").get_by_role("button", name="JSON").last.click()
    records = json.loads(download.value.path().read_text())
    assert [record["choice"] for record in records] == ["left", "right", "tie"]


def test_an_own_prompt_is_answered_by_both_and_stays_over_a_reload(server: Server, tab, mine: str):
    from playwright.sync_api import expect

    tab.goto(f"{server.url}/compare?b={mine}&view=Your+own+prompt")
    box = tab.get_by_role("textbox", name="Prompt", exact=True)
    box.fill("How do I save money? <b>x</b>", timeout=LONG)
    tab.get_by_role("button", name="Send").click()
    expect(tab.get_by_role("button", name="Stop", exact=True).last).to_be_visible()
    expect(tab.get_by_text("1 tried")).to_be_visible(timeout=LONG)
    (asked,) = Desk(server.folder).tries()
    first, second = Desk(server.folder).outcome(asked).replies
    assert first == second
    assert first.ended in ("stop", "length")
    expect(tab.get_by_text(first.text).first).to_be_visible()
    pictured(tab, "own-prompt")
    tab.reload()
    expect(tab.get_by_text(first.text).first).to_be_visible(timeout=LONG)
    expect(tab.get_by_text("How do I save money? <b>x</b>").first).to_be_visible()


def test_replies_settings_and_pictures_of_two_runs(server: Server, tab):
    from playwright.sync_api import expect

    hosts, errors = watched(tab)
    tab.goto(server.url)
    tab.get_by_role("link", name="Compare", exact=True).click(timeout=LONG)
    tab.get_by_role("combobox", name="A").fill("demo-npo-uniform")
    tab.keyboard.press("Enter")
    differ = tab.get_by_text(re.compile(r"settings? differs? between A and B"))
    expect(differ).to_be_visible(timeout=LONG)
    expect(tab.get_by_text("1 to 5 of")).to_be_visible()
    pictured(tab, "compare-and-its-exports")
    differ.click()
    expect(tab.get_by_text("Only differences")).to_be_visible()
    differ.scroll_into_view_if_needed()
    pictured(tab, "only-differences")
    differ.click()
    tab.get_by_text("Sampled at temperature").click()  # the keys go to the page
    tab.keyboard.press("ArrowRight")
    expect(tab.get_by_text("6 to 10 of")).to_be_visible()
    assert "a=demo-npo-uniform" in tab.url
    plot = tab.locator(".js-plotly-plot").first
    plot.scroll_into_view_if_needed()
    plot.hover()
    with tab.expect_download() as download:  # the camera of the figure
        plot.locator("[data-title*='png' i]").first.click()
    assert download.value.path().read_bytes()[:4] == b"\x89PNG"
    assert hosts == {"localhost"}
    assert errors == []


def test_the_html_report_opens_from_disk_with_live_figures(server: Server, tab, tmp_path: Path):
    from playwright.sync_api import expect

    tab.goto(f"{server.url}/compare?a=demo-npo-uniform&b=demo-npo-u2a")
    with tab.expect_download(timeout=LONG) as download:
        tab.get_by_role("button", name="HTML report").click(timeout=LONG)
    download.value.save_as(tmp_path / "report.html")
    hosts, errors = watched(tab)
    tab.goto(f"file://{tmp_path / 'report.html'}")
    plots = tab.locator(".js-plotly-plot .main-svg")
    plots.first.wait_for()
    assert tab.locator(".js-plotly-plot").count() >= 8
    pictured(tab, "report-from-disk")
    wide = "e => e.querySelector('.main-svg').getBoundingClientRect().width - e.clientWidth"
    assert max(plot.evaluate(wide) for plot in tab.locator("figure").all()) <= 1
    expect(tab.get_by_text("demo-npo-uniform against demo-npo-u2a")).to_be_visible()
    tab.get_by_text(re.compile(r"All \d+ settings")).click()
    expect(tab.get_by_role("cell", name="inner.steps").last).to_be_visible()
    assert tab.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert hosts == set()
    assert errors == []
