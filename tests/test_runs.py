"""The run directory: atomic files, derived status, checkpoints, sentences for what goes wrong."""

import json
import os
from pathlib import Path

import pandas as pd
import pytest
import torch

from u2a_core.config import Settings
from u2a_core.errors import RunError
from u2a_core.runs import Run, Workspace
from u2a_core.types import Progress


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path / "run", "reweight", Settings(seed=3))


def test_settings_come_back_as_they_were(run: Run):
    assert Run.open(run.path).settings() == Settings(seed=3)


def test_a_directory_holds_one_run(run: Run):
    with pytest.raises(RunError, match="--resume"):
        Run.create(run.path, "reweight", Settings())


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


def test_progress_comes_back_without_the_half_written_line(run: Run):
    progress = Progress("reweighting", 1, 2, 0.5, {"objective": 0.1})
    run.append_progress(progress)
    with (run.path / "progress.jsonl").open("a") as file:
        file.write('{"stage": "rew')
    assert run.progress() == [progress]


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


def test_a_damaged_checkpoint_is_a_sentence(run: Run):
    (run.path / "checkpoint.safetensors").write_bytes(b"broken")
    with pytest.raises(RunError, match="must be a checkpoint"):
        run.checkpoint()


def test_a_config_without_its_settings_is_refused(run: Run):
    config = {name: value for name, value in run.config().items() if name != "settings"}
    (run.path / "config.json").write_text(json.dumps(config))
    with pytest.raises(RunError, match="must hold settings"):
        Run.open(run.path)
