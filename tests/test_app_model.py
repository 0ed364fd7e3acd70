"""The Model page in every state of its check, the token that is nowhere, suggestions applied."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import yaml
from pages import opened
from streamlit.testing.v1 import AppTest

from app import checking
from app.checking import Check, Failure
from u2a_core import jobs
from u2a_core.config import Settings, load_settings
from u2a_core.runs import Workspace, demo_assets

TOKEN = "hf_secretsecretsecret"
GIB = 2**30


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("U2A_RUNS", str(tmp_path / "runs"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    (tmp_path / "runs").mkdir()
    yield tmp_path / "runs"
    for begun in list(checking._running.values()):
        begun.process.kill()
        begun.process.wait()
    checking._running.clear()
    checking._failures.clear()
    for run in Workspace(tmp_path / "runs").runs():
        worker = run.lock.worker()
        if worker is not None:
            worker.kill()


def demo() -> Settings:
    return load_settings(demo_assets() / "demo.yaml")


def estimate(peak: float, free: float) -> dict:
    """As `u2a estimate --json` tells it, in GiB."""
    parts = [
        {"name": "program", "bytes": int(0.5 * GIB), "about": "Python"},
        {"name": "weights", "bytes": int((peak - 0.5) * GIB), "about": "the parameters"},
    ]
    need = {"phase": "a step", "parts": parts, "seconds": [10.0, 40.0]}
    return {
        "model": {
            "path": "m", "parameters": 10**9, "trained": 10**9, "how": "full", "layers": 16,
            "vocabulary": 32000, "dtype": "float32", "longest": 1024,
        },
        "machine": {
            "device": "cpu", "memory": "memory of this machine", "free": int(free * GIB),
            "total": 32 * GIB, "flops": 5e10,
        },
        "needs": [{"command": name, **need} for name in ("gains", "unlearn", "reweight")],
        "suggestions": [
            {
                "title": "Train a LoRA adapter", "changes": {"model.parameters": "lora"},
                "peak": 2 * GIB, "saves": int((peak - 2) * GIB), "price": "the weights stay",
            },
            {
                "title": "Halve the batch", "changes": {"data.tokens_per_batch": 1024},
                "peak": 3 * GIB, "saves": int((peak - 3) * GIB), "price": "slower",
            },
        ] if peak > free else [],
        "assumed": [], "warnings": [], "margin": 0.2,
    }  # fmt: skip


def checked(folder: Path, settings: Settings, peak: float = 4.0, free: float = 20.0) -> Path:
    file = Check(folder, settings).file
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(estimate(peak, free)))
    return file


def own(folder: Path, **model: object) -> Settings:
    """A project of the user's own: the demo's files under another name."""
    raw = demo().model_dump(mode="json")
    raw["model"] |= model
    (folder / ".draft.yaml").write_text(yaml.safe_dump(raw))
    return load_settings(folder / ".draft.yaml")


def words(app: AppTest) -> str:
    kinds = (app.error, app.warning, app.success, app.info, app.markdown, app.caption)
    return " ".join(element.value for kind in kinds for element in kind).replace("\\", "")


def test_before_a_check_one_sentence_and_one_button(folder: Path):
    app = opened("model")
    assert "before anything is loaded" in words(app)
    assert app.button("check").label == "Check"
    assert not app.get("plotly_chart")


def test_without_a_model_it_asks_for_one(folder: Path):
    own(folder, path="")
    app = opened("model")
    assert "Name a model" in words(app)


def test_a_check_at_work_is_shown_as_such_and_begun_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    begun: list[list[str]] = []

    class Sleeping(subprocess.Popen):
        def __init__(self, command: list[str], **options: object):
            begun.append(command)
            super().__init__([sys.executable, "-c", "import time; time.sleep(60)"], **options)

    monkeypatch.setattr(checking.subprocess, "Popen", Sleeping)
    check = Check(folder, demo())
    for _ in range(3):
        check.start({})
    assert len(begun) == 1
    assert begun[0][3] == "estimate"
    app = opened("model")
    assert app.status[0].state == "running"
    assert not [button for button in app.button if button.key == "check"]


@pytest.mark.parametrize(
    ("peak", "free", "said"),
    [(4.0, 20.0, "It fits"), (18.0, 20.0, "It is tight"), (40.0, 20.0, "It does not fit")],
)
def test_the_verdict_names_what_is_needed_and_what_is_free(
    folder: Path, peak: float, free: float, said: str
):
    checked(folder, demo(), peak, free)
    app = opened("model")
    told = words(app)
    assert said in told
    assert f"{peak:.1f} GiB (±20%); 20.0 GiB are free" in told
    (chart,) = app.get("plotly_chart")
    assert len(json.loads(chart.proto.spec)["data"]) == 3  # two parts and the margin
    table = app.dataframe[0].value
    assert list(table["time"]) == ["10–40 s"] * 3
    assert not app.exception


def test_a_card_that_is_not_here_is_not_compared(folder: Path):
    file = checked(folder, demo(), 40.0, 20.0)
    found = json.loads(file.read_text())
    found["machine"] |= {
        "device": "cuda", "memory": "this machine has no cuda", "free": None, "total": None,
        "flops": None,
    }  # fmt: skip
    for need in found["needs"]:
        need["seconds"] = None
    file.write_text(json.dumps(found))
    app = opened("model")
    told = words(app)
    assert "Not compared: this machine has no cuda. Gains needs most, about 40.0 GiB" in told
    assert "then 2.0 GiB, not compared" in told
    assert list(app.dataframe[0].value["time"]) == ["not known"] * 3
    assert len(app.get("plotly_chart")) == 1
    assert not app.exception


def test_a_suggestion_is_applied_to_the_draft_the_form_and_checked(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    started: list[Settings] = []
    monkeypatch.setattr(Check, "start", lambda self, env: started.append(self.settings))
    settings = own(folder)
    checked(folder, settings, 40.0, 20.0)
    app = opened("model")
    app.button("apply_0").click().run()
    kept = load_settings(folder / ".draft.yaml")
    assert kept.model.parameters == "lora"
    assert started == [kept]
    assert app.selectbox("own_model_parameters").value == "lora"
    assert "have changed since this estimate" in words(app)  # the one of before is labelled


def test_a_reward_model_on_another_device_has_a_line_of_its_own(folder: Path):
    file = checked(folder, demo(), 4.0, 20.0)
    found = json.loads(file.read_text())
    machine = found["machine"] | {"device": "cuda:1", "free": 2 * GIB}
    parts = [{"name": "reward model", "bytes": 3 * GIB, "about": "its parameters"}]
    file.write_text(json.dumps(found | {"beside": {"machine": machine, "parts": parts}}))
    app = opened("model")
    told = next(element.value for element in app.error if "reward model" in element.value)
    assert "cuda:1" in told
    assert "3.0 GiB" in told
    assert "too large" in told


def test_the_demo_is_shown_and_cannot_be_changed(folder: Path):
    checked(folder, demo(), 40.0, 20.0)
    app = opened("model")
    assert "saves 38.0 GiB" in words(app)
    assert not [b for b in app.button if b.label in ("Apply", "Check and save")]


def test_an_estimate_of_other_settings_is_labelled(folder: Path):
    checked(folder, own(folder))
    app = opened("model")
    assert "It fits" in words(app)
    own(folder, max_length=48)
    app.run()
    assert "have changed since this estimate: check again" in words(app)
    assert "It fits" in words(app)


def test_a_changed_file_makes_it_stale(folder: Path, tmp_path: Path):
    mine = tmp_path / "mine.jsonl"
    mine.write_text((demo_assets() / "data" / "negatives.jsonl").read_text())
    raw = demo().model_dump(mode="json")
    raw["data"] |= {"negatives": str(mine)}
    settings = Settings.model_validate(raw)
    before = Check(folder, settings).name
    mine.write_text(mine.read_text() + "\n")
    assert Check(folder, settings).name != before


def test_a_damaged_estimate_is_as_none(folder: Path):
    checked(folder, demo()).write_text('{"needs": 5}')
    app = opened("model")
    assert app.button("check").label == "Check"


def test_401_asks_for_a_token(folder: Path):
    check = Check(folder, demo())
    checking._failures[check.file] = Failure("m must be read with a token; 401.", "TokenError")
    app = opened("model")
    assert "must be read with a token" in app.error[0].value
    assert next(e for e in app.expander if "gated" in e.label).proto.expanded
    assert (
        app.text_input("hub_token_field").proto.type
        == app.text_input("hub_token_field").proto.PASSWORD
    )


def test_403_leads_to_the_terms(folder: Path):
    check = Check(folder, demo())
    said = "o/m must be opened to you. Open https://huggingface.co/o/m with your account."
    checking._failures[check.file] = Failure(said, "AccessError")
    app = opened("model")
    (link,) = app.get("link_button")
    assert link.proto.url == "https://huggingface.co/o/m"


@pytest.mark.parametrize(
    ("code", "said", "log", "told"),
    [
        (2, '{"error": "The model must be whole.", "kind": "ModelError"}', "", "must be whole"),
        (1, "", "line\nValueError: odd", "ValueError: odd"),
        (-9, "", "", "it was killed, perhaps because"),
        (0, "no json", "", "ended without a word"),
    ],
)
def test_whatever_ends_a_check_is_a_sentence(
    folder: Path, code: int, said: str, log: str, told: str
):
    file = Check(folder, demo()).file
    file.parent.mkdir(parents=True)
    file.with_suffix(".part").write_text(said)
    file.with_suffix(".log").write_text(log)
    checking._take(file, code)
    assert told in checking._failures[file].message
    assert list(file.parent.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_told(folder: Path):
    (folder / ".estimates").write_text("a file")
    app = opened("model")
    app.button("check").click().run()
    assert "must be writable" in words(app)


def test_a_token_is_kept_in_memory_and_forgotten_when_asked(folder: Path):
    app = opened("model")
    app.text_input("hub_token_field").set_value(TOKEN).run()
    assert "A token was entered" in words(app)
    assert app.session_state["_hub_token"] == TOKEN
    assert TOKEN not in str(app.query_params)
    next(b for b in app.button if b.label == "Forget").click().run()
    assert "_hub_token" not in app.session_state


def test_a_job_finds_the_token_in_its_environment_and_no_file_holds_it(folder: Path):
    run = jobs.launch(folder, "reweight", demo(), env={"HF_TOKEN": TOKEN})
    worker = run.lock.worker()
    assert worker is not None
    assert worker.environ()["HF_TOKEN"] == TOKEN
    assert TOKEN not in " ".join(worker.cmdline())
    jobs.stop(run)
    worker.wait(60)
    jobs.begin(run, env={"HF_TOKEN": TOKEN})
    again = run.lock.worker()
    assert again is not None
    assert again.environ()["HF_TOKEN"] == TOKEN
    again.kill()
    psutil.wait_procs([again], 20)
    assert holding(folder, TOKEN) == []
    assert os.environ.get("HF_TOKEN") is None


def holding(folder: Path, words: str) -> list[Path]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    return [path for path in files if words.encode() in path.read_bytes()]


def test_a_check_finds_the_token_and_leaves_it_nowhere(folder: Path):
    check = Check(folder, demo())
    check.start({"HF_TOKEN": TOKEN})
    process = psutil.Process(checking._running[check.file].process.pid)
    until = time.monotonic() + 10
    while not process.environ() and time.monotonic() < until:  # it is between fork and exec
        time.sleep(0.01)
    assert process.environ()["HF_TOKEN"] == TOKEN
    assert holding(folder, TOKEN) == []
    while check.state() == "running":
        time.sleep(0.1)
    assert check.state() == "done"
    assert holding(folder, TOKEN) == []
    found = check.result()
    assert found is not None
    assert found.largest.peak < 2**30


def test_nothing_is_called_complete_before_the_check_has_found_it_so(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    settings = own(folder, path=str(demo_assets() / "model"))
    monkeypatch.setattr(Check, "start", lambda check, env: None)
    app = opened("model")
    for state, told in (
        ("running", "the model is being checked"),
        ("failed", "the check of the model has found wrong"),
        ("done", "nothing is missing"),
    ):
        monkeypatch.setattr(Check, "state", lambda check, state=state: state)
        if state == "done":
            checked(folder, settings)
        next(b for b in app.button if b.label == "Check and save").click().run()
        assert not app.exception
        assert told in words(app), state
        assert ("nothing is missing" in words(app)) == (state == "done")


def test_where_to_go_next_is_there_on_a_later_visit(folder: Path):
    checked(folder, own(folder, path=str(demo_assets() / "model")))
    assert "nothing is missing" in words(opened("model"))


def test_how_a_reward_model_reads_is_set_on_the_page(folder: Path, monkeypatch: pytest.MonkeyPatch):
    own(folder, path=str(demo_assets() / "model"))
    monkeypatch.setattr(Check, "start", lambda check, env: None)
    app = opened("model")
    next(t for t in app.text_input if t.label == "Reward template").input("pair")
    next(n for n in app.number_input if n.label == "Logit of the reward").set_value(1)
    next(b for b in app.button if b.label == "Check and save").click().run()
    saved = load_settings(folder / ".draft.yaml").objective
    assert (saved.reward_template, saved.reward_logit) == ("pair", 1)


def test_a_kind_of_objective_that_the_form_has_not_stays(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    raw = own(folder, path=str(demo_assets() / "model")).model_dump(mode="json")
    raw["objective"]["kind"] = "candidates"
    (folder / ".draft.yaml").write_text(yaml.safe_dump(raw))
    monkeypatch.setattr(Check, "start", lambda check, env: None)
    app = opened("model")
    next(b for b in app.button if b.label == "Check and save").click().run()
    assert load_settings(folder / ".draft.yaml").objective.kind == "candidates"
