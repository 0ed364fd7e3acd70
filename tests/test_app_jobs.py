"""Job forms, their drafts and configurations, the queue, failures, the breadcrumb; no browser."""

import dataclasses
import json
import os
import re
import shutil
from pathlib import Path

import pytest
import yaml
from pages import MAIN, moved, opened, run_in
from streamlit.testing.v1 import AppTest

from app import configurations, failures, history, stages
from u2a_core.config import Settings, load_settings, override
from u2a_core.errors import ConfigError
from u2a_core.runs import ENDED_FROM_OUTSIDE, Run, Status, Workspace, demo_assets, slices
from u2a_core.types import Progress

DEMO = demo_assets() / "demo.yaml"
COMMANDS = ("reweight", "unlearn", "baseline")
PAGES = ("home", "data", "model", "gains", "impact", "unlearn", "ablation", "compare", "sample")


def said(app: AppTest) -> str:
    found = [*app.caption, *app.markdown, *app.info, *app.warning, *app.error, *app.success]
    return " ".join(element.value.replace("\\", "") for element in found)


def links(app: AppTest) -> list[tuple[str, str]]:
    return [(e.proto.label.replace("\\", ""), e.proto.page) for e in app.get("page_link")]


def labels(app: AppTest) -> set[str]:
    return {button.label for button in app.button}


def made(folder: Path, name: str, *words: str, command: str = "reweight") -> Run:
    return Run.create(folder / name, command, override(load_settings(DEMO), words))


def failed(folder: Path, message: str, kind: str) -> Run:
    run = made(folder, "mine")
    run.write_status("failed", message, kind)
    run.log_file.write_text("\n".join(f"line {n}" for n in range(100)))
    return run


def working(run: Run, state: str = "running", **turn: str) -> Run:
    run.lock.assign(os.getpid(), **turn)
    run.write_status(state)
    for step in (0, 1, 2, 3):
        run.append_progress(Progress("reweighting", step, 30, 2.0 * step, {"step": float(step)}))
    return run


# the breadcrumb


@pytest.mark.parametrize("page", PAGES)
def test_every_page_tells_project_model_and_run_of_the_address(folder: Path, page: str):
    line = opened(page, run="demo-npo-u2a", sample="n001").markdown
    crumb = next(m.value for m in line if " › " in m.value).replace("\\", "")
    assert "embedded demo › model" in crumb
    assert ("demo-impact" if page == "impact" else "demo-npo-u2a") in crumb
    assert "finished" in crumb
    assert "240 samples" in crumb


@pytest.mark.parametrize("page", PAGES)
def test_a_bad_run_and_sample_leave_every_page_standing(folder: Path, page: str):
    app = opened(page, run="no/../where", sample="<b>", slice="x" * 300)
    assert "cannot be shown" not in said(app)
    assert app.title[0].value


def test_a_link_holds_the_run_that_is_shown_without_a_choice(folder: Path):
    app = opened("gains")
    told = next(e for e in app.get("bidi_component") if "copy_link" in str(e.proto))
    assert "gains?run=demo-gains" in str(told.proto)


# what is missing


def test_with_nothing_named_launch_is_disabled_and_links_to_what_is_missing(folder: Path):
    app = opened("model")
    app.segmented_control("project_choice").set_value("own").run()
    next(b for b in app.button if b.label == "Check and save").click().run()
    for page, button in (
        ("unlearn", "Launch"), ("ablation", "Launch"), ("gains", "Compute for my data"),
        ("impact", "Start"),
    ):  # fmt: skip
        moved(app, page)
        assert next(b for b in app.button if b.label == button).disabled, page
        assert ("Name a model", "model") in links(app), page
        assert ("Upload or name the negatives", "data") in links(app), page


# settings as text


def test_a_settings_text_comes_back_with_its_command():
    settings = override(load_settings(DEMO), ["--inner.steps", "7", "--weights", "uniform"])
    text = configurations.as_yaml("unlearn", settings)
    assert configurations.read(text, Settings(), COMMANDS) == ("unlearn", settings)


def test_a_part_of_the_settings_keeps_the_rest_of_the_projects():
    base = load_settings(DEMO)
    command, found = configurations.read("inner: {steps: 5}\nseed: 3", base, COMMANDS)
    assert command is None
    assert configurations.differences(base, found) == {"inner": {"steps": 5}, "seed": 3}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("inner:\n  steps: 5\n lr: 3", "line 3"),
        ("inner:\n  steps: 0", "line 2: inner.steps"),
        ("inner:\n  method: npo\n  stepz: 5", "line 3: inner.stepz: is no setting (did you mean"),
        ("seed: 1\nouter: 3", "line 2: outer"),
        ("just words", "must hold sections"),
        ("", "must hold sections"),
        ("- 1", "must hold sections"),
        ("a: &x [*x]", "line 1: a"),
        ("1: 2", "1"),
        ("inner: {lam_retain: 1}\ndata: {retain: ''}", "data.retain must name a retain set"),
        ("\x00", "valid YAML"),
        ("seed: 2020-99-99", "valid YAML"),
        ("seed: !!bool abc", "valid YAML"),
        ("a: " + "[" * 3000, "valid YAML"),
        ("!!python/object:os.system x", "valid YAML"),
        ("a" * 1_000_001, "at most 1,000,000 characters"),
    ],
)
def test_a_faulty_settings_text_is_told_by_its_line(text: str, told: str):
    with pytest.raises(ConfigError) as error:
        configurations.read(text, load_settings(DEMO), COMMANDS)
    assert told in str(error.value)


@pytest.mark.parametrize("name", ["../../etc/passwd", "a/b", "x" * 80, "<b>ü 🙂</b>", "."])
def test_a_configurations_name_is_never_a_path(tmp_path: Path, name: str):
    settings = load_settings(DEMO)
    configurations.keep(tmp_path, f" {name} ", "unlearn", settings)
    (file,) = tmp_path.rglob("*.json")
    assert file.parent == tmp_path / ".configs"
    assert configurations.names(tmp_path, COMMANDS) == [name]
    assert configurations.kept(tmp_path, name) == ("unlearn", settings)
    configurations.drop(tmp_path, name)
    assert configurations.names(tmp_path, COMMANDS) == []


@pytest.mark.parametrize("name", ["", "  ", "x" * 81])
def test_a_configuration_needs_a_name(tmp_path: Path, name: str):
    with pytest.raises(ConfigError, match="1 to 80 characters"):
        configurations.keep(tmp_path, name, "unlearn", Settings())


def test_a_damaged_configuration_hides_no_other(tmp_path: Path):
    configurations.keep(tmp_path, "good", "unlearn", Settings())
    for number, content in enumerate(("", "{", "[]", '{"command": "unlearn"}')):
        (tmp_path / ".configs" / f"{number}.json").write_text(content)
    assert configurations.names(tmp_path, COMMANDS) == ["good"]


# the form


def value(app: AppTest, field: str) -> object:
    return app.number_input(
        f"draft_unlearn_demo_{app.session_state['unlearn_filling'][-1]}_{field}"
    ).value


def test_a_draft_survives_a_change_of_page_and_a_reload(folder: Path):
    app = opened("unlearn")
    app.radio("weights").set_value("uniform").run()
    app.number_input("draft_unlearn_demo_0_inner_steps").set_value(7).run()
    moved(app, "gains")
    moved(app, "unlearn")
    assert app.code[0].value.endswith("--inner.steps 7")
    again = opened("unlearn")
    assert again.code[0].value == f"u2a unlearn {DEMO} --inner.steps 7"
    assert again.radio("weights").value == "uniform"


def test_a_visit_alone_writes_nothing(folder: Path):
    opened("unlearn")
    opened("ablation")
    assert not folder.exists()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"command": "rm", "changes": {}}'])
def test_a_damaged_draft_of_a_form_begins_anew(folder: Path, content: str):
    (folder / ".forms").mkdir(parents=True)
    (folder / ".forms" / "unlearn-demo.json").write_text(content)
    assert opened("unlearn").code[0].value == f"u2a reweight {DEMO}"


def test_a_draft_that_no_longer_fits_is_told(folder: Path):
    (folder / ".forms").mkdir(parents=True)
    draft = {"command": "unlearn", "changes": {"inner": {"gone": 1}}}
    (folder / ".forms" / "unlearn-demo.json").write_text(json.dumps(draft))
    app = opened("unlearn")
    assert "begins anew" in said(app)
    assert app.code[0].value == f"u2a unlearn {DEMO}"


def test_the_preset_follows_the_settings(folder: Path):
    app = opened("unlearn")
    assert app.segmented_control("preset").value == "balanced"
    app.number_input("draft_unlearn_demo_0_inner_steps").set_value(10).run()
    assert app.segmented_control("preset").value == "quick"
    app.number_input("draft_unlearn_demo_0_inner_steps").set_value(11).run()
    assert app.segmented_control("preset").value is None
    app.segmented_control("preset").set_value("paper").run()
    assert value(app, "inner_steps") == 60
    app.segmented_control("preset").set_value("balanced").run()
    assert app.code[0].value == f"u2a reweight {DEMO}"


def test_differences_and_yaml_are_what_would_be_launched(folder: Path):
    app = opened("unlearn")
    app.segmented_control("preset").set_value("quick").run()
    written = next(c.value for c in app.code if c.value.startswith("# u2a reweight"))
    assert yaml.safe_load(written)["inner"]["steps"] == 10
    table = next(d.value for d in app.dataframe if "this form" in d.value)
    assert table.to_dict("records") == [
        {"setting": "inner.steps", "project": "30", "this form": "10"}
    ]


def test_a_pasted_text_fills_the_form_and_a_faulty_one_leaves_it(folder: Path):
    app = opened("unlearn")
    app.text_area("load_text_unlearn").set_value("inner:\n  steps: none").run()
    app.button("fill_unlearn").click().run()
    assert "line 2: inner.steps" in said(app)
    assert app.code[0].value == f"u2a reweight {DEMO}"
    app.text_area("load_text_unlearn").set_value("# u2a unlearn X\ninner:\n  steps: 9").run()
    app.button("fill_unlearn").click().run()
    assert app.code[0].value == f"u2a unlearn {DEMO} --inner.steps 9"
    assert value(app, "inner_steps") == 9


def test_a_saved_configuration_is_loaded_again(folder: Path):
    app = opened("unlearn")
    app.segmented_control("preset").set_value("quick").run()
    app.text_input("save_name_unlearn").set_value("mine").run()
    app.button("save_unlearn").click().run()
    assert "Saved as mine" in said(app)
    again = opened("unlearn")
    again.segmented_control("preset").set_value("paper").run()
    assert again.selectbox("load_name_unlearn").options == ["mine"]
    again.button("load_unlearn").click().run()
    assert again.code[0].value == f"u2a reweight {DEMO} --inner.steps 10"
    again.button("forget_unlearn").click().run()
    assert not list((folder / ".configs").glob("*"))


@pytest.mark.parametrize(
    ("command", "words", "page"),
    [
        ("reweight", ["--inner.steps", "12"], "unlearn"),
        ("unlearn", ["--inner.method", "ga", "--outer.steps-per-round", "3"], "unlearn"),
        ("baseline", ["--baseline.method", "ppo", "--baseline.steps", "4"], "unlearn"),
        ("ablate", ["--ablation.seeds", "2", "--inner.steps", "4"], "ablation"),
    ],
)
def test_a_run_is_duplicated_into_the_form(folder: Path, command: str, words: list[str], page: str):
    made(folder, "mine", *words, command=command)
    app = opened(page, run="mine")
    app.button("duplicate_mine").click().run()
    moved(app, page)
    line = app.code[0].value.split()
    assert line[:3] == ["u2a", command, str(DEMO)]
    found = override(load_settings(DEMO), line[3:])
    assert found == override(load_settings(DEMO), words)


def test_a_slice_handed_over_by_gains_becomes_the_weights(folder: Path):
    space = Workspace(folder)
    one = slices.save(space, space.find("demo-gains"), "Worst", ["n001", "n002"])
    app = AppTest.from_file(MAIN, default_timeout=60).run()
    app.session_state["weights_slice"] = str(one.path)
    moved(app, "unlearn")
    assert app.radio("weights").value == "slice"
    assert app.code[0].value == f"u2a unlearn {DEMO} --weights {one.path}"
    assert "Worst (2 samples, demo-gains)" in app.selectbox("source_slice").options


def test_without_a_slice_the_form_tells_where_to_make_one(folder: Path):
    app = opened("unlearn")
    app.radio("weights").set_value("slice").run()
    assert next(b for b in app.button if b.label == "Launch").disabled
    assert ("Save a selection as a slice", "gains") in links(app)


# the ablation's form


def test_an_ablations_presets_change_its_runs(folder: Path):
    app = opened("ablation")
    for name, runs in (("quick", 12), ("balanced", 54), ("full", 145)):
        app.segmented_control("preset_ablation").set_value(name).run()
        assert f"Makes **{runs} runs**" in said(app), name
    assert "is told once a run of this model and data has finished" in said(app)


def test_a_first_ablation_is_estimated_from_runs_like_its_arms(folder: Path):
    run = Run(folder / "before")
    shutil.copytree(demo_assets() / "runs" / "demo-npo-u2a", run.path)
    config, here = run.config(), load_settings(demo_assets() / "demo.yaml")
    config["settings"] = here.model_dump(mode="json")
    (run.path / "config.json").write_text(json.dumps(config))
    assert re.search(r"About \d.*n = 1 finished comparable runs", said(opened("ablation")))


def test_an_ablation_is_estimated_from_finished_arms(folder: Path, made_ablation):
    run = made_ablation(folder)
    arms = Workspace(folder).arms(run)
    odd = arms[0].config()
    odd["settings"]["data"]["of_another_version"] = 1
    (arms[0].path / "config.json").write_text(json.dumps(odd))
    app = opened("ablation")
    assert not next(b for b in app.button if b.label == "Launch").disabled
    assert f"n = {len(arms) - 1} finished comparable runs" in said(app)


# the queue and Home


def test_home_shows_who_works_and_who_waits_behind_whom(folder: Path):
    for name in ("first", "second", "third"):
        working(made(folder, name), "running" if name == "first" else "queued", device="cpu")
    app = opened("home")
    assert "reweighting 3 of 30, about" in said(app)
    assert "next in line, after first" in said(app)
    assert "2nd in line, behind second" in said(app)
    assert [b.label for b in app.button if b.label in ("Stop", "Cancel")] == [
        "Stop", "Cancel", "Cancel"
    ]  # fmt: skip


def test_a_job_that_begins_does_not_push_down_the_one_at_work(folder: Path):
    working(made(folder, "first"), "running", device="cpu")
    working(made(folder, "newest"), "queued")  # it has not joined the line yet
    app = opened("home")
    shown = [label for label, _ in links(app) if label in ("first", "newest")]
    assert shown == ["first", "newest"]


def test_a_run_without_a_reward_tells_how_j_rose(folder: Path):
    run = run_in(folder, "finished")
    (run.path / "report.json").write_text(json.dumps(run.report() | {"reward": {}}))
    assert "step 26 of 30 kept, the largest J (-0.492 → +0.508)" in said(opened("home"))


def test_recent_runs_are_searched_filtered_and_deleted_together(folder: Path):
    for name, command in (("a", "reweight"), ("b", "unlearn"), ("c", "unlearn")):
        made(folder, name, command=command).write_status("failed", f"because of {name}")
    app = opened("home")
    app.text_input("recent_search").set_value("OF B").run()
    assert {c.key for c in app.checkbox} == {"tick_b"}
    app.text_input("recent_search").set_value("").run()
    app.get_by_key("recent_commands").set_value(["unlearn"]).run()
    assert {c.key for c in app.checkbox} == {"tick_b", "tick_c"}
    for name in ("b", "c"):
        app.checkbox(f"tick_{name}").check()
    app.run()
    app.button("recent_delete_sure").click().run()
    assert [run.path.name for run in Workspace(folder).runs()] == ["a"]


def test_a_run_deleted_on_disk_meanwhile_is_told(folder: Path):
    run = working(made(folder, "mine"))
    app = opened("unlearn", run="mine")
    run.lock.file.unlink()
    run.delete()
    app.run()
    assert "must be one of this workspace" in said(app)


@pytest.mark.parametrize(
    ("size", "told"),
    [(0, "0 B"), (1023, "1023 B"), (2048, "2 KiB"), (5 * 2**20, "5.0 MiB"), (2**40, "1024 GiB")],
)
def test_sizes_in_words(size: int, told: str):
    assert history.bytes_in_words(size) == told


# failures


@pytest.mark.parametrize(
    ("kind", "cause", "page"),
    [
        ("NumericalError", "steps were too large", ""),
        ("DataError", "record in it is faulty", "data"),
        ("ModelError", "could not be found or loaded", "model"),
        ("ConfigError", "such as a device", ""),
        ("RunError", "full disk", ""),
        ("MemoryError", "did not fit into memory", "model"),
        ("MemoryShortageError", "did not fit into memory", "model"),
        ("TokenError", "token", "model"),
        ("AccessError", "terms", "model"),
        ("ZeroDivisionError", "fault of ours", ""),
        (ENDED_FROM_OUTSIDE, "ended it", ""),
    ],
)
def test_a_failure_is_told_with_cause_and_next_step(folder: Path, kind: str, cause: str, page: str):
    failed(folder, "The thing must be so; got $x$ <b>.", kind)
    app = opened("unlearn", run="mine")
    assert "must be so; got $x$ <b>" in app.error[0].value.replace("\\", "")
    assert cause in said(app)
    assert "Next." in said(app)
    assert not page or (f"Open {page.capitalize()}", page) in links(app)
    assert {"Resume", "Duplicate with changes", "Delete for good"} <= labels(app)
    report = next(c.value for c in app.code if "What happened" in c.value)
    assert "line 99" in report
    assert "line 59" not in report


def test_every_error_of_the_library_has_advice():
    from u2a_core import errors

    kinds = [name for name in dir(errors) if name.endswith("Error") and name != "U2AError"]
    assert {kind for kind in kinds if kind not in failures.ADVICE} == set()


# a run at work and at rest


def test_time_left_has_n_and_an_interval():
    lines = [Progress("steps", n, 10, 2.0 * n, {}) for n in range(5)]
    found = stages.left(lines, 1.0)
    assert found is not None
    assert (found.seconds, found.low, found.high, found.n) == (11.0, 11.0, 11.0, 4)
    uneven = [dataclasses.replace(line, seconds=line.seconds + line.step % 2) for line in lines]
    wider = stages.left(uneven, 0.0)
    assert wider is not None
    assert wider.low < wider.seconds < wider.high
    assert stages.left(lines[:2], 0.0) is None
    assert stages.left([*lines, Progress("steps", 10, 10, 20.0, {})], 0.0) is None


def test_time_left_begins_anew_with_a_resume():
    before = [Progress("steps", n, 10, 100.0 * n, {}) for n in range(5)]
    after = [Progress("steps", n, 10, 300.0 + n, {}) for n in range(3, 7)]
    found = stages.left([*before, *after], 0.0)
    assert found is not None
    assert found.seconds == pytest.approx(4.0)


def test_stages_tell_the_time_of_each():
    lines = [
        Progress("loading", 0, 1, 0.0, {}), Progress("loading", 1, 1, 3.0, {}),
        Progress("steps", 0, 2, 4.0, {}), Progress("steps", 2, 2, 10.0, {}),
    ]  # fmt: skip
    assert stages.spent(lines) == {"loading": 4.0, "steps": 6.0}
    assert stages.spent([]) == {}


def test_a_resume_says_from_which_step_and_what_it_does_again(folder: Path):
    import torch

    run = working(made(folder, "mine"))
    run.save_checkpoint({"theta.x": torch.zeros(1)}, {"step": 2})
    run.lock.file.unlink()
    run.write_status("stopped", "at step 3 of 30")
    app = opened("unlearn", run="mine")
    assert "continues after step 2 of 30, and redoes 1 step" in said(app)
    (run.path / "checkpoint.safetensors").unlink()
    assert "begins the run anew" in said(app.run())


def test_a_resume_that_cannot_be_is_disabled_and_told(folder: Path):
    run = made(folder, "mine")
    config = run.config()
    config["sha256"]["data.negatives"] = "0" * 64
    (run.path / "config.json").write_text(json.dumps(config))
    app = opened("unlearn", run="mine")
    assert app.button("resume_mine").disabled
    assert "data.negatives changed or went away" in said(app)


def test_a_status_of_an_older_version_still_has_advice():
    assert failures.advice(Status("failed", "why")).action.startswith("Resume")


@pytest.mark.parametrize("page", ["unlearn", "ablation", "gains", "impact"])
def test_a_folder_that_cannot_be_written_is_told_beside_every_launch_button(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, page: str
):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("U2A_RUNS", str(tmp_path / "file" / "runs"))
    app = opened(page)
    button = next(b for b in app.button if str(b.key).startswith("launch_"))
    assert button.disabled
    assert "must be writable" in said(app)
    assert "--runs ANOTHER_FOLDER" in said(app)


def test_an_ablations_progress_is_that_of_its_arms(folder: Path):
    run = made(folder, "mine", command="ablate")
    for n in range(4):
        run.append_progress(Progress("arms", n, 10, 10.0 * n, {}))
        run.append_progress(Progress(f"top_k-{n}", 1, 30, 10.0 * n + 5, {}))
    assert stages.told(run).startswith("arms 3 of 10, about 70 s left")
    assert stages.shown(run)[-1].stage == "arms"


def test_a_stop_that_is_handled_twice_signals_once(folder: Path, monkeypatch: pytest.MonkeyPatch):
    working(made(folder, "mine"))
    asked: list[Run] = []
    monkeypatch.setattr("u2a_core.jobs.stop", asked.append)
    app = opened("unlearn", run="mine")
    for _ in range(2):
        app.button("stop_mine").click().run()
    assert len(asked) == 1


def test_a_stop_that_fails_is_told_and_leaves_the_page_standing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    from u2a_core import jobs

    def refused(run: Run) -> None:
        raise PermissionError("Operation not permitted")

    working(made(folder, "mine"))
    monkeypatch.setattr(jobs, "stop", refused)
    app = opened("unlearn", run="mine")
    app.button("stop_mine").click().run()
    assert not app.exception
    assert "This was not done: PermissionError: Operation not permitted" in said(app)
    assert "Stop" in labels(app)


def test_a_configuration_without_settings_is_told(folder: Path):
    settings = load_settings(DEMO)
    configurations.keep(folder, "bad", "unlearn", settings)
    (file,) = (folder / ".configs").glob("*.json")
    file.write_text(json.dumps({"name": "bad", "command": "unlearn"}))
    with pytest.raises(ConfigError, match="must hold settings"):
        configurations.kept(folder, "bad")
    app = opened("unlearn")
    app.button("load_unlearn").click().run()
    assert not app.exception
    assert "must hold settings; it is damaged" in said(app)


def test_a_failed_run_with_odd_packages_is_shown(folder: Path):
    run = failed(folder, "why", "RunError")
    (run.path / "config.json").write_text(json.dumps(run.config() | {"packages": ["x"]}))
    app = opened("unlearn", run="mine")
    assert "Packages: " in " ".join(code.value for code in app.code)


@pytest.mark.parametrize(
    "odd",
    [
        '{"stage": "reweighting", "step": "x", "total": 30, "seconds": 1, "values": {}}',
        '{"stage": "reweighting", "step": 4, "total": 30, "seconds": NaN, "values": {}}',
        '{"stage": 4, "step": 4, "total": 30, "seconds": 1, "values": {}}',
        '{"stage": "reweighting", "step": 4, "total": 30, "seconds": 1, "values": 5}',
        '{"stage": "reweighting", "step": 4, "total": 30, "seconds": 9, "values": {"step": "x"}}',
        '{"stage": "reweighting", "step": 4, "total": 30, "seconds": 9, "values": {"step": NaN}}',
        '{"stage": "reweighting", "step": 4, "total": 30, "seconds": 9, "values": '
        '{"step": 4, "objective": NaN}}',
    ],
)
@pytest.mark.parametrize("page", ["home", "unlearn"])
def test_an_odd_line_of_progress_hides_neither_state_nor_pictures(
    folder: Path, page: str, odd: str
):
    run = working(made(folder, "mine"))
    with (run.path / "progress.jsonl").open("a") as file:
        file.write(odd + "\n")
    app = opened(page, run="mine")
    assert "Stop" in labels(app)
    assert "reweighting" in str([e.proto for e in app.get("html")]) + said(app)
    if page == "unlearn":
        assert len(app.get("plotly_chart")) >= 2


def test_after_a_resume_the_stage_in_hand_stands_last():
    names = ("loading", "steps", "loading", "steps", "loading")
    lines = [Progress(name, 0, 1, float(n), {}) for n, name in enumerate(names)]
    assert list(stages.spent(lines)) == ["steps", "loading"]
    assert list(stages.spent(lines[:4])) == ["loading", "steps"]


def test_a_waiting_run_says_for_which_device_and_run(folder: Path):
    working(made(folder, "first"), device="cpu")
    second = made(folder, "second")
    second.lock.assign(os.getpid(), device="cpu")
    second.write_status("queued")
    app = opened("unlearn", run="second")
    told = " ".join(str(e.proto) for e in app.get("progress")).replace("\\", "")
    assert "waiting for its turn on cpu, which first has" in told


def test_recent_runs_tell_project_and_model_and_are_found_by_it(folder: Path):
    failed(folder, "why", "RunError")
    other = made(folder, "other", "--model.path", "someone/else-1b")
    other.write_status("failed", "why")
    app = opened("home")
    assert "embedded demo › model" in said(app)
    assert "another project › someone/else-1b" in said(app)
    app.text_input("recent_search").set_value("else-1b").run()
    assert [name for name, _ in links(app) if name in ("mine", "other")] == ["other"]


def test_all_settings_stand_in_tabs_whose_help_has_no_markup(folder: Path):
    app = opened("unlearn")
    assert [tab.label for tab in app.tabs][:4] == ["Inner", "Outer", "Objective", "Evaluation"]
    helps = [w.help for w in (*app.number_input, *app.selectbox, *app.text_input) if w.help]
    assert helps
    assert not any("`" in told for told in helps)
