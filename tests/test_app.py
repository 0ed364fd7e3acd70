"""Every page on empty, running, failed and finished runs, without a browser."""

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from pages import MAIN, opened, run_in
from streamlit.testing.v1 import AppTest

from app import parts
from u2a_core.config import load_settings
from u2a_core.runs import Run, Workspace, demo_assets

ROOT = Path(__file__).parents[1]
PAGES = ("home", "data", "model", "gains", "impact", "unlearn", "ablation", "compare")
STATES = ("empty", "running", "failed", "finished")


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
    assert numbers["AUC for mislabels"] == f"{auc:.3f}"
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
    assert {"Resume", "Delete for good"} <= {button.label for button in app.button}


@pytest.mark.parametrize("state", ["failed", "finished"])
def test_a_run_is_deleted_once_it_is_confirmed(folder: Path, state: str):
    run = run_in(folder, state)
    app = opened("unlearn", run="mine")
    app.button("delete_mine").click().run()
    assert not run.path.exists()
    assert not app.exception
    assert "mine" not in app.selectbox("unlearn_run").options


def test_a_finished_run_tells_which_step_it_kept_and_why_it_ended(folder: Path):
    run = run_in(folder, "finished")
    report = run.report() | {"ended": "negatives' NLL stayed above 6.72", "steps_taken": 28}
    (run.path / "report.json").write_text(json.dumps(report))
    captions = [caption.value for caption in opened("unlearn", run="mine").caption]
    told = " ".join(captions).replace("\\", "")
    assert "Step 26 of 28 kept, the largest J (-0.492 → +0.508)" in told
    assert "ended: negatives' NLL stayed above 6.72." in told


def test_the_shipped_runs_cannot_be_deleted(folder: Path):
    app = opened("unlearn", run="demo-npo-u2a")
    assert "Delete for good" not in {button.label for button in app.button}


def test_a_damaged_run_is_told_and_hides_no_other(folder: Path):
    run_in(folder, "finished")
    (folder / "torn").mkdir()
    (folder / "torn" / "config.json").write_text("{")
    other = Run.create(folder / "other", "gains", load_settings(demo_assets() / "demo.yaml"))
    (other.path / "config.json").write_text(json.dumps(other.config() | {"layout": 9}))
    app = opened("home")
    said = " ".join(caption.value for caption in app.caption)
    assert "other" in said
    assert "torn" in said
    assert [run.path.name for run in Workspace(folder).runs()] == ["mine"]


DAMAGE = {
    "report.json": ("", "{}"),
    "status.json": ("", '{"state": "exploded"}', '{"state": "failed", "message": 5}'),
    "lock": ("", "{}", '{"pid": "x", "started": 0}', '{"pid": -4, "started": 0}'),
    "progress.jsonl": ("{broken\n", '{"odd": 1}\n', "\udcff\n"),
    "tables/weights.parquet": ("no table",),
    "tables/history.parquet": ("no table",),
    "tables/generations.parquet": ("no table",),
}


@pytest.mark.parametrize(
    ("file", "content"), [(file, c) for file, contents in DAMAGE.items() for c in contents]
)
def test_a_damaged_file_is_told_and_hides_no_other_run(folder: Path, file: str, content: str):
    run_in(folder, "finished").path.rename(folder / "good")
    run = run_in(folder, "failed" if file in ("status.json", "lock", "progress.jsonl") else "done")
    (run.path / file).write_bytes(content.encode("utf-8", "surrogateescape"))
    home = AppTest.from_file(MAIN, default_timeout=60).run()
    assert not home.exception
    assert any("good" in str(link.proto) for link in home.get("page_link"))
    for page in ("gains", "unlearn", "compare"):
        app = home.switch_page(f"views/{page}.py")
        app.query_params["run"] = "mine"
        app.run()
        assert not app.exception, (page, app.exception[0].message)
        assert app.title[0].value == page.capitalize()
    app.query_params["b"] = "good"
    app.run()
    assert "Rewards" in {heading.value for heading in app.subheader}
    assert app.get("plotly_chart")


@pytest.mark.parametrize("identity", ["a" * 300, "a\0b", "![x](http://127.0.0.1:9/a.png)", "."])
def test_an_impossible_id_is_a_sentence_whose_markup_is_not_followed(folder: Path, identity: str):
    for page in ("gains", "unlearn"):
        (error,) = opened(page, run=identity).error
        assert "must be one of this workspace" in error.value
        assert "![x](" not in error.value
    app = opened("compare", a=identity, b="demo-npo-u2a")
    assert "![x](" not in app.warning[0].value
    app = opened("gains", run="demo-gains", sample=identity)
    assert "![x](" not in app.warning[0].value


def test_a_damaged_draft_leaves_the_form(folder: Path):
    folder.mkdir()
    (folder / ".draft.yaml").write_text("model: [")
    app = opened("data")
    assert "begins anew" in app.warning[0].value
    assert "Check and save" in {button.label for button in app.button}


def test_what_is_not_there_is_told_beside_the_button(folder: Path):
    app = opened("model")
    app.segmented_control("project_choice").set_value("own").run()
    app.text_input("own_model").set_value("/nowhere/model")
    app.text_input("own_reward").set_value("/nowhere/reward.py:f")
    next(b for b in app.button if b.label == "Check and save").click().run()
    told = app.warning[0].value.replace("\\", "")
    assert "the model is not at /nowhere/model" in told
    assert "the reward is not at /nowhere/reward.py" in told
    app = opened("data")
    app.text_input("own_path_negatives").set_value("/nowhere/n.jsonl")
    next(b for b in app.button if b.label == "Check and save").click().run()
    told = app.warning[0].value.replace("\\", "")
    assert "Negatives: /nowhere/n.jsonl must be a readable file" in told


def test_a_set_on_the_hub_is_left_to_jobs(folder: Path):
    app = opened("data")
    app.segmented_control("project_choice").set_value("own").run()
    app.text_input("own_path_negatives").set_value("owner/name")
    next(b for b in app.button if b.label == "Check and save").click().run()
    assert "is a set on the hub" in app.info[0].value


def test_without_a_choice_the_demos_telling_runs_are_shown_and_the_address_is_left(folder: Path):
    for page, run in (("gains", "demo-gains"), ("unlearn", "demo-npo-u2a")):
        app = opened(page)
        assert app.selectbox(f"{page}_run").value == run
        assert "run" not in app.query_params


def test_a_project_shows_its_own_runs_and_none_of_another(folder: Path):
    mine = {"model": {"path": str(demo_assets() / "model")}, "data": {"negatives": "mine.jsonl"}}
    folder.mkdir()
    (folder / ".draft.yaml").write_text(json.dumps(mine))
    app = opened("gains")
    assert "No gains yet" in app.info[0].value
    assert not app.metric
    settings = load_settings(folder / ".draft.yaml")
    other = Run.create(folder / "other", "gains", load_settings(demo_assets() / "demo.yaml"))
    Run.create(folder / "own", "gains", settings).write_status("failed", "It ended.")
    other.write_status("failed", "Another end.")
    app = opened("gains")
    assert app.selectbox("gains_run").value == "own"
    assert "my own model and data" in " ".join(m.value for m in app.markdown)
    app = opened("gains", run="demo-gains")  # a link is followed, and the line says whose it is
    assert app.metric
    assert "embedded demo" in " ".join(m.value for m in app.markdown)


def test_a_runs_folder_that_cannot_be_written_is_a_box(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("U2A_RUNS", str(tmp_path / "file" / "runs"))
    for page, label in (("unlearn", "Launch"), ("ablation", "Launch")):
        app = opened(page)
        assert next(b for b in app.button if b.label == label).disabled
        assert "must be writable" in app.error[0].value


def test_presets_change_the_command(folder: Path):
    app = opened("unlearn")
    assert app.code[0].value == f"u2a reweight {demo_assets() / 'demo.yaml'}"
    app.segmented_control("preset").set_value("quick").run()
    assert app.code[0].value.endswith("--inner.steps 10")
    app.radio("weights").set_value("uniform").run()
    assert app.code[0].value.startswith("u2a unlearn")


def test_settings_are_made_into_widgets_with_label_help_and_range(folder: Path):
    app = opened("unlearn")
    steps = app.number_input("draft_unlearn_demo_0_inner_steps")
    field = type(load_settings(demo_assets() / "demo.yaml").inner).model_fields["steps"]
    assert (steps.label, steps.help, steps.min, steps.value) == (
        field.title, field.description, 1, 30
    )  # fmt: skip
    steps.set_value(7).run()
    assert app.code[0].value.endswith("--inner.steps 7")


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
        "from u2a_core.report.words import word_diff\n"
        "from u2a_core.table import measured_alike, rewards_table\n"
        "old, new = word_diff('I do not care.', 'I am happy to help.', ('#fff', '#000'))\n"
        "assert old.count('<del') == new.count('<ins') == 1, (old, new)\n"
        "assert old.startswith('I <del') and '>do not care.<' in old\n"
        "before, after = ({'mean': m, 'low': m, 'high': m, 'n': 4} for m in (0.0, 1.0))\n"
        "facts = {'steps': 1, 'effective_samples': 2.0, 'seconds': 3.0}\n"
        "report = {**facts, 'reward': {'before': before, 'after': after}}\n"
        "other = {**report, 'reward': {'before': {**before, 'n': 5}, 'after': after}}\n"
        "alike = measured_alike({'a': report, 'b': report, 'c': other, 'd': facts}, 'a')\n"
        "assert list(rewards_table(alike)['name']) == ['a', 'b', 'original'], alike\n"
        "assert measured_alike({'d': facts}, 'd') == {}\n"
        "old, new = word_diff('<script>a</script> x', '<img onerror=1> x', ('#fff', '#000'))\n"
        "assert '<script>' not in old and '<img' not in new, (old, new)\n"
        "assert '&lt;script&gt;' in old and '<del' in old\n"
        "assert parts.plain('[a](b) <b> $x$') == r'\\[a\\]\\(b\\) \\<b\\> \\$x\\$'"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, check=True)


def test_the_server_never_imports_torch(folder: Path):
    code = (
        "import sys, os; from streamlit.testing.v1 import AppTest\n"
        "app = AppTest.from_file(os.path.abspath('app/main.py'), default_timeout=60).run()\n"
        f"for page in {PAGES[1:]!r}:\n"
        "    app.switch_page(f'views/{page}.py').run(); assert not (app.exception or app.error)\n"
        "sys.exit(any(m in sys.modules for m in ('torch', 'transformers')))"
    )
    command = [sys.executable, "-W", "ignore", "-c", code]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == 0


def test_the_shipped_runs_are_of_the_shipped_data_and_model():
    from u2a_core.data import fingerprint

    runs = Workspace(ROOT).shipped()
    assert len(runs) == 14
    for run in runs:
        then, paths = run.config()["sha256"], run.settings().local_paths()
        assert run.changed("data.") == []
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


def test_the_shipped_curves_tell_their_sample(folder: Path):
    ended = Workspace(folder).find("demo-impact").table("samples")
    name = ended.loc[ended["ended"], "id"].iloc[0]
    app = opened("impact", run="demo-impact", sample=name)
    assert not app.exception
    assert any("Validity limit" in caption.value for caption in app.caption)
    assert app.selectbox(key="impact_sample").value == name


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("omegas", "2", "must lie in"),
        ("omegas", "", "at least one weight"),
        ("lam", 0.0, "greater"),
    ],
)
def test_a_bad_setting_of_the_curves_is_told(folder: Path, field: str, value: object, told: str):
    app = opened("impact")
    key = f"impact_{field}"
    widget = app.text_input(key=key) if isinstance(value, str) else app.number_input(key=key)
    widget.set_value(value).run()
    assert any(told in error.value for error in app.error)


def test_uncertain_signs_are_a_filter(folder: Path):
    app = opened("gains", run="demo-gains")
    gains = Workspace(folder).find("demo-gains").table("gains")
    unsure = int(((gains["gain_low"] < 0) & (gains["gain_high"] > 0)).sum())
    assert 0 < unsure < len(gains)
    app.segmented_control(key="side").set_value("uncertain sign").run()
    assert any(f"listed {unsure}" in text.value for text in app.markdown)


def test_warnings_of_a_run_stand_on_its_page(folder: Path):
    shipped = Workspace(folder).find("demo-gains")
    run = Run.create(folder / "bent", "gains", shipped.settings())
    run.write_table("gains", shipped.table("gains"))
    said = "The Hessian of the inner problem is indefinite in 1 of 1 solves."
    run.write_report(shipped.report() | {"warnings": [said]})
    app = opened("gains", run="bent")
    assert any("is indefinite" in warning.value for warning in app.warning)


@pytest.mark.parametrize(
    "text",
    [
        ":material/home:", ":material_home:", ":smile:", "http://evil.example/x",
        "www.evil.example", "a@evil.example", "a -> b",
        "&lt;b&gt;", "$x^2$", "[a](b)", "Www.Evil.example", "a&b", "mailto:a@b.c",
    ],
)  # fmt: skip
def test_markup_in_a_name_is_shown_as_it_is_written(text: str):
    import html
    import re

    safe = parts.plain(text)
    for drawn in (r":material/", r":\w+:", r"://", r"www\.", r"@\w", r"->", r"&(?!amp;)"):
        assert not re.search(drawn, safe.replace("\\", ""), re.IGNORECASE), drawn
    assert html.unescape(safe.replace("\\", "")).replace("\u2060", "") == text
