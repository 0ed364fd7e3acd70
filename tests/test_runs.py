"""The run directory: atomic files, derived status, checkpoints, sentences for what goes wrong."""

import errno
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import psutil
import pytest
import torch

from u2a_core.config import Settings
from u2a_core.errors import RunError
from u2a_core.runs import Run, Workspace
from u2a_core.runs.files import write_json
from u2a_core.types import Progress


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path / "run", "reweight", Settings(seed=3))


def test_settings_come_back_as_they_were(run: Run):
    assert Run.open(run.path).settings() == Settings(seed=3)


def test_a_directory_holds_one_run(run: Run):
    run.write_table("gains", pd.DataFrame({"id": ["a"]}))
    with pytest.raises(RunError, match="--resume"):
        Run.create(run.path, "reweight", Settings())


def test_a_run_that_computed_nothing_may_be_begun_again(run: Run):
    run.append_progress(Progress("loading model and data", 1, 1, 0.5))
    run.write_status("failed", "The file of truth must be there.")
    run.lock.assign(os.getpid())
    with pytest.raises(RunError, match="holds a run already"):
        Run.create(run.path, "gains", Settings())  # a process works on it
    run.lock.file.unlink()
    again = Run.create(run.path, "gains", Settings(seed=4))
    assert (again.settings().seed, again.config()["command"]) == (4, "gains")
    assert again.progress() == []
    again.append_progress(Progress("scoring samples", 3, 40, 1.0))
    with pytest.raises(RunError, match="holds a run already"):
        Run.create(run.path, "gains", Settings())


def test_a_folder_of_somebody_elses_is_never_replaced(tmp_path: Path):
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(RunError, match="holds a run already"):
        Run.create(tmp_path, "gains", Settings())
    run = Run.create(tmp_path / "run", "gains", Settings())
    (run.path / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="holds a run already"):
        Run.create(run.path, "gains", Settings())


def test_a_run_of_another_layout_is_refused(run: Run):
    config = run.config() | {"layout": 99}
    (run.path / "config.json").write_text(json.dumps(config))
    with pytest.raises(RunError, match="layout 1; got 99"):
        Run.open(run.path)


def test_a_folder_without_a_run_is_refused(tmp_path: Path):
    with pytest.raises(RunError, match=r"config\.json"):
        Run.open(tmp_path)


def test_a_new_run_is_not_begun_and_a_reported_one_finished(run: Run):
    assert run.status().message == "It was not begun."
    run.write_report({"command": "reweight", "x": 1})
    assert run.status().state == "finished"
    assert run.report()["x"] == 1


def test_a_killed_process_reads_as_failed(run: Run):
    run.write_status("running")
    (run.path / "lock").write_text(json.dumps({"pid": os.getpid(), "started": 0.0}))
    assert run.status().state == "failed"


def test_a_folder_of_runs_that_cannot_be_made_is_told_and_none_is_made(tmp_path: Path):
    Workspace(tmp_path / "a" / "b").check_writable()
    assert not (tmp_path / "a").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"must be writable.*is a file"):
        Workspace(tmp_path / "file" / "runs").check_writable()


def test_a_size_counts_every_file(run: Run):
    before = run.size()
    run.log_file.write_bytes(b"x" * 1000)
    assert run.size() == before + 1000


@pytest.mark.parametrize("content", [b"", b"no tensors", b"\xff" * 64])
def test_a_damaged_checkpoint_tells_no_step(run: Run, content: bytes):
    assert run.checkpoint_step() is None
    (run.path / "checkpoint.safetensors").write_bytes(content)
    assert run.checkpoint_step() is None


def test_a_living_process_reads_as_running_and_keeps_others_out(run: Run):
    with run.lock.held():
        run.write_status("running")
        assert run.status().state == "running"
    run.lock.assign(os.getppid())
    with pytest.raises(RunError, match="another is at work"), run.lock.held():
        pass
    (run.path / "lock").unlink()
    with run.lock.held(), run.lock.held():  # a job's process holds what its launcher assigned
        pass
    assert not (run.path / "lock").exists()


@pytest.mark.skipif(not psutil.LINUX, reason="elsewhere the system keeps the time of a birth")
def test_a_step_of_the_clock_kills_no_run(run: Run, monkeypatch: pytest.MonkeyPatch):
    run.lock.assign(os.getpid(), device="cpu")
    later = psutil.boot_time() + 5
    monkeypatch.setattr("psutil._pslinux.boot_time", lambda: later)
    assert run.lock.alive
    assert run.lock.turn() is not None


def test_only_one_of_two_processes_at_once_works_on_a_run(run: Run):
    code = (
        "import sys, time; from pathlib import Path; from u2a_core.runs.lock import Lock\n"
        "assign = Lock.assign\n"
        "def slow(self, pid, **more):\n"
        "    print('has looked', flush=True); time.sleep(0.5); assign(self, pid, **more)\n"
        "Lock.assign = slow\n"
        "with Lock(Path(sys.argv[1])).held():\n"
        "    sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", code, str(run.lock.file)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(RunError, match="another is at work"), run.lock.held():
            pass
        other.communicate()
    with run.lock.held():
        pass


def test_progress_comes_back_without_the_half_written_line(run: Run):
    progress = Progress("reweighting", 1, 2, 0.5, {"objective": 0.1})
    run.append_progress(progress)
    with (run.path / "progress.jsonl").open("a") as file:
        file.write('{"stage": "rew')
    assert run.progress() == [progress]


@pytest.mark.parametrize(
    "line",
    [
        '{"stage": 5, "step": "x", "total": null, "seconds": "a", "values": 3}',
        '{"stage": "scoring", "step": 1, "total": 2, "seconds": NaN}',
        '{"stage": "scoring", "step": 1, "total": 2, "seconds": 1, "values": {"a": "b"}}',
        "[" * 5000 + "]" * 5000,
        "null",
    ],
)
def test_a_damaged_line_of_progress_is_skipped(run: Run, line: str):
    progress = Progress("reweighting", 1, 2, 0.5, {"objective": float("inf")})
    (run.path / "progress.jsonl").write_text(line + "\n")
    run.append_progress(progress)
    assert run.progress() == [progress]


def test_a_config_nested_without_end_is_unreadable(run: Run):
    (run.path / "config.json").write_text('{"a":' * 50_000 + "1" + "}" * 50_000)
    with pytest.raises(RunError, match="must be readable JSON"):
        Run.open(run.path)
    assert Workspace(run.path.parent).unreadable() == ["run"]


def test_what_no_json_holds_is_null_in_a_report(run: Run):
    run.write_report({"command": "reweight", "low": -math.inf, "n": [math.nan, 1]})
    text = (run.path / "report.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail)["n"] == [None, 1]
    (run.path / "report.json").write_text('{"command": "reweight", "low": -Infinity}')
    assert run.report()["low"] is None  # of an earlier version


def test_tables_come_back_as_they_were(run: Run):
    table = pd.DataFrame({"id": ["a"], "gain": [0.5]})
    run.write_table("gains", table)
    pd.testing.assert_frame_equal(run.table("gains"), table)


def test_a_missing_table_is_named(run: Run):
    with pytest.raises(RunError, match="'curves'"):
        run.table("curves")


def test_a_checkpoint_comes_back_as_it_was(run: Run):
    assert run.checkpoint() is None
    run.save_checkpoint({"theta.w": torch.arange(3.0)}, {"step": 2})
    found = run.checkpoint()
    assert found is not None
    assert found[0]["theta.w"].tolist() == [0, 1, 2]
    assert found[1] == {"step": 2}


def test_a_full_disk_is_a_sentence_and_leaves_the_last_checkpoint(
    run: Run, monkeypatch: pytest.MonkeyPatch
):
    run.save_checkpoint({"w": torch.zeros(2)}, {"step": 1})

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(RunError, match="No space left on device"):
        run.save_checkpoint({"w": torch.ones(2)}, {"step": 2})
    found = run.checkpoint()
    assert found is not None
    assert found[1] == {"step": 1}
    assert sorted(p.name for p in run.path.iterdir()) == ["checkpoint.safetensors", "config.json"]


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (errno.ENOSPC, "Free disk space."),
        (errno.EROFS, "Change its permissions, or use another folder."),
        (errno.ENOTDIR, ""),
    ],
)
def test_what_to_do_about_a_failed_write_is_told_by_its_cause(
    run: Run, code: int, advice: str, monkeypatch: pytest.MonkeyPatch
):
    def fails(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(Path, "write_text", fails)
    told = f"{{}} must be writable; got: {os.strerror(code)}."
    with pytest.raises(RunError) as of_votes:
        write_json(run.path / "votes.json", {})
    assert str(of_votes.value) == f"{told.format(run.path / 'votes.json')} {advice}".strip()
    with pytest.raises(RunError, match="--resume continues from it") as of_run:
        run.write_report({})
    assert ("Free disk space" in str(of_run.value)) == (code == errno.ENOSPC)


def test_a_run_that_cannot_be_written_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(RunError, match="No space left"):
        Run.create(tmp_path / "run", "gains", Settings())
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_no_file_can_have_is_a_sentence(tmp_path: Path):
    with pytest.raises(RunError, match="must be a run directory"):
        Run.open(tmp_path / ("a" * 300))
    with pytest.raises(RunError, match="must be writable"):
        Run.create(tmp_path / ("a" * 300), "gains", Settings())


def test_a_damaged_checkpoint_is_a_sentence(run: Run):
    (run.path / "checkpoint.safetensors").write_bytes(b"broken")
    with pytest.raises(RunError, match="must be a checkpoint"):
        run.checkpoint()


def test_a_config_without_its_settings_is_refused(run: Run):
    config = {name: value for name, value in run.config().items() if name != "settings"}
    (run.path / "config.json").write_text(json.dumps(config))
    with pytest.raises(RunError, match="must hold settings"):
        Run.open(run.path)
