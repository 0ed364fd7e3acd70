"""Answers from an OpenAI-compatible chat completions endpoint, over HTTP.

The key comes from U2A_JUDGE_KEY alone and is never written anywhere. 429, 5xx and timeouts are
tried again with exponential back-off and jitter, no sooner than Retry-After says. Redirects are
not followed: the key would go with them.
"""

from __future__ import annotations

import os
import random
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from threading import Event
from typing import TYPE_CHECKING, Any

from u2a_core.config import EvaluationSettings
from u2a_core.errors import ConfigError, ModelError
from u2a_core.judges.asking import SPENT, Answer, Gate
from u2a_core.judges.protocol import Usage
from u2a_core.types import Prompt

if TYPE_CHECKING:
    import httpx2

KEY = "U2A_JUDGE_KEY"
_LONGEST_WAIT_S = 120.0
_AGAIN = (408, 425, 429)
_LARGEST = 4 * 2**20


@dataclass(frozen=True)
class _Again:
    """Why a request is to be sent again, and after how many seconds at the earliest."""

    why: str
    wait: float = 0.0


@dataclass
class Endpoint:
    """A `Source` of answers.

    Attributes:
        address: of the chat completions.
        model: asked for by name.
        timeout: seconds for one request, its whole answer included.
        parallel: requests at a time.
        ended: when set, waiting ends.
        tries: of one request.
        backoff: seconds before the second try, doubled before each further one.
    """

    address: str
    model: str
    timeout: float
    parallel: int
    ended: Event
    tries: int = 4
    backoff: float = 1.0
    together: int = 1
    _answered: bool = False
    _plain: bool = False
    _client: Any = field(default=None, repr=False)

    @classmethod
    def of(cls, settings: EvaluationSettings, ended: Event) -> Endpoint:
        """As the settings say.

        Raises:
            ConfigError: if no model is named, or the HTTP library is not installed.
        """
        if not settings.judge_model:
            raise ConfigError(
                "evaluation.judge_model must name the model to ask for at "
                f"{_shown(settings.judge)}; got nothing. Name one that the endpoint serves."
            )
        _library()
        base, mark, query = settings.judge.partition("?")
        base = base.rstrip("/").removesuffix("/chat/completions") + "/chat/completions"
        return cls(
            f"{base}{mark}{query}",
            settings.judge_model,
            settings.judge_timeout,
            settings.judge_parallel,
            ended,
        )

    @property
    def identity(self) -> str:
        """Address and model, without a password in the address."""
        return f"{_shown(self.address)} {self.model}"

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Holds connections open; the key is read from the environment now."""
        import httpx2

        limits = httpx2.Limits(max_connections=self.parallel)
        with httpx2.Client(headers=_key(), timeout=self.timeout, limits=limits) as self._client:
            yield

    def __call__(self, conversations: Sequence[Prompt], usage: Usage, gate: Gate) -> list[Answer]:
        """An answer to each, one after the other.

        Raises:
            ModelError: if the key is refused, the address is wrong or nothing answers there.
        """
        return [self._ask(conversation, usage, gate) for conversation in conversations]

    def _ask(self, conversation: Prompt, usage: Usage, gate: Gate) -> Answer:
        """Sends a conversation, as it is, until an answer comes or the tries are used up."""
        messages = [{"role": turn.role, "content": turn.content} for turn in conversation]
        why = ""
        for attempt in range(self.tries):
            if not gate():
                return Answer(failure=why or SPENT)
            outcome = self._try(messages, usage)
            if isinstance(outcome, Answer):
                return outcome
            why = outcome.why
            wait = max(outcome.wait, self.backoff * 2**attempt * (1 + random.random()))
            if attempt + 1 < self.tries and self.ended.wait(min(wait, _LONGEST_WAIT_S)):
                return Answer(failure=why)
        if not self._answered:
            raise ModelError(
                f"The judge's endpoint {_shown(self.address)} must answer; got: {why}, "
                f"{self.tries} times. Check evaluation.judge and that its server runs."
            )
        return Answer(failure=why)

    def _try(self, messages: list[dict[str, str]], usage: Usage) -> Answer | _Again:
        """One request: an answer, a failure that lasts, or why to try again."""
        import httpx2

        plain = self._plain
        try:
            response = self._post(messages, plain)
        except httpx2.TimeoutException:
            return _Again(f"no answer within {self.timeout:g} s")
        except (httpx2.TransportError, httpx2.DecodingError) as error:
            return _Again(f"the connection failed ({type(error).__name__})")
        except httpx2.InvalidURL as error:
            raise ConfigError(
                f"evaluation.judge must be an address; got {_shown(self.address)} ({error})."
            ) from error
        self._answered = True
        if response.status_code == 400 and not plain:
            self._plain = True  # some models take no temperature
            return _Again("status 400")
        return _content(response, usage) if response.status_code == 200 else self._failed(response)

    def _failed(self, response: httpx2.Response) -> Answer | _Again:
        """What a status other than 200 means for the request."""
        self._refuse(response)
        why = f"status {response.status_code}"
        if response.status_code not in _AGAIN and response.status_code < 500:
            return Answer(failure=why)
        wait = _retry_after(response)
        if wait > _LONGEST_WAIT_S:
            return Answer(failure=f"{why}, to be asked again after {wait:.0f} s")
        return _Again(why, wait)

    def _post(self, messages: list[dict[str, str]], plain: bool) -> httpx2.Response:
        """One request; the timeout bounds the whole of it, not each of its packets alone."""
        import httpx2

        options: dict[str, Any] = {} if plain else {"temperature": 0}
        body = {"model": self.model, "messages": messages, **options}
        end, content = time.monotonic() + self.timeout, b""
        with self._client.stream("POST", self.address, json=body) as response:
            for part in response.iter_bytes():
                content += part
                if time.monotonic() > end:
                    raise httpx2.ReadTimeout("the answer came too slowly")
                if len(content) > _LARGEST:
                    raise httpx2.DecodingError("the answer is too long")
        kept = {k: v for k, v in response.headers.items() if k == "retry-after"}
        return httpx2.Response(response.status_code, headers=kept, content=content)

    def _refuse(self, response: httpx2.Response) -> None:
        """Ends the evaluation where asking again cannot help.

        The endpoint's own words are left out of the sentence: they may quote the key.
        """
        status, address = response.status_code, _shown(self.address)
        if status in (401, 403):
            found = "its key was refused" if os.environ.get(KEY) else "no key was given"
            raise ModelError(
                f"The judge's endpoint {address} must accept the request; got status {status}: "
                f"{found}. Set the environment variable {KEY} to a valid key."
            )
        if status == 404:
            raise ModelError(
                f"The judge's endpoint {address} must serve the model {self.model!r}; got status "
                "404. Set evaluation.judge to the address that ends in /v1, and "
                "evaluation.judge_model to a model that it serves."
            )
        if 300 <= status < 400:
            raise ModelError(
                f"The judge's endpoint {address} must answer itself; got a redirect ({status}). "
                "Set evaluation.judge to the address it leads to."
            )


def _library() -> None:
    try:
        import httpx2  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            "A judge at an address needs httpx2, which is not installed. "
            "Install it with: pip install 'u2a-workbench[judge]'."
        ) from error


def _key() -> dict[str, str]:
    """The header that bears the key, where there is one."""
    key = os.environ.get(KEY, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise ConfigError(f"The key in {KEY} must be one word of ASCII letters. Copy it again.")
    return {"Authorization": f"Bearer {key}"} if key else {}


def _content(response: httpx2.Response, usage: Usage) -> Answer:
    try:
        body = response.json()
        text = body["choices"][0]["message"]["content"]
        told = body.get("usage") or {}
        read, written = (int(told.get(f"{k}_tokens") or 0) for k in ("prompt", "completion"))
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return Answer(failure="the endpoint's answer was no chat completion")
    with usage.lock:
        usage.tokens_in += read
        usage.tokens_out += written
    return Answer(text) if isinstance(text, str) else Answer(failure="the answer had no text")


def _retry_after(response: httpx2.Response) -> float:
    """Seconds, from a number or a date; 0 where there is none."""
    told = response.headers.get("retry-after", "")
    try:
        return max(0.0, float(told))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(told) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return 0.0


def _shown(address: str) -> str:
    """The address without a user name and password in it, and without a query."""
    return re.sub(r"//[^/@]*@", "//", address).partition("?")[0]
