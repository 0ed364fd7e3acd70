"""Every page on empty, running, failed and finished runs, without a browser."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from u2a_core.config import load_settings
from u2a_core.runs import Run, Workspace, demo_assets
from u2a_core.types import Progress

ROOT = Path(__file__).parents[1]
PAGES = ("home", "data", "gains", "unlearn", "compare")
STATES = ("empty", "running", "failed", "finished")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("U2A_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


def opened(page: str, **address: str) -> AppTest:
    app = AppTest.from_file(str(ROOT / "app" / "main.py"), default_timeout=60)
    for name, value in address.items():
        app.query_params[name] = value
    app.run()
    if page != "home":
        app.switch_page(f"views/{page}.py")
        for name, value in address.items():
            app.query_params[name] = value
        app.run()
    assert not app.exception, app.exception[0].message
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


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("state", STATES)
def test_every_page_stands_on_every_kind_of_run(folder: Path, page: str, state: str):
    if state != "empty":
        run_in(folder, state)
    app = opened(page, **({} if state == "empty" else {"run": "mine"}))
    assert app.title[0].value == ("U2A workbench" if page == "home" else page.capitalize())


def test_the_demo_shows_its_gains_without_computing(folder: Path):
    app = opened("gains", run="demo-gains")
    numbers = {metric.label: metric.value for metric in app.metric}
    report = Workspace(folder).find("demo-gains").report()
    assert numbers["Negative samples"] == "240"
    auc = report["gains"]["auc_first_round"]
    assert numbers["Finds the mislabelled (AUC)"] == f"{auc:.3f}"
    assert not folder.exists()


def test_a_sample_of_the_address_is_shown_in_full(folder: Path):
    app = opened("gains", run="demo-gains", sample="n001")
    table = Workspace(folder).find("demo-gains").table("gains").set_index("id")
    shown = " ".join(m.value for m in app.markdown)
    assert f"gain {table.loc['n001', 'gain']:+.3f}" in shown
    texts = " ".join(str(element.proto) for element in app.get("html"))
    assert table.loc["n001", "response"] in texts


@pytest.mark.parametrize("page", ["gains", "unlearn"])
def test_a_bad_id_is_a_friendly_sentence(folder: Path, page: str):
    app = opened(page, run="../../etc")
    assert "must be one of this workspace" in app.error[0].value


def test_a_failed_run_tells_why_with_its_log(folder: Path):
    run_in(folder, "failed")
    app = opened("unlearn", run="mine")
    assert "must be finite" in app.error[0].value.replace("\\", "")
    assert "a line of the log" in [code.value for code in app.code]
    assert {"Resume", "Delete"} <= {button.label for button in app.button}


def test_a_running_run_shows_progress_and_stop(folder: Path):
    run_in(folder, "running")
    app = opened("unlearn", run="mine")
    assert "Stop" in {button.label for button in app.button}
    assert any("mine" in m.value and "running" in m.value for m in app.markdown)


def test_data_that_changed_since_is_told(folder: Path):
    run = run_in(folder, "finished")
    config = run.config()
    config["sha256"]["data.negatives"] = "0" * 64
    (run.path / "config.json").write_text(json.dumps(config))
    app = opened("gains", run="mine")
    assert "data.negatives changed" in app.warning[0].value


def test_compare_pairs_replies_and_tells_the_difference_with_its_interval(folder: Path):
    app = opened("compare", a="original", b="demo-npo-u2a")
    said = " ".join(m.value for m in app.markdown)
    difference = Workspace(folder).find("demo-npo-u2a").report()["reward"]["difference"]
    assert f"{difference['mean']:+.3f}" in said
    assert "n = 200 prompts" in said


def test_markup_in_texts_is_shown_not_followed():
    code = (
        "import streamlit as st; from app import parts; "
        "parts.guarded = lambda page: None\n"
        "from app.views.compare import word_diff\n"
        "old, new = word_diff('<script>a</script> x', '<img onerror=1> x', ('#fff', '#000'))\n"
        "assert '<script>' not in old and '<img' not in new, (old, new)\n"
        "assert '&lt;script&gt;' in old and 'line-through' in old\n"
        "assert parts.plain('[a](b) <b> $x$') == r'\\[a\\]\\(b\\) \\<b\\> \\$x\\$'"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, check=True)


def test_the_server_never_imports_torch(folder: Path):
    code = (
        "import sys, os; from streamlit.testing.v1 import AppTest\n"
        "app = AppTest.from_file(os.path.abspath('app/main.py'), default_timeout=60).run()\n"
        f"for page in {PAGES[1:]!r}:\n"
        "    app.switch_page(f'views/{page}.py').run(); assert not app.exception\n"
        "sys.exit(any(m in sys.modules for m in ('torch', 'transformers')))"
    )
    command = [sys.executable, "-W", "ignore", "-c", code]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == 0


def test_the_shipped_runs_are_of_the_shipped_data_and_model():
    from u2a_core.data import fingerprint

    runs = Workspace(ROOT).shipped()
    assert len(runs) == 13
    for run in runs:
        then, paths = run.config()["sha256"], run.settings().local_paths()
        assert run.changed_data() == []
        assert fingerprint(paths["model.path"]) == then["model.path"]
        assert len(run.config()["code_sha256"]) == 64


def test_the_shipped_gains_come_out_again(u2a, tmp_path: Path):
    code, _, err = u2a(
        "gains", "--out", tmp_path / "g", "--json", config=demo_assets() / "demo.yaml"
    )
    assert code == 0, err
    new = Run.open(tmp_path / "g").table("gains").set_index("id")
    old = Workspace(tmp_path).find("demo-gains").table("gains").set_index("id").loc[new.index]
    assert new["gain"].corr(old["gain"]) > 0.99
    pd.testing.assert_series_equal(new["nll"], old["nll"], rtol=1e-3)
