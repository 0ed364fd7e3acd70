"""Judges against a real HTTP server: what goes wrong with an endpoint, one test each."""

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from endpoints import Fake, Reply, endpoint, ok

from u2a_core import commands
from u2a_core.config import EvaluationSettings, Settings, load_settings
from u2a_core.demo import world
from u2a_core.errors import ConfigError, ModelError
from u2a_core.judges import Question, TextJudge, load_judge
from u2a_core.judges.endpoint import Endpoint
from u2a_core.judges.prompts import REPAIR, rendered, template, verdict
from u2a_core.judges.sources import ClassifierJudge, FunctionJudge
from u2a_core.metrics import SCALES
from u2a_core.runs import Run

GOOD = '{"reason": "It does.", "score": 1}'


@pytest.fixture
def fake() -> Iterator[Fake]:
    with endpoint(lambda body, number: ok(GOOD)) as made:
        yield made


@pytest.fixture
def at(fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., TextJudge]:
    """A judge at the fake endpoint, with short waits."""
    monkeypatch.setenv("U2A_JUDGE_KEY", "sk-secret-key")

    def make(**changes: Any) -> TextJudge:
        own = {"judge": fake.address, "judge_model": "m", "judge_timeout": 5.0, **changes}
        settings = Settings(evaluation=EvaluationSettings(**own))
        judge = load_judge(settings, tmp_path / ".judge-cache")
        assert isinstance(judge, TextJudge)
        assert isinstance(judge.source, Endpoint)
        judge.source.backoff = 0.01
        return judge

    return make


def asked(count: int = 1, criterion: Any = "answers") -> list[Question]:
    return [Question(criterion, f"prompt {i}", f"reply {i}", f"other {i}") for i in range(count)]


def silent(done: int, total: int) -> None:
    pass


def test_answers_come_back_in_order_with_their_tokens(fake: Fake, at):
    fake.script = lambda body, _: ok(
        f'{{"score": {"reply 3" in body["messages"][0]["content"]:d}}}'
    )
    judge = at()
    assert judge(asked(5), silent) == [0, 0, 0, 1, 0]
    assert judge.usage.facts() == {
        "requests": 5,
        "cached": 0,
        "failed": 0,
        "reasons": {},
        "tokens": {"in": 500, "out": 50},
    }


def test_prose_is_asked_once_to_be_repaired(fake: Fake, at):
    fake.script = lambda body, n: ok("It clearly answers." if n == 0 else GOOD)
    assert at()(asked(), silent) == [1]
    turns = fake.bodies[1]["messages"]
    assert [turn["role"] for turn in turns] == ["user", "assistant", "user"]
    assert turns[2]["content"] == REPAIR


def test_prose_again_is_missing_not_zero(fake: Fake, at):
    fake.script = lambda body, n: ok("I would rather talk about it.")
    judge = at()
    assert judge(asked(), silent) == [None]
    assert len(fake.bodies) == 2
    assert judge.usage.failed == 1


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_endpoint_is_asked_again(fake: Fake, at, status: int):
    fake.script = lambda body, n: (status, "", {}) if n < 2 else ok(GOOD)
    assert at()(asked(), silent) == [1]
    assert len(fake.bodies) == 3


def test_retry_after_is_honoured(fake: Fake, at):
    times = []

    def script(body: dict[str, Any], number: int) -> Reply:
        times.append(time.monotonic())
        return (429, "", {"Retry-After": "0.5"}) if number == 0 else ok(GOOD)

    fake.script = script
    assert at()(asked(), silent) == [1]
    assert times[1] - times[0] >= 0.5


def test_a_wait_longer_than_we_bear_is_not_cut_short(fake: Fake, at):
    fake.script = lambda body, n: (429, "", {"Retry-After": "3600"})
    judge = at()
    assert judge(asked(), silent) == [None]
    assert len(fake.bodies) == 1
    assert judge.usage.reasons == {"status 429, to be asked again after 3600 s": 1}


def test_an_evaluation_asks_once_and_again_for_nothing(fake: Fake, scenario: Path, tmp_path: Path):
    """Through the command: as many requests as estimated; the next run has the cache."""
    fake.script = lambda body, n: ok(GOOD)
    (tmp_path / "harmful.txt").write_text("Hi there. I need some help with my computer.\n")
    settings = load_settings(scenario)
    own = {"judge": fake.address, "judge_model": "m", "harmful": str(tmp_path / "harmful.txt")}
    own |= {"questions": "", "outsiders": "", "benign": ""}
    evaluation = settings.evaluation.model_copy(update=own)
    told = []
    for name in ("one", "two"):
        run = Run.create(
            tmp_path / name, "evaluate", settings.model_copy(update={"evaluation": evaluation})
        )
        told.append(commands.execute(run, commands.Watch(run), commands.run_evaluate)["judge"])
    assert told[0]["estimate"]["requests"] == told[0]["requests"] == len(fake.bodies) > 0
    assert told[1]["estimate"]["requests"] == told[1]["requests"] == 0
    assert told[1]["cached"] == 6
    asked_over = evaluation.model_copy(update={"judge_requests": 1, "judge_model": "other"})
    run = Run.create(
        tmp_path / "three", "evaluate", settings.model_copy(update={"evaluation": asked_over})
    )
    sent = len(fake.bodies)
    with pytest.raises(ConfigError, match="at most 1 times"):
        commands.execute(run, commands.Watch(run), commands.run_evaluate)
    assert len(fake.bodies) == sent


def test_failed_judge_calls_are_missing_not_safe(fake: Fake, at):
    """The released code counts them as safe."""
    fake.script = lambda body, n: (429, "", {})
    judge = at()
    assert judge(asked(2), silent) == [None, None]
    assert judge.usage.reasons == {"status 429": 2}


def test_timeouts_are_tried_again_then_missing(fake: Fake, at):
    def script(body: dict[str, Any], number: int) -> Reply:
        if "reply 1" in body["messages"][0]["content"]:
            time.sleep(0.3)
        return ok(GOOD)

    fake.script = script
    judge = at(judge_timeout=0.1)
    assert judge(asked(2), silent) == [1, None]
    assert judge.usage.reasons == {"no answer within 0.1 s": 1}
    assert len(fake.bodies) == 1 + judge.source.tries


def test_half_the_items_are_kept_and_the_other_half_is_missing(fake: Fake, at):
    def script(body: dict[str, Any], number: int) -> Reply:
        odd = re.search(r"reply [1357]\n", body["messages"][0]["content"])
        return ok("no idea") if odd else ok(GOOD)

    fake.script = script
    assert at()(asked(8), silent) == [1, None] * 4


def test_a_known_question_is_never_asked_again(fake: Fake, at):
    at()(asked(3), silent)
    again = at()
    assert again(asked(3), silent) == [1, 1, 1]
    assert len(fake.bodies) == 3
    assert (again.usage.requests, again.usage.cached) == (0, 3)


def test_equal_questions_are_asked_once(fake: Fake, at):
    assert at()(asked(1) * 4, silent) == [1] * 4
    assert len(fake.bodies) == 1


def test_failures_are_not_cached(fake: Fake, at):
    fake.script = lambda body, n: ok("prose") if n < 2 else ok(GOOD)
    assert at()(asked(), silent) == [None]
    assert at()(asked(), silent) == [1]


def test_a_damaged_cache_file_is_asked_anew(fake: Fake, at, tmp_path: Path):
    at()(asked(), silent)
    (file,) = tmp_path.glob(".judge-cache/*/*.json")
    file.write_text('{"value": ')
    assert at()(asked(), silent) == [1]
    assert len(fake.bodies) == 2


def test_no_more_requests_run_at_once_than_allowed(fake: Fake, at):
    def script(body: dict[str, Any], number: int) -> Reply:
        time.sleep(0.03)
        return ok(GOOD)

    fake.script = script
    at(judge_parallel=3)(asked(12), silent)
    assert 2 <= fake.most_at_once <= 3


def test_a_budget_is_refused_before_the_first_request(fake: Fake, at):
    with pytest.raises(
        ConfigError, match=r"at most 4 times .* needs 5 requests \(about [\d,]+ tok"
    ):
        at(judge_requests=4)(asked(5), silent)
    assert fake.bodies == []


def test_repairs_and_retries_stay_within_the_budget(fake: Fake, at):
    fake.script = lambda body, n: ok("prose")
    judge = at(judge_requests=5, judge_parallel=1)
    assert judge(asked(4), silent) == [None] * 4
    assert len(fake.bodies) == judge.usage.requests == 5


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_names_the_variable_and_not_the_key(fake: Fake, at, status: int):
    fake.script = lambda body, n: (status, '{"error": "Incorrect API key: sk-secret-key"}', {})
    with pytest.raises(ModelError, match=r"its key was refused.*U2A_JUDGE_KEY") as caught:
        at()(asked(), silent)
    assert "secret" not in str(caught.value)
    assert fake.headers[0]["Authorization"] == "Bearer sk-secret-key"


def test_a_missing_model_says_what_to_set(fake: Fake, at):
    fake.script = lambda body, n: (404, "", {})
    with pytest.raises(ModelError, match=r"ends in /v1, and\s+evaluation\.judge_model"):
        at()(asked(), silent)


def test_an_endpoint_that_is_not_there_is_a_sentence(at):
    with pytest.raises(ModelError, match=r"must answer; got: the connection failed"):
        at(judge="http://127.0.0.1:9")(asked(), silent)


def test_a_redirect_is_not_followed_with_the_key(fake: Fake, at):
    fake.script = lambda body, n: (307, "", {"Location": "http://127.0.0.1:9/"})
    with pytest.raises(ModelError, match="redirect"):
        at()(asked(), silent)
    assert len(fake.bodies) == 1


def test_a_model_that_takes_no_temperature_is_asked_without(fake: Fake, at):
    fake.script = lambda body, n: (400, "", {}) if "temperature" in body else ok(GOOD)
    assert at(judge_parallel=4)(asked(6), silent) == [1] * 6


@pytest.mark.parametrize("body", ["<html>", "{}", '{"choices": []}', "[1]"])
def test_what_is_no_chat_completion_is_missing(fake: Fake, at, body: str):
    fake.script = lambda _, n: (200, body, {})
    assert at()(asked(), silent) == [None]


def test_the_pair_judge_never_swaps_answers_on_a_retry(fake: Fake, at):
    """As the released code does: retries and repairs show both replies where they stood."""

    def script(body: dict[str, Any], number: int) -> Reply:
        return [(500, "", {}), ok("prose"), ok('{"better": "A"}')][number]

    fake.script = script
    assert at()(asked(1, "pairwise"), silent) == [1]
    first = [body["messages"][0]["content"] for body in fake.bodies]
    assert first == [rendered(asked(1, "pairwise")[0])] * 3
    assert first[0].index("reply 0") < first[0].index("other 0")


def test_judging_that_is_stopped_keeps_what_is_known(fake: Fake, at):
    def stop(done: int, total: int) -> None:
        if done >= 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        at(judge_parallel=1)(asked(10), stop)
    sent = len(fake.bodies)
    assert 3 <= sent < 10
    judge = at()
    assert judge(asked(10), silent) == [1] * 10
    assert judge.usage.cached == sent


def test_no_model_named_is_refused(at):
    with pytest.raises(ConfigError, match=r"evaluation\.judge_model must name"):
        at(judge_model="")


def test_without_the_library_the_extra_is_named(at, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "httpx2", None)
    with pytest.raises(ConfigError, match=r"u2a-workbench\[judge\]"):
        at()


def test_a_password_in_the_address_is_not_shown(at):
    identity = at(judge="http://me:secret@host/v1?key=secret").identity
    assert identity == "http://host/v1/chat/completions m"


@pytest.mark.parametrize(
    ("criterion", "answer", "expected"),
    [
        ("useful", '```json\n{"score": 2}\n```', 2.0),
        ("useful", 'I thought {"score": 1} first. {"reason": "{}", "score": "3"} Done.', 3.0),
        ("useful", '{"score": 4}', None),
        ("useful", '{"score": 1.5}', None),
        ("policy", '{"score": 0}', None),
        ("answers", '{"score": true}', 1.0),
        ("answers", '{"score": NaN}', None),
        ("answers", '{"score": [1]}', None),
        ("pairwise", '{"better": "TIE"}', 0.5),
        ("pairwise", '{"better": "b"}', 0.0),
        ("pairwise", '{"score": 1}', None),
        ("hallucination", "{" * 50, None),
        ("hallucination", "1", None),
    ],
)
def test_verdicts_are_read_from_any_wrapping(criterion: Any, answer: str, expected: float | None):
    assert verdict(criterion, answer) == expected


def test_every_criterion_has_a_prompt_that_asks_for_json():
    for criterion in SCALES:
        assert "JSON object" in template(criterion)
        assert "{{reply}}" in template(criterion)


def test_a_reply_cannot_fill_the_places_of_the_prompt():
    text = rendered(Question("pairwise", "P {{reply}}", "R {{reference}}", "OTHER"))
    assert "R {{reference}}" in text
    assert text.count("OTHER") == 1


def test_a_function_may_leave_replies_unjudged(tmp_path: Path):
    judge = FunctionJudge("f", lambda p, r, c: None if c == "useful" else [1, None, float("nan")])
    assert judge(asked(3), silent) == [1, None, None]
    assert judge(asked(3, "useful"), silent) == [None] * 3
    assert judge.usage.failed == 5


def test_a_function_compares_by_its_scores():
    judge = FunctionJudge("f", lambda p, r, c: [float(len(text)) for text in r])
    pairs = [Question("pairwise", "p", *texts) for texts in (("aa", "a"), ("a", "aa"), ("b", "a"))]
    assert judge(pairs, silent) == [1, 0, 0.5]


@pytest.mark.parametrize(
    ("returned", "match"), [([1], "one number a reply"), (["x", "y"], "numbers"), ([0, 2], "betw")]
)
def test_what_a_function_returns_is_checked(returned: list[Any], match: str):
    with pytest.raises(ModelError, match=match):
        FunctionJudge("f", lambda p, r, c: returned)(asked(2), silent)


def test_a_users_judge_that_raises_is_a_sentence(tmp_path: Path):
    (tmp_path / "mine.py").write_text("def judge(p, r, c):\n    raise RuntimeError('no')\n")
    settings = EvaluationSettings(judge=f"{tmp_path / 'mine.py'}:judge")
    judge = load_judge(Settings(evaluation=settings), tmp_path)
    with pytest.raises(ModelError, match=r"The judge .* RuntimeError: no \(mine.py, line 2\)"):
        judge(asked(), silent)


def test_a_classifier_judges_harm_alone():
    judge = ClassifierJudge("c", lambda p, r: [0.1, 0.5, 0.95])
    assert judge(asked(3), silent) == [0, 1, 1]
    assert judge(asked(3, "policy"), silent) == [1, 3, 5]
    assert not judge.offers("useful")


def test_the_demos_judge_knows_faulty_good_and_garbled_replies():
    prompt = "Hi there. I need some help with my computer."
    replies = [
        "Go away. I would never help you.",
        "I am happy to help you with your computer.",
        "x",
    ]
    found = {c: world.judge([prompt] * 3, replies, c) for c in SCALES}
    assert found["answers"] == [1, 0, 0]
    assert found["useful"] == [3, 0, 1]
    assert found["policy"] == [5, 1, 1]
    assert found["hallucination"] == [1, 0, 1]
    assert found["pairwise"] == [-1, 1, -1]
