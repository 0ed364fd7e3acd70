"""What a judge is: questions in, one number a question out, None where the judgement failed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, Protocol, TypeAlias, runtime_checkable

from u2a_core.metrics import Criterion
from u2a_core.types import Prompt

Tick: TypeAlias = Callable[[int, int], None]
"""Told how many of how many questions are answered; may raise, which ends the judging."""


@dataclass(frozen=True)
class Question:
    """One thing to be judged.

    Attributes:
        criterion: by what.
        prompt, reply: the reply to judge, and the turns that it answers.
        reference: for pairwise the other reply, for hallucination the right answer.
    """

    criterion: Criterion
    prompt: Prompt
    reply: str
    reference: str | None = None


@dataclass(frozen=True)
class Cost:
    """What questions will cost: requests that no cache saves, and roughly their tokens."""

    requests: int = 0
    tokens: int = 0


@dataclass
class Usage:
    """What has been asked so far.

    Attributes:
        requests: sent, those sent again included.
        cached: questions that the cache answered.
        failed: questions without a judgement.
        tokens_in, tokens_out: read and written by the judge, as far as it says.
        reasons: why questions failed → how many.
    """

    requests: int = 0
    cached: int = 0
    failed: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    lock: Lock = field(default_factory=Lock, repr=False)

    def fail(self, reason: str, count: int = 1) -> None:
        """Counts questions without a judgement."""
        with self.lock:
            self.failed += count
            self.reasons[reason] = self.reasons.get(reason, 0) + count

    def facts(self) -> dict[str, Any]:
        """For a report."""
        return {
            "requests": self.requests,
            "cached": self.cached,
            "failed": self.failed,
            "tokens": {"in": self.tokens_in, "out": self.tokens_out},
            "reasons": dict(self.reasons),
        }


@runtime_checkable
class Judge(Protocol):
    """Judges replies; the four sources of `evaluation.judge` all look like this."""

    @property
    def identity(self) -> str:
        """Who judges, without a secret: for reports and the cache."""
        ...

    @property
    def usage(self) -> Usage:
        """What has been asked so far."""
        ...

    def offers(self, criterion: Criterion) -> bool:
        """Whether it can judge by a criterion at all."""
        ...

    def cost(self, questions: Sequence[Question]) -> Cost:
        """What the questions will cost, before the first is asked."""
        ...

    def __call__(self, questions: Sequence[Question], tick: Tick) -> list[float | None]:
        """One judgement a question, on the criterion's scale; None where it failed.

        Pairwise: 1 if the reply is better than the reference, 0 if worse, ½ for a tie.
        """
        ...
