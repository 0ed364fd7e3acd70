"""`u2a evaluate` with replies from a server: what is asked, what fails, what stays local."""

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from endpoints import Fake, Reply, endpoint, ok
from evaluations import changed, evaluated

from u2a_core import commands, evaluation, jobs, table
from u2a_core.config import Settings, load_settings
from u2a_core.errors import ConfigError, ModelError
from u2a_core.export.folder import evaluations
from u2a_core.reproduce import reproduction_settings
from u2a_core.runs import Run


def said(body: dict[str, Any]) -> str:
    """A reply that tells what was asked and with which seed."""
    return f"I can help with {body['messages'][-1]['content']} {body['seed']}"


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[Fake]:
    monkeypatch.setenv("U2A_ENDPOINT_KEY", "sk-secret-key")
    monkeypatch.setattr("u2a_core.judges.endpoint.Endpoint.backoff", 0.01)
    with endpoint(lambda body, number: ok(f" {said(body)} ")) as made:
        yield made


@pytest.fixture
def settings(fake: Fake, scenario: Path, tmp_path: Path) -> Settings:
    """Three test prompts and two harmful ones, asked of the server."""
    found = load_settings(scenario)
    for name, source, size in (
        ("prompts", found.data.prompts, 3),
        ("harmful", str(scenario.parent / "data" / "harmful.jsonl"), 2),
    ):
        lines = Path(source).read_text(encoding="utf-8").splitlines()[:size]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    own = {"endpoint": fake.address, "endpoint_model": "org/served", "endpoint_timeout": 5.0}
    own |= {"harmful": str(tmp_path / "harmful.jsonl")}
    own |= dict.fromkeys(("benign", "questions", "outsiders", "judge", "encoder"), "")
    data = found.data.model_copy(update={"prompts": str(tmp_path / "prompts.jsonl")})
    return changed(found.model_copy(update={"data": data}), **own)


def test_the_server_replies_and_the_local_model_gives_the_likelihoods(
    fake: Fake, settings: Settings, tmp_path: Path
):
    run = evaluated(tmp_path / "served", settings)
    asked, replies = fake.bodies, run.table("generations")
    assert len(asked) == len(replies) == 10
    assert sorted(replies["reply"]) == sorted(map(said, asked))
    own = settings.objective
    for body in asked:
        sent = {key: body[key] for key in ("model", "temperature", "top_p", "max_tokens")}
        assert sent == {"model": "org/served", "temperature": own.temperature, "top_p": 1,
                        "max_tokens": own.max_new_tokens}  # fmt: skip
    assert all(row.prompt in row.reply for row in replies.itertuples())
    draws = replies[["prompt", "sample"]].drop_duplicates()  # a prompt may be in both sets
    assert len({body["seed"] for body in asked}) == len(draws) >= 8
    local = evaluated(tmp_path / "local", changed(settings, endpoint="")).report()["metrics"]
    found = run.report()["metrics"]
    assert found["retain_nll"] == local["retain_nll"]
    assert found["perplexity"]["mean"] != local["perplexity"]["mean"]
    assert found["reply_words"]["mean"] > 5


def test_the_report_names_the_endpoint_and_its_model_and_never_the_key(
    fake: Fake, settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    from u2a_core import report

    run = evaluated(tmp_path / "served", settings)
    facts = run.report()
    source = f"{fake.address}/chat/completions org/served"
    asked = {"source": source, "requests": 10, "tokens": {"in": 1000, "out": 100}}
    assert (facts["target"], facts["endpoint"]) == ("org/served", asked)
    assert any(f"The replies are those of {source}" in note for note in facts["notes"])
    report.show(run)
    told = " ".join(capsys.readouterr().out.split())
    assert "Metrics of org/served" in told
    assert "org/served: 10 requests" in told
    assert fake.headers[0]["Authorization"] == "Bearer sk-secret-key"
    assert not any(
        b"secret-key" in file.read_bytes() for file in run.path.rglob("*") if file.is_file()
    )


def test_a_prompt_has_the_same_seeds_in_every_run(fake: Fake, settings: Settings, tmp_path: Path):
    one = evaluated(tmp_path / "one", settings).table("generations")
    alone = changed(settings, endpoint_parallel=1, harmful="", samples=3)
    more = evaluated(tmp_path / "two", alone).table("generations")
    both = one.merge(more, on=["set", "prompt_index", "sample"])
    assert len(both) == 6
    assert (both["reply_x"] == both["reply_y"]).all()
    other = settings.model_copy(update={"seed": 1})
    assert not set(one["reply"]) & set(
        evaluated(tmp_path / "c", other).table("generations")["reply"]
    )


def test_failed_replies_end_the_run_with_a_sentence_and_a_resume_asks_for_them_alone(
    fake: Fake, settings: Settings, tmp_path: Path
):
    whole = evaluated(tmp_path / "whole", settings)
    first = whole.table("generations")["prompt"][0]
    script, fake.script = fake.script, _broken(fake.script, first)
    sent = len(fake.bodies)
    with pytest.raises(ModelError, match=r"Each of 6 replies must come from .*; 2 failed") as told:
        evaluated(tmp_path / "run", settings)
    assert "(status 500: 2), and 4 are there and kept" in str(told.value)
    assert "--resume" in str(told.value)
    run = Run(tmp_path / "run")
    assert run.status().state == "failed"
    assert not run.finished
    assert len(run.table("generations")) == 4
    assert len(fake.bodies) - sent == 4 + 2 * 4  # four tries of each that failed
    fake.script, sent = script, len(fake.bodies)
    evaluated(run.path, settings)
    assert len(fake.bodies) - sent == 2 + 4
    for name in ("generations", "metrics", "scores"):
        pd.testing.assert_frame_equal(run.table(name), whole.table(name))


def _broken(
    script: Callable[[dict[str, Any], int], Reply], prompt: str
) -> Callable[[dict[str, Any], int], Reply]:
    """As before, but for one prompt."""

    def answer(body: dict[str, Any], number: int) -> Reply:
        return (500, "", {}) if body["messages"][-1]["content"] == prompt else script(body, number)

    return answer


def test_a_server_that_fails_at_everything_is_not_asked_to_the_end(
    fake: Fake, settings: Settings, tmp_path: Path
):
    fake.script = lambda body, number: (400, "", {})
    with pytest.raises(ModelError, match=r"\(status 400: 1\d\), and 0 are there"):
        evaluated(tmp_path / "run", changed(settings, samples=40, endpoint_parallel=2))
    assert 10 <= len(fake.bodies) < 20
    assert all("seed" in body and "temperature" in body for body in fake.bodies)
    assert not Run(tmp_path / "run").has_table("generations")


def test_asking_that_is_stopped_keeps_what_has_come(fake: Fake, settings: Settings, tmp_path: Path):
    third = threading.Event()

    def script(body: dict[str, Any], number: int) -> Reply:
        if number == 3:
            third.set()
        return ok(said(body))

    fake.script = script
    one = changed(settings, endpoint_parallel=1)
    with pytest.raises(commands.Stopped, match="in asking org/served: test"):
        evaluated(tmp_path / "run", one, stopping=third.is_set)
    run = Run(tmp_path / "run")
    kept, sent = len(run.table("generations")), len(fake.bodies)
    assert 3 <= kept <= sent <= 6
    evaluated(run.path, one)
    assert len(fake.bodies) - sent == 10 - kept


def test_without_a_local_model_what_needs_none_is_measured(
    fake: Fake, settings: Settings, tmp_path: Path
):
    none = settings.model_copy(update={"model": settings.model.model_copy(update={"path": ""})})
    found = evaluated(tmp_path / "run", none).report()
    assert set(found["metrics"]) == {"reward", "asr_k", "reply_words", "distinct_2"}
    for name in ("perplexity", "retain_nll"):
        assert (
            found["missing"][name]
            == "Set model.path (the local model, whose likelihoods these are)."
        )


def test_a_local_model_that_nothing_needs_is_not_loaded(
    fake: Fake, settings: Settings, tmp_path: Path
):
    model = settings.model.model_copy(update={"path": str(tmp_path / "nowhere")})
    data = settings.data.model_copy(update={"prompts": "", "retain": ""})
    inner = settings.inner.model_copy(update={"lam_retain": 0.0, "method": "npo"})
    own = settings.model_copy(update={"model": model, "data": data, "inner": inner})
    assert list(evaluated(tmp_path / "run", own).report()["metrics"]) == ["asr_k"]


def test_the_system_prompt_of_the_settings_is_sent(fake: Fake, settings: Settings, tmp_path: Path):
    model = settings.model.model_copy(update={"system": "Be brief.", "path": ""})
    evaluated(tmp_path / "run", settings.model_copy(update={"model": model}))
    assert {body["messages"][0]["content"] for body in fake.bodies} == {"Be brief."}
    assert [turn["role"] for turn in fake.bodies[0]["messages"]] == ["system", "user"]


def test_a_served_model_is_a_row_of_its_own_and_measures_no_run(settings: Settings, tmp_path: Path):
    runs = tmp_path / "runs"
    served = evaluated(runs / "served", settings)
    local = evaluated(runs / "local", changed(settings, endpoint=""))
    rows = {row.method: row for row in table.rows([served, local])}
    assert set(rows) == {"Original", "org/served (served)"}
    assert rows["Original"].metrics["reward"] != rows["org/served (served)"].metrics["reward"]
    gains = Run.create(runs / "gains", "gains", changed(settings, endpoint=""))
    assert [run.path.name for run in evaluations(gains)] == ["local"]
    assert jobs._name("evaluate", settings).startswith("evaluate-served-")


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"endpoint_model": ""}, r"evaluation\.endpoint_model must name the model"),
        ({"endpoint": "localhost:8000"}, "must be an address that begins with http"),
    ],
)
def test_what_is_no_endpoint_is_told_before_anything_is_asked(
    fake: Fake, settings: Settings, tmp_path: Path, fields: dict[str, str], told: str
):
    with pytest.raises(ConfigError, match=told):
        evaluated(tmp_path / "run", changed(settings, **fields))
    assert fake.bodies == []


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (401, r"The endpoint .* its key was refused.*U2A_ENDPOINT_KEY"),
        (404, r"must serve the model 'org/served'.*evaluation\.endpoint_model"),
        (307, r"redirect \(307\)\. Set evaluation\.endpoint to"),
    ],
)
def test_a_refusal_names_the_settings_of_the_endpoint(
    fake: Fake, settings: Settings, tmp_path: Path, status: int, told: str
):
    fake.script = lambda body, number: (status, json.dumps({"error": "sk-secret-key"}), {})
    with pytest.raises(ModelError, match=told) as caught:
        evaluated(tmp_path / "run", settings)
    assert "secret" not in str(caught.value)


def test_a_server_that_is_not_there_is_a_sentence(settings: Settings, tmp_path: Path):
    gone = changed(settings, endpoint="http://127.0.0.1:9")
    with pytest.raises(ModelError, match=r"must answer; got: the connection failed.*endpoint and"):
        evaluated(tmp_path / "run", gone)


def test_a_reproduction_has_no_endpoint():
    words = ["safe-rlhf", "--evaluation.endpoint", "http://h/v1"]
    with pytest.raises(ConfigError, match="must be empty for u2a reproduce"):
        reproduction_settings(words)


def test_an_empty_reply_is_a_reply(fake: Fake, settings: Settings):
    fake.script = lambda body, number: ok("  ")
    nothing = pd.DataFrame(columns=["prompt_index", "sample", "reply"])
    prompts = evaluation.load_sets(settings).prompts["harmful"]
    model = evaluation.ServedModel.of(settings)
    found = model(prompts, nothing, lambda *_: None, lambda _: None)
    assert found["reply"].tolist() == [""] * 4
