"""The main path in a real browser: the demo, a selection, launch, stop, resume, compare."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from u2a_core.runs import Workspace

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.browser
if CHROMIUM is None and not os.environ.get("CI"):
    pytest.skip("NO CHROMIUM: the browser tests were NOT run", allow_module_level=True)


class Server:
    """The workbench on a free port."""

    def __init__(self, folder: Path):
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://localhost:{self.port}"
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "u2a_core.cli", "app", "--port", str(self.port)]
        self.process = subprocess.Popen(
            [*command, "--runs", str(self.folder)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"STREAMLIT_SERVER_HEADLESS": "true"},
        )
        for _ in range(300):
            try:
                urllib.request.urlopen(f"{self.url}/_stcore/health", timeout=1).close()
                return
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        raise AssertionError("the server did not start")

    def end(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("browser") / "runs")
    yield made
    for run in Workspace(made.folder).runs():
        worker = run.lock.worker()
        if worker is not None:
            worker.kill()
    made.end()


@pytest.fixture(scope="module")
def browser() -> Iterator:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        arguments = ["--headless", "--no-sandbox", "--disable-gpu"]
        opened = play.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield opened
        opened.close()


@pytest.fixture
def tab(browser) -> Iterator:
    context = browser.new_context(viewport={"width": 1400, "height": 1000})
    context.set_default_timeout(60_000)
    yield context.new_page()
    context.close()


def test_the_demo_opens_and_a_box_selects_samples(server: Server, tab):
    from playwright.sync_api import expect

    hosts: set[str] = set()
    tab.on("request", lambda request: hosts.add(request.url.split("/")[2].split(":")[0]))
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
    assert hosts == {"localhost"}


def test_a_link_survives_a_reload_and_a_bad_one_is_told(server: Server, tab):
    from playwright.sync_api import expect

    tab.goto(f"{server.url}/gains?run=demo-gains&sample=n001")
    expect(tab.get_by_text("Sample n001")).to_be_visible(timeout=30_000)
    tab.reload()
    expect(tab.get_by_text("Sample n001")).to_be_visible(timeout=30_000)
    tab.goto(f"{server.url}/gains?run=nowhere")
    expect(tab.get_by_text("must be one of this workspace")).to_be_visible(timeout=30_000)


def test_launch_watch_reload_stop_resume_compare(server: Server, tab):
    from playwright.sync_api import expect

    tab.goto(f"{server.url}/unlearn?run=demo-npo-u2a")
    expect(tab.get_by_text("u2a reweight")).to_be_visible(timeout=30_000)
    for _ in range(3):
        tab.get_by_role("button", name="Launch").click()
    tab.get_by_role("button", name="Stop").wait_for()
    (run,) = Workspace(server.folder).runs()
    while not any(p.stage == "reweighting" for p in run.progress()):
        tab.wait_for_timeout(200)
    server.end()  # a restart of the server loses nothing
    server.start()
    tab.goto(f"{server.url}/unlearn?run={run.path.name}")
    stop = tab.get_by_role("button", name="Stop")
    stop.wait_for()
    for _ in range(3):  # a click while the page still builds itself can be lost
        if run.status().state == "running":
            tab.wait_for_timeout(1500)
            stop.click()
            tab.wait_for_timeout(1500)
    expect(tab.get_by_text("stopped", exact=True)).to_be_visible(timeout=30_000)
    tab.get_by_role("button", name="Resume").click()
    link = tab.get_by_role("link", name="Compare replies before and after")
    link.first.wait_for(timeout=120_000)
    assert run.status().state == "finished"
    link.first.click()
    expect(tab.get_by_text("Reward of B minus A")).to_be_visible(timeout=30_000)
    assert f"b={run.path.name}" in tab.url
