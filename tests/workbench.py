"""The workbench's server and a real browser, for the tests that click."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from u2a_core.runs import Run, Workspace, demo_assets

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


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


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """A server of its own; at the end its jobs end, too."""
    made = Server(folder)
    try:
        yield made
    finally:
        for run in Workspace(made.folder).runs():
            worker = run.lock.worker()
            if worker is not None:
                worker.kill()
        made.end()


@contextmanager
def chromium() -> Iterator:
    """The system's Chromium; without it tests are skipped, but in CI they fail."""
    from playwright.sync_api import sync_playwright

    if CHROMIUM is None and not os.environ.get("CI"):
        pytest.skip("NO CHROMIUM: the browser tests were NOT run")
    with sync_playwright() as play:
        arguments = ["--headless", "--no-sandbox", "--disable-gpu"]
        opened = play.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield opened
        opened.close()


def finished_run(folder: Path, name: str, *, model: bool) -> Run:
    """A finished U2A run of the demo, synthesized from the shipped one.

    Args:
        folder: of runs.
        name: of the run.
        model: with a model, which is the demo's original.
    """
    shipped = Workspace(folder).find("demo-npo-u2a")
    run = Run.create(folder / name, "reweight", shipped.settings())
    for table in ("history", "weight_path", "weights", "generations"):
        run.write_table(table, shipped.table(table))
    if model:
        shutil.copytree(demo_assets() / "model", run.model_folder)
    run.write_report(shipped.report())
    return run
