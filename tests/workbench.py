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

import numpy as np
import pandas as pd
import pytest

from u2a_core.runs import Run, Workspace, demo_assets

PICTURES = Path(__file__).parents[1] / "artefacts" / "screenshots"
"""Kept by continuous integration; each is named after what it demonstrates."""
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
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=30_000)  # machines of CI are busy; what is quick is timed by itself
    if CHROMIUM is None and not os.environ.get("CI"):
        pytest.skip("NO CHROMIUM: the browser tests were NOT run")
    with sync_playwright() as play:
        arguments = ["--headless", "--no-sandbox", "--disable-gpu"]
        opened = play.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield opened
        opened.close()


def pictured(tab, name: str) -> None:
    """Keeps what the tab shows as a picture, once its fragments are at rest."""
    tab.wait_for_timeout(700)
    tab.screenshot(path=PICTURES / f"{name}.png", animations="disabled")


def many_gains(folder: Path, count: int, name: str = "many") -> Run:
    """A finished gains run of so many samples, synthesized: texts, gains, intervals."""
    rng = np.random.default_rng(0)
    shipped = Workspace(folder).find("demo-gains")
    run = Run.create(folder / name, "gains", shipped.settings())
    gain = np.sort(rng.standard_t(4, count) * 0.4 + 0.05)[::-1]
    error = rng.gamma(4, 0.05, count)
    words = np.array(["please", "rude", "reply", "help", "kitchen", "travel", "never", "ask"])
    picked = words[rng.integers(len(words), size=(count, 12))]
    table = pd.DataFrame(
        {
            "id": [f"m{i:06}" for i in rng.permutation(count)],
            "kind": rng.choice(["rude", "false", "harmful"], count),
            "prompt": [f"Question {i}: how do I {' '.join(p[:5])}?" for i, p in enumerate(picked)],
            "response": [f"Answer {i % 997}: {' '.join(p)}." for i, p in enumerate(picked)],
            "gain": gain,
            "gain_se": error,
            "gain_low": gain - 2 * error,
            "gain_high": gain + 2 * error,
            "nll": rng.gamma(2, 1, count),
        }
    )
    run.write_table("gains", table)
    data = shipped.report()["data"] | {"negatives": count, "negatives_sha256": f"{count:064}"}
    run.write_report(shipped.report() | {"data": data, "gains": {}, "warnings": []})
    return run


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
