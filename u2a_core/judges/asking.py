"""A judge that reads and writes text: rendered questions, JSON answers, cache, repair, budget.

Where the answers come from (an endpoint, a local model) is a `Source`. Each distinct question is
asked once. A question keeps its text however often it is asked: a retry never swaps two answers.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias, runtime_checkable

from u2a_core.errors import ConfigError
from u2a_core.judges.cache import Cache
from u2a_core.judges.prompts import REPAIR, rendered, verdict
from u2a_core.judges.protocol import Cost, Question, Tick, Usage
from u2a_core.metrics import Criterion
from u2a_core.types import Message, Prompt, user_prompt

_POLL_S = 0.1
_LETTERS_PER_TOKEN, _ANSWER_TOKENS = 4, 40
PROSE = "the answer held no judgement in JSON, asked twice"
SPENT = "the request budget evaluation.judge_requests was used up"


@dataclass(frozen=True)
class Answer:
    """What came back: a text, or why none did."""

    text: str = ""
    failure: str = ""


Gate: TypeAlias = Callable[[], bool]
"""Asked before each request is sent: False if it may not be."""


@runtime_checkable
class Source(Protocol):
    """Where answers come from.

    Attributes:
        identity: who answers, without a secret.
        together: conversations of one call.
        parallel: calls at the same time.
    """

    @property
    def identity(self) -> str: ...  # noqa: D102
    @property
    def together(self) -> int: ...  # noqa: D102
    @property
    def parallel(self) -> int: ...  # noqa: D102

    def opened(self) -> AbstractContextManager[object]:
        """Holds open what all calls share, such as connections."""
        ...

    def __call__(self, conversations: Sequence[Prompt], usage: Usage, gate: Gate) -> list[Answer]:
        """An answer to each conversation; raises only what ends the evaluation."""
        ...


@dataclass
class TextJudge:
    """A `Judge` made of a source of answers.

    Attributes:
        source: where answers come from.
        cache: of judgements; failed ones are not kept.
        budget: the most requests of all calls together, repairs and retries included.
        ended: set when judging ends early, so that waiting retries end too.
    """

    source: Source
    cache: Cache
    budget: int
    ended: threading.Event = field(default_factory=threading.Event)
    usage: Usage = field(default_factory=Usage)

    @property
    def identity(self) -> str:
        """Who answers."""
        return self.source.identity

    def offers(self, criterion: Criterion) -> bool:
        """Every criterion has its prompt."""
        return True

    def cost(self, questions: Sequence[Question]) -> Cost:
        """Distinct questions that the cache does not answer; four letters to a token, roughly."""
        texts = {rendered(question) for question in questions}
        new = [text for text in texts if self.cache.find(text) is None]
        tokens = sum(len(text) // _LETTERS_PER_TOKEN + _ANSWER_TOKENS for text in new)
        return Cost(len(new), tokens)

    def check_budget(self, questions: Sequence[Question]) -> Cost:
        """The cost of all questions to come.

        Raises:
            ConfigError: if it exceeds the budget; nothing has been asked then.
        """
        cost = self.cost(questions)
        if cost.requests > self.budget - self.usage.requests:
            raise ConfigError(
                f"The judge must be asked at most {self.budget} times (evaluation.judge_requests); "
                f"this evaluation needs {cost.requests} requests (about {cost.tokens:,} tokens) "
                "beside what the cache answers. Raise evaluation.judge_requests, or give fewer "
                "prompts or evaluation.samples."
            )
        return cost

    def __call__(self, questions: Sequence[Question], tick: Tick) -> list[float | None]:
        """Asks each distinct question that the cache does not answer."""
        self.check_budget(questions)
        texts = [rendered(question) for question in questions]
        asked = dict(zip(texts, questions, strict=True))
        known = {text: self.cache.find(text) for text in asked}
        new = [text for text, value in known.items() if value is None]
        self.usage.cached += sum(known[text] is not None for text in texts)
        size = self.source.together
        chunks = [new[i : i + size] for i in range(0, len(new), size)]
        for chunk, values in self._answered(chunks, asked, len(asked) - len(new), tick):
            known |= dict(zip(chunk, values, strict=True))
        return [known[text] for text in texts]

    def _answered(
        self, chunks: list[list[str]], asked: dict[str, Question], done: int, tick: Tick
    ) -> list[tuple[list[str], list[float | None]]]:
        """The judgements of all chunks, a few at the same time."""
        total = done + sum(map(len, chunks))
        tick(done, total)
        self.ended.clear()
        found = []
        with self.source.opened(), ThreadPoolExecutor(self.source.parallel) as pool:
            pending: dict[Future[list[float | None]], list[str]] = {
                pool.submit(self._judge, chunk, [asked[text].criterion for text in chunk]): chunk
                for chunk in chunks
            }
            try:
                while pending:
                    ready, _ = wait(pending, timeout=_POLL_S, return_when=FIRST_COMPLETED)
                    for future in ready:
                        chunk = pending.pop(future)
                        found.append((chunk, future.result()))
                        done += len(chunk)
                    tick(done, total)
            finally:  # stopped, or a fault that ends the evaluation: nothing more is sent
                self.ended.set()
                for future in pending:
                    future.cancel()
        return found

    def _judge(self, texts: list[str], criteria: list[Criterion]) -> list[float | None]:
        """Asks, and once more where the answer holds no judgement."""
        conversations = [user_prompt(text) for text in texts]
        answers = self.source(conversations, self.usage, self._may_ask)
        values = [self._read(*item) for item in zip(texts, criteria, answers, strict=True)]
        again = [i for i, v in enumerate(values) if v is None and not answers[i].failure]
        if again:
            repairs = [
                (*conversations[i], Message("assistant", answers[i].text), Message("user", REPAIR))
                for i in again
            ]
            for i, answer in zip(
                again, self.source(repairs, self.usage, self._may_ask), strict=True
            ):
                answers[i] = answer if answer.failure else Answer(answer.text, PROSE)
                values[i] = self._read(texts[i], criteria[i], answer)
        for value, answer in zip(values, answers, strict=True):
            if value is None and not self.ended.is_set():
                self.usage.fail(answer.failure)
        return values

    def _read(self, text: str, criterion: Criterion, answer: Answer) -> float | None:
        value = None if answer.failure else verdict(criterion, answer.text)
        if value is not None:
            self.cache.keep(text, value, answer.text)
        return value

    def _may_ask(self) -> bool:
        """Counts a request that is about to be sent, unless judging ended or the budget is used."""
        with self.usage.lock:
            if self.ended.is_set() or self.usage.requests >= self.budget:
                return False
            self.usage.requests += 1
            return True
