"""A prompt tried on two models: streamed replies, the device given back, ends that lose nothing."""

import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from workbench import finished_run

from u2a_core import jobs
from u2a_core.config import load_settings
from u2a_core.errors import ConfigError, RunError
from u2a_core.models import load_policy, save_policy
from u2a_core.models.streaming import stream_reply
from u2a_core.runs import Run, demo_assets
from u2a_core.tryout import Desk, Side, Try, launch
from u2a_core.tryout.worker import Worker

SIDES = (Side("original", "mine", original=True), Side("mine", "mine", original=False))
PROMPT = "How do I save money?"


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    (tmp_path / "runs").mkdir()
    made = Desk(tmp_path / "runs")
    finished_run(made.runs, "mine", model=True)
    yield made
    worker = made.lock.worker()
    if worker is not None:
        worker.kill()


def ask(desk: Desk, *, sides: tuple[Side, ...] = SIDES, **more: float) -> Try:
    asked = {"temperature": 1.0, "seed": 0, "max_new_tokens": 30} | more
    return desk.ask(PROMPT, sides, **asked)


def until(claim: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not claim():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.02)


def answered(desk: Desk) -> None:
    """Everything that was asked, in this process."""
    Worker(desk, idle_s=0.0).work()


def test_a_reply_is_streamed_and_depends_on_the_seed_alone():
    policy = load_policy(load_settings(demo_assets() / "demo.yaml").model)

    def reply(seed: int, temperature: float = 1.0, tokens: int = 30) -> tuple[str, str, list[str]]:
        told: list[str] = []
        text, ended = stream_reply(
            policy, PROMPT, max_new_tokens=tokens, temperature=temperature, seed=seed,
            told=told.append, stopping=lambda: False,
        )  # fmt: skip
        return text, ended, told

    text, ended, told = reply(1)
    assert ended == "stop"
    assert told[-1] == text
    assert text.startswith(told[0])
    assert reply(1)[0] == text
    assert len({reply(seed)[0] for seed in range(6)}) > 1
    assert reply(1, temperature=0.0)[0] == reply(2, temperature=0.0)[0]
    assert reply(1, tokens=2)[1] == "length"
    with pytest.raises(ConfigError, match="must fit the model's context"):
        reply(1, tokens=10_000)


def test_both_sides_reply_and_the_same_model_replies_the_same(desk: Desk):
    asked = ask(desk)
    answered(desk)
    found = desk.outcome(asked)
    assert found.done
    assert found.note == ""
    assert found.replies[0] == found.replies[1]  # the run's model is the original here
    assert found.replies[0].ended == "stop"
    assert len(found.replies[0].text) > 5
    assert not desk.lock.file.exists()


def test_a_side_without_its_model_is_a_sentence_and_the_other_replies(desk: Desk):
    shutil.rmtree(desk.runs / "mine" / "model")
    asked = ask(desk)
    gone = ask(desk, sides=(Side("lost", "nowhere", original=False),))
    answered(desk)
    first, second = desk.outcome(asked).replies
    assert first.text
    assert "must have kept its model" in second.error
    assert "must be one of this workspace" in desk.outcome(gone).replies[0].error


def test_a_fine_tuned_side_replies_with_its_adapter_on_the_base_it_was_trained_on(desk: Desk):
    """The adapter is a fresh one, which changes nothing: the base itself must answer."""
    from transformers import AutoModelForCausalLM

    settings = load_settings(demo_assets() / "demo.yaml")
    base = AutoModelForCausalLM.from_pretrained(settings.model.path)
    base.lm_head.weight.data.neg_()
    base.save_pretrained(desk.runs.parent / "base")
    own = {"method": "retrain", "base": str(desk.runs.parent / "base")}
    model = settings.model.model_copy(update={"parameters": "lora"})
    parts = {"model": model, "baseline": settings.baseline.model_copy(update=own)}
    run = Run.create(desk.runs / "tuned", "baseline", settings.model_copy(update=parts))
    save_policy(load_policy(model), run.model_folder, provenance={})
    loaded = Worker(desk)._model(Side("tuned", "tuned", original=False))[2]()
    ids = torch.arange(8)[None]
    with torch.no_grad():
        torch.testing.assert_close(loaded.model(ids).logits, base.eval()(ids).logits)


def test_an_empty_prompt_is_refused_and_damaged_requests_hide_no_other(desk: Desk):
    with pytest.raises(RunError, match="must have a word"):
        desk.ask(" \n", SIDES, temperature=1.0, seed=0, max_new_tokens=4)
    asked = ask(desk)
    (desk.folder / "0.json").write_text("{")
    (desk.folder / "1.json").write_text('{"sides": [], "odd": 1}')
    odd = json.loads((desk.folder / f"{asked.id}.json").read_text()) | {"prompt": 5}
    (desk.folder / "2.json").write_text(json.dumps(odd))
    answered(desk)
    assert desk.tries() == [asked]
    assert desk.outcome(asked).done


def test_a_try_that_was_cut_off_is_told_and_the_next_is_answered(desk: Desk):
    cut = ask(desk)
    desk.write(cut, note="original writes")
    desk.write(cut, side=0, text="I am")
    assert desk.outcome(cut).done  # no process is alive
    later = ask(desk)
    answered(desk)
    assert "cut off" in desk.outcome(cut).note
    assert desk.outcome(cut).replies[0].text == "I am"
    assert desk.outcome(later).replies[1].ended == "stop"


def test_old_tries_are_forgotten(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("u2a_core.tryout.desk._KEPT", 3)
    asked = [ask(desk) for _ in range(6)]
    assert desk.tries()[:3] == asked[:2:-1]
    assert len(desk.tries()) <= 4


@pytest.fixture
def waiting_job(desk: Desk) -> Callable[[], None]:
    """Puts a job into the queue, or ends it."""
    run = finished_run(desk.runs, "waits", model=False)
    (run.path / "report.json").unlink()
    run.lock.assign(os.getpid())

    def switch(state: str) -> None:
        run.write_status(state)

    return switch


def test_the_device_is_given_to_a_job_that_queues_and_the_reply_begins_anew(
    desk: Desk, waiting_job: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("u2a_core.tryout.worker._LOOK_S", 0.0)
    worker = Worker(desk, idle_s=0.0)
    asked = ask(desk)
    seen: list[str] = []

    def write(what: Try, write=desk.write, **line: object) -> None:
        seen.append(str(line.get("note", "")))
        if line.get("text") and "waits for cpu" not in " ".join(seen):
            waiting_job("queued")
        write(what, **line)

    monkeypatch.setattr(Desk, "write", lambda _, what, **line: write(what, **line))
    thread = threading.Thread(target=worker.work)
    thread.start()
    until(lambda: "waits for cpu" in " ".join(seen))
    assert worker._policies == {}
    assert worker._held == {}
    waiting_job("running")
    thread.join(30)
    monkeypatch.undo()
    assert seen.count("loading original") == 2
    assert [reply.ended for reply in desk.outcome(asked).replies] == ["stop", "stop"]


def test_the_process_is_launched_once_stops_a_reply_and_frees_the_device(desk: Desk):
    first = ask(desk, max_new_tokens=60, temperature=50.0)  # noise: it does not end by itself
    for _ in range(3):
        launch(desk)
    worker = desk.lock.worker()
    until(lambda: desk.outcome(first).replies[0].text or desk.outcome(first).done)
    desk.stop(first)
    until(lambda: desk.outcome(first).done)
    assert desk.lock.worker() == worker
    job = jobs.launch(desk.runs, "gains", load_settings(demo_assets() / "demo.yaml"))
    until(lambda: job.status().state == "running")
    until(lambda: not desk.lock.alive)  # nothing was left to answer
    jobs.stop(job)
    until(lambda: not job.lock.alive)


def test_a_killed_process_is_told(desk: Desk):
    asked = ask(desk, max_new_tokens=60, temperature=50.0)
    launch(desk)
    until(lambda: desk.begun(asked))
    desk.lock.worker().kill()
    until(lambda: desk.outcome(asked).done)
    assert "ended" in desk.outcome(asked).note or desk.outcome(asked).replies[1].ended
