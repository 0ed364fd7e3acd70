"""Jobs: detached processes that are launched once, take turns, stop, resume and are told dead."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from u2a_core import jobs
from u2a_core.commands import Stopped, Watch, execute
from u2a_core.config import Settings, load_settings
from u2a_core.errors import ModelError, RunError
from u2a_core.runs import ENDED_FROM_OUTSIDE, Run, Workspace


@pytest.fixture
def settings(scenario: Path) -> Settings:
    return load_settings(scenario)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "runs"
    for run in Workspace(tmp_path / "runs").runs():
        worker = run.lock.worker()
        if worker is not None:
            worker.kill()


def until(claim: Callable[[], object], seconds: float = 180) -> None:
    end = time.monotonic() + seconds
    while not claim():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.02)


def longer(settings: Settings) -> Settings:
    return settings.model_copy(update={"inner": settings.inner.model_copy(update={"steps": 500})})


def steps(run: Run) -> int:
    return max((p.step for p in run.progress() if p.stage == "reweighting"), default=0)


def test_a_job_runs_to_its_report_and_tells_its_log(folder: Path, settings: Settings):
    run = jobs.launch(folder, "gains", settings)
    assert run.status().state in jobs.ACTIVE
    until(lambda: run.status().state not in jobs.ACTIVE)
    assert run.status().state == "finished", run.log_tail()
    assert len(run.table("gains")) == 40
    assert "scoring samples 40/40" in run.log_tail()


def test_clicks_at_once_are_one_job(folder: Path, settings: Settings):
    found: list[Path] = []
    clicks = [
        threading.Thread(target=lambda: found.append(jobs.launch(folder, "gains", settings).path))
        for _ in range(3)
    ]
    for click in clicks:
        click.start()
    for click in clicks:
        click.join()
    assert len(set(found)) == 1
    assert len(Workspace(folder).runs()) == 1


def test_other_settings_are_another_job_which_waits_its_turn(folder: Path, settings: Settings):
    first = jobs.launch(folder, "reweight", longer(settings))
    until(lambda: steps(first) >= 1)
    second = jobs.launch(folder, "gains", settings)
    assert second.path != first.path
    until(lambda: "another job holds" in second.status().message)
    assert second.status().state == "queued"
    jobs.stop(first)
    until(lambda: second.status().state == "finished")
    assert first.status().state == "stopped"


def test_a_stopped_job_resumes_to_the_uninterrupted_result(folder: Path, settings: Settings):
    run = jobs.launch(folder, "reweight", settings)
    until(lambda: steps(run) >= 2)
    jobs.stop(run)
    until(lambda: run.status().state == "stopped", 20)
    with pytest.raises(RunError, match="finished"):
        run.report()
    jobs.begin(run)
    until(lambda: run.status().state == "finished")
    whole = jobs.launch(folder / "other", "reweight", settings)
    until(lambda: whole.status().state == "finished")
    pd.testing.assert_frame_equal(run.table("weights"), whole.table("weights"), check_exact=True)


def test_a_job_whose_files_changed_is_not_resumed(folder: Path, scenario: Path, tmp_path: Path):
    shutil.copytree(scenario.parent, tmp_path / "own")
    run = jobs.launch(folder, "reweight", load_settings(tmp_path / "own" / scenario.name))
    until(lambda: steps(run) >= 1)
    jobs.stop(run)
    until(lambda: run.status().state == "stopped", 20)
    pairs = tmp_path / "own" / "data" / "preferences.jsonl"
    pairs.write_text("".join(pairs.read_text().splitlines(keepends=True)[1:]))
    jobs.begin(run)
    until(lambda: run.status().state == "failed")
    assert "data.preferences" in run.status().message
    assert run.checkpoint() is not None


def test_two_resumes_at_once_are_one(folder: Path, settings: Settings):
    run = jobs.launch(folder, "reweight", settings)
    until(lambda: steps(run) >= 1)
    jobs.stop(run)
    until(lambda: run.status().state == "stopped" and not run.lock.alive, 20)
    told: list[str] = []

    def resume() -> None:
        try:
            jobs.begin(run)
        except RunError as error:
            told.append(str(error))

    clicks = [threading.Thread(target=resume) for _ in range(3)]
    for click in clicks:
        click.start()
    for click in clicks:
        click.join()
    assert len(told) == 2
    assert all("must be at rest" in sentence for sentence in told)
    until(lambda: run.status().state == "finished")


def test_a_second_process_does_not_disturb_the_first(folder: Path, settings: Settings):
    run = jobs.launch(folder, "reweight", longer(settings))
    until(lambda: steps(run) >= 1)
    command = [sys.executable, "-m", "u2a_core.cli", "reweight", "--run", run.path]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 2
    assert "another is at work" in done.stderr
    assert run.status().state == "running"
    jobs.stop(run)
    until(lambda: run.status().state == "stopped")


def test_a_run_deleted_under_its_job_leaves_nothing(folder: Path, settings: Settings):
    run = jobs.launch(folder, "reweight", longer(settings))
    until(lambda: steps(run) >= 1)
    worker = run.lock.worker()
    assert worker is not None

    def deleted() -> bool:  # a file that is written meanwhile can keep one try from ending
        shutil.rmtree(run.path, ignore_errors=True)
        return not run.path.exists()

    until(deleted)
    until(lambda: not worker.is_running())
    assert not run.path.exists()


def test_a_clock_that_was_wrong_does_not_hold_back_a_launch(folder: Path, settings: Settings):
    run = jobs.launch(folder, "gains", settings)
    until(lambda: run.status().state == "finished")
    later = time.time() + 9999
    os.utime(run.path / "config.json", (later, later))
    again = jobs.launch(folder, "gains", settings)
    assert again.path != run.path
    jobs.stop(again)


def test_a_killed_job_is_told_within_two_seconds(folder: Path, settings: Settings):
    run = jobs.launch(folder, "reweight", settings)
    until(lambda: run.checkpoint_step() is not None)
    worker = run.lock.worker()
    assert worker is not None
    os.kill(worker.pid, signal.SIGKILL)
    until(lambda: run.status().state == "failed", 2)
    assert "was ended from outside" in run.status().message
    assert "Resume" in run.status().message
    assert run.status().kind == ENDED_FROM_OUTSIDE
    step = run.checkpoint_step()
    assert step is not None
    assert step <= steps(run)


def test_jobs_take_the_device_in_the_order_in_which_they_joined(tmp_path: Path):
    held, waits, last, elsewhere = (
        Run.create(tmp_path / name, "gains", Settings()) for name in ("d", "c", "a", "b")
    )
    for run in (held, waits, last):
        run.lock.assign(os.getpid(), device="cpu")
    elsewhere.lock.assign(os.getpid(), device="cuda:0")
    assert jobs.ahead(held) == jobs.ahead(elsewhere) == []
    assert jobs.ahead(waits) == [held]
    assert jobs.ahead(last) == [waits, held]
    waits.lock.file.unlink()  # it was cancelled
    assert jobs.ahead(last) == [held]
    assert jobs.ahead(waits) == []


def test_a_dead_process_keeps_nobody_waiting(tmp_path: Path):
    dead, waits = (Run.create(tmp_path / name, "gains", Settings()) for name in ("a", "b"))
    process = subprocess.Popen(["true"])
    dead.lock.assign(process.pid, device="cpu")
    process.wait()
    waits.lock.assign(os.getpid(), device="cpu")
    assert jobs.ahead(waits) == []


def test_a_turn_is_kept_while_the_job_is_at_work(tmp_path: Path):
    run = Run.create(tmp_path / "a", "gains", Settings())
    with run.lock.held(), jobs.turn(run, "cpu", lambda: False) as mine, run.lock.held():
        assert mine
        turn = run.lock.turn()
        assert turn is not None
        assert turn[0] == "cpu"
    assert run.lock.turn() is None


def test_a_device_that_is_not_there_is_told_with_its_kind(folder: Path, settings: Settings):
    model = settings.model.model_copy(update={"device": "cuda:7"})
    run = jobs.launch(folder, "gains", settings.model_copy(update={"model": model}))
    until(lambda: run.status().state == "failed")
    assert "must be a device of this machine" in run.status().message
    assert run.status().kind == "ConfigError"


def test_a_job_stopped_before_its_process_listens_is_stopped(folder: Path, settings: Settings):
    run = jobs.launch(folder, "reweight", settings)
    jobs.stop(run)
    until(lambda: run.status().state == "stopped", 20)


def full(*_: object, **__: object) -> None:
    raise RunError("status.json must be writable; got: No space left on device.")


def test_a_queued_job_is_cancelled_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run = Run.create(tmp_path / "run", "gains", Settings())
    run.write_status("queued")
    with subprocess.Popen(["sleep", "60"]) as process:
        run.lock.assign(process.pid)
        monkeypatch.setattr(Run, "write_status", full)
        jobs.stop(run)
        assert process.wait(10) == -signal.SIGTERM


def test_a_stop_on_a_full_disk_ends_at_the_next_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run = Run.create(tmp_path / "run", "gains", Settings())
    monkeypatch.setattr(Run, "write_status", full)
    asked = []

    def body(stopping: Callable[[], bool]) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        asked.append(stopping())
        raise Stopped("at step 3")

    assert jobs.until_stopped(run, body) is None
    assert asked == [True]


def test_a_launch_on_a_full_disk_leaves_nothing(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(Run, "write_status", full)
    with pytest.raises(RunError, match="No space left"):
        jobs.launch(tmp_path / "runs", "gains", settings)
    assert Workspace(tmp_path / "runs").runs() == []
    assert [path.name for path in (tmp_path / "runs").glob("[!.]*")] == []


def test_a_full_disk_does_not_hide_why_a_command_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run = Run.create(tmp_path / "run", "gains", Settings())

    def command(*_: object) -> dict[str, Any]:
        monkeypatch.setattr(Run, "write_status", full)
        raise ModelError("The model must be there.")

    with pytest.raises(ModelError, match="must be there"):
        execute(run, Watch(run), command)


def test_a_job_outlives_the_process_that_launched_it(folder: Path, scenario: Path):
    code = (
        "import sys; from pathlib import Path; from u2a_core import jobs; "
        "from u2a_core.config import load_settings; "
        "jobs.launch(Path(sys.argv[2]), 'gains', load_settings(Path(sys.argv[1])))"
    )
    subprocess.run([sys.executable, "-c", code, str(scenario), str(folder)], check=True)
    (run,) = Workspace(folder).runs()
    until(lambda: run.status().state not in jobs.ACTIVE)
    assert run.status().state == "finished"


def test_a_job_that_fails_says_why(folder: Path, settings: Settings):
    broken = settings.model_copy(
        update={"objective": settings.objective.model_copy(update={"reward": "math:nothing"})}
    )
    run = jobs.launch(folder, "gains", broken)
    until(lambda: run.status().state == "failed")
    assert "has no attribute 'nothing'" in run.status().message
    until(lambda: "has no attribute 'nothing'" in run.log_tail())  # the state is told first


def test_a_living_job_is_not_deleted_nor_begun_again(folder: Path, settings: Settings):
    run = jobs.launch(folder, "gains", settings)
    with pytest.raises(RunError, match="Stop it first"):
        run.delete()
    with pytest.raises(RunError, match="must be at rest"):
        jobs.begin(run)
    jobs.stop(run)
    until(lambda: not run.lock.alive)
    run.delete()
    assert not run.path.exists()


def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path: Path, settings: Settings):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="must be writable"):
        jobs.launch(tmp_path / "file" / "runs", "gains", settings)


@pytest.mark.parametrize("identity", ["", "..", "../other", "nowhere", "/etc", "a/../../x"])
def test_an_id_finds_nothing_outside_its_workspace(tmp_path: Path, identity: str):
    Run.create(tmp_path / "other", "gains", Settings())
    (tmp_path / "runs").mkdir()
    with pytest.raises(RunError, match="one of this workspace"):
        Workspace(tmp_path / "runs").find(identity)
