"""Pages without a browser, for the tests of the workbench."""

import os
from pathlib import Path

from streamlit.testing.v1 import AppTest

from u2a_core.config import load_settings
from u2a_core.runs import Run, Workspace, demo_assets
from u2a_core.types import Progress

MAIN = str(Path(__file__).parents[1] / "app" / "main.py")


def opened(page: str, **address: str) -> AppTest:
    """A new session on a page, by a link with such an address."""
    app = AppTest.from_file(MAIN, default_timeout=60)
    app.query_params.update(address)
    app.run()
    return moved(app, page, **address)


def moved(app: AppTest, page: str, **address: str) -> AppTest:
    """The session goes to a page, which shows without a fault of ours."""
    if page != "home":
        app.switch_page(f"views/{page}.py")
        app.query_params.update(address)
        app.run()
    assert not app.exception, app.exception[0].message
    assert "cannot be shown" not in " ".join(error.value for error in app.error)
    return app


def run_in(folder: Path, state: str) -> Run:
    """A reweight run as its files say it is."""
    run = Run.create(folder / "mine", "reweight", load_settings(demo_assets() / "demo.yaml"))
    if state == "running":
        run.lock.assign(os.getpid())
        run.write_status("running")
        values = {"step": 0.0, "objective": -0.4, "objective_low": -0.5, "objective_high": -0.3}
        values |= {"effective_samples": 200.0, "support": 240.0}
        for step in (1, 2):
            run.append_progress(Progress("reweighting", step, 30, 2.0 * step, values))
    elif state == "failed":
        run.write_status("failed", "The inner gradient must be finite; got nan.")
        run.log_file.write_text("a line of the log\n")
    else:
        shipped = Workspace(folder).find("demo-npo-u2a")
        for name in ("history", "weight_path", "weights", "generations"):
            run.write_table(name, shipped.table(name))
        run.write_report(shipped.report())
    return run
