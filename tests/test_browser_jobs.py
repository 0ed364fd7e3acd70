"""Job forms and jobs in a real browser: links, drafts, two tabs, killed servers and jobs."""

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from workbench import Server, pictured

from u2a_core import jobs
from u2a_core.config import load_settings, override
from u2a_core.runs import Run, Workspace, demo_assets

pytestmark = pytest.mark.browser

PAGES = ("Home", "Data", "Model", "Gains", "Impact", "Unlearn", "Ablation", "Compare")
SECONDS = 30_000


def until(tab, claim: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not claim():
        assert time.monotonic() < end, "it did not come true"
        tab.wait_for_timeout(200)


def main(tab):
    """The page without Streamlit's own header, whose Stop ends a script and no run."""
    return tab.get_by_test_id("stMain")


@pytest.fixture
def long_job(server: Server) -> Iterator[Run]:
    """A job at work, ended at the end."""
    words = ["--inner.steps", "500"]
    run = jobs.launch(
        server.folder, "unlearn", override(load_settings(demo_assets() / "demo.yaml"), words)
    )
    yield run
    worker = run.lock.worker()
    if worker is not None:
        worker.kill()
        worker.wait(10)


def test_the_bar_and_the_line_fit_at_900_px_on_every_page(server: Server, browser):
    context = browser.new_context(viewport={"width": 900, "height": 900})
    tab = context.new_page()
    tab.goto(server.url)
    for page in PAGES:
        link = tab.get_by_role("link", name=page, exact=True)
        link.click()
        tab.get_by_role("button", name="Copy link").wait_for(timeout=SECONDS)
        tab.locator("h1").first.wait_for(timeout=SECONDS)
        tops = {
            round(tab.get_by_role("link", name=name, exact=True).bounding_box()["y"])
            for name in PAGES
        }
        assert max(tops) - min(tops) <= 2, page
        wide = tab.evaluate("document.querySelector('[data-testid=stMain]').scrollWidth")
        assert wide <= 900, page
    context.close()


def test_at_900_px_no_name_of_a_run_and_no_label_of_a_switch_is_cut(
    server: Server, browser, request: pytest.FixtureRequest
):
    settings = load_settings(demo_assets() / "demo.yaml")
    run = Run.create(server.folder / "ablation-npo-1126-111445", "ablate", settings)
    run.write_status("failed", "for this test")
    own = server.folder / ".draft.yaml"
    own.write_text("data: {}\n")
    request.addfinalizer(lambda: (own.unlink(), run.delete()))  # others use the folder, too
    context = browser.new_context(viewport={"width": 900, "height": 900})
    tab = context.new_page()
    cut = """[...document.querySelectorAll('[data-testid=stPageLink], [data-testid=stCheckbox]')]
        .flatMap(e => [...e.querySelectorAll('*')])
        .filter(e => e.clientWidth > 1 && e.scrollWidth > e.clientWidth + 1)
        .map(e => e.textContent)"""
    tab.goto(server.url)
    tab.get_by_role("link", name=run.path.name).wait_for(timeout=SECONDS)
    assert tab.evaluate(cut) == []
    tab.goto(f"{server.url}/model")
    tab.get_by_role("radio", name="My own model and data").click(timeout=SECONDS, force=True)
    tab.get_by_text("What is trained, number format, device").click(timeout=SECONDS)
    tab.get_by_text("Activation checkpointing").wait_for(timeout=SECONDS)
    tab.wait_for_timeout(800)
    assert tab.evaluate(cut) == []
    context.close()


def test_at_900_px_a_charts_buttons_leave_its_title_to_be_read(server: Server, browser):
    context = browser.new_context(viewport={"width": 900, "height": 900})
    tab = context.new_page()
    tab.goto(f"{server.url}/impact?run=demo-impact")
    chart = tab.locator(".js-plotly-plot").first
    chart.wait_for(timeout=SECONDS)
    tab.mouse.move(5, 5)
    buttons = chart.locator(".modebar").first
    until(tab, lambda: buttons.evaluate("e => getComputedStyle(e).opacity") == "0")
    chart.hover()
    until(tab, lambda: buttons.evaluate("e => getComputedStyle(e).opacity") == "1")
    context.close()


def test_a_link_that_the_keyboard_has_reached_has_an_outline(server: Server, tab):
    tab.goto(f"{server.url}/gains?run=demo-gains")
    tab.get_by_role("button", name="Copy link").wait_for(timeout=SECONDS)
    inside = "document.activeElement.closest('[data-testid=stPageLink]') !== null"
    for _ in range(8):  # the header comes first
        tab.keyboard.press("Tab")
        if tab.evaluate(inside):
            break
    assert tab.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_a_copied_link_opens_the_same_view(server: Server, browser):
    from playwright.sync_api import expect

    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    tab = context.new_page()
    tab.goto(f"{server.url}/gains")  # shows its first run without a choice
    tab.get_by_role("button", name="Copy link").click(timeout=SECONDS)
    expect(tab.get_by_role("button", name="Link copied")).to_be_visible()
    link = tab.evaluate("navigator.clipboard.readText()")
    assert link == f"{server.url}/gains?run=demo-gains"
    tab.goto(f"{server.url}/compare?a=original&b=demo-npo-u2a")
    tab.get_by_role("button", name="Copy link").click(timeout=SECONDS)
    expect(tab.get_by_role("button", name="Link copied")).to_be_visible()
    link = tab.evaluate("navigator.clipboard.readText()")
    assert link.startswith(f"{server.url}/compare?")
    pictured(tab, "link-to-this-view")
    assert "a=original" in link
    assert "b=demo-npo-u2a" in link
    context.close()


def test_two_tabs_that_launch_at_once_start_one_job(server: Server, browser):
    before = {run.path for run in Workspace(server.folder).runs()}
    contexts = [browser.new_context() for _ in range(2)]
    tabs = [context.new_page() for context in contexts]
    buttons = []
    for tab in tabs:
        tab.goto(f"{server.url}/unlearn")
        button = main(tab).get_by_role("button", name="Launch")
        button.wait_for(timeout=SECONDS)
        buttons.append(button)
    for _ in range(2):
        for button in buttons:
            button.click(no_wait_after=True)
    for tab in tabs:
        main(tab).get_by_role("button", name="Stop").wait_for(timeout=SECONDS)
    new = [run for run in Workspace(server.folder).runs() if run.path not in before]
    for context in contexts:  # the browser goes, the job stays
        context.close()
    assert len(new) == 1
    assert new[0].status().state in jobs.ACTIVE
    worker = new[0].lock.worker()
    assert worker is not None
    worker.kill()
    worker.wait(10)


def test_a_killed_server_loses_no_draft_no_configuration_and_no_job(
    server: Server, tab, long_job: Run
):
    from playwright.sync_api import expect

    tab.goto(f"{server.url}/unlearn?run={long_job.path.name}")
    tab.get_by_role("radio", name="quick").or_(tab.get_by_role("button", name="quick")).first.click(
        timeout=SECONDS
    )
    expect(tab.get_by_text("--inner.steps 10").first).to_be_visible(timeout=SECONDS)
    main(tab).get_by_role("button", name="Save", exact=True).click()
    tab.get_by_label("Name", exact=True).fill("my <b>first</b>")
    tab.get_by_label("Name", exact=True).press("Enter")
    tab.get_by_role("button", name="Save this configuration").click()
    expect(tab.get_by_text("Saved as my <b>first</b>")).to_be_visible(timeout=SECONDS)
    tab.keyboard.press("Escape")
    tab.get_by_text("The same as a command").scroll_into_view_if_needed()
    pictured(tab, "same-as-a-command")
    tab.reload()
    expect(tab.get_by_text("--inner.steps 10").first).to_be_visible(timeout=SECONDS)
    for number in (signal.SIGKILL, signal.SIGTERM):
        server.process.send_signal(number)
        server.process.wait(20)
        assert long_job.status().state in jobs.ACTIVE
        server.start()
        tab.goto(f"{server.url}/unlearn?run={long_job.path.name}")
        expect(tab.get_by_text("--inner.steps 10").first).to_be_visible(timeout=SECONDS)
        expect(main(tab).get_by_role("button", name="Stop")).to_be_visible(timeout=SECONDS)
    main(tab).get_by_role("button", name="Load", exact=True).click()
    expect(tab.get_by_label("Saved configurations")).to_be_visible(timeout=SECONDS)


def test_a_killed_job_is_told_with_its_cause_and_goes_on(server: Server, tab, long_job: Run):
    from playwright.sync_api import expect

    until(tab, lambda: any(p.stage == "unlearning" for p in long_job.progress()))
    tab.goto(f"{server.url}/unlearn?run={long_job.path.name}")
    main(tab).get_by_role("button", name="Stop").wait_for(timeout=SECONDS)
    worker = long_job.lock.worker()
    assert worker is not None
    worker.kill()
    begun = time.monotonic()
    until(tab, lambda: long_job.status().state == "failed", 2)
    assert time.monotonic() - begun <= 2
    expect(tab.get_by_text("The process was ended from outside")).to_be_visible(timeout=10_000)
    expect(tab.get_by_text("Likely cause.")).to_be_visible()
    expect(tab.get_by_text("Next.", exact=True)).to_be_visible()
    main(tab).get_by_role("button", name="Resume").click()
    main(tab).get_by_role("button", name="Stop").click(timeout=SECONDS)
    until(tab, lambda: long_job.status().state == "stopped")


def test_home_shows_the_line_and_cancels_who_waits(server: Server, tab, long_job: Run):
    from playwright.sync_api import expect

    until(tab, lambda: long_job.status().state == "running")
    second = jobs.launch(server.folder, "gains", long_job.settings())
    tab.goto(server.url)
    expect(tab.get_by_text(f"next in line, after {long_job.path.name}")).to_be_visible(
        timeout=SECONDS
    )
    pictured(tab, "queue-and-run-history")
    main(tab).get_by_role("button", name="Cancel").click()
    until(tab, lambda: second.status().state == "stopped")
    expect(main(tab).get_by_role("button", name="Cancel")).to_have_count(0, timeout=SECONDS)
    assert long_job.status().state == "running"


def test_a_settings_file_fills_the_form(server: Server, tab, tmp_path: Path):
    from playwright.sync_api import expect

    tab.goto(f"{server.url}/unlearn")
    main(tab).get_by_role("button", name="Load", exact=True).click(timeout=SECONDS)
    for number, (content, told) in enumerate(
        (
            ("inner:\n  steps: many", "line 2: inner.steps"),
            ("\x00\x01 binary", "must be valid YAML"),
            ("# u2a unlearn X\ninner:\n  steps: 17", "--inner.steps 17"),
        )
    ):
        file = tmp_path / f"{number}.yaml"  # the browser tells no change of a file of the same name
        file.write_text(content)
        tab.locator("input[type=file]").set_input_files(str(file))
        fill = tab.get_by_role("button", name="Fill the form")
        expect(fill).to_be_enabled(timeout=SECONDS)
        tab.wait_for_timeout(500)
        fill.click()
        expect(tab.get_by_text(told).first).to_be_visible(timeout=SECONDS)
        tab.get_by_role("button", name=f"Remove {number}.yaml").click()
        expect(fill).to_be_disabled(timeout=SECONDS)
