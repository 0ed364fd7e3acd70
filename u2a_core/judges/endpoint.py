"""Answers from an OpenAI-compatible chat completions endpoint, over HTTP: a judge's, or replies.

The key comes from U2AJUDGE_KEY, for replies from U2A_ENDPOINT_KEY, alone and is never written
anywhere. 429, 5xx and timeouts are
tried again with exponential back-off and jitter, no sooner than Retry-After says. Redirects are
not followed: the key would go with them.
"""

from __future__ import annotations

import os
import random
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
from u2a_core.judges.roles import JUDGE, REPLIES, Role, key_header, served, shown
from u2a_core.types import Prompt

if TYPE_CHECKING:
    import httpx2

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
        role: what it is for.
        tries: of one request.
        backoff: seconds before the second try, doubled before each further one.
    """

    address: str
    model: str
    timeout: float
    parallel: int
    ended: Event
    role: Role = JUDGE
    tries: int = 4
    backoff: float = 1.0
    together: int = 1
    _answered: bool = False
    _plain: bool = False
    _client: Any = field(default=None, repr=False)

    @classmethod
    def of(cls, settings: EvaluationSettings, ended: Event) -> Endpoint:
        """A judge, as the settings say.

        Raises:
            ConfigError: if no model is named, or the HTTP library is not installed.
        """
        asked = JUDGE, settings.judge, settings.judge_model
        return cls(*served(*asked), settings.judge_timeout, settings.judge_parallel, ended, JUDGE)

    @classmethod
    def of_replies(cls, settings: EvaluationSettings, ended: Event) -> Endpoint:
        """What replies in place of the local model, as the settings say.

        Raises:
            ConfigError: as `of`; and if it is no address.
        """
        if not settings.endpoint.startswith(("http://", "https://")):
            raise ConfigError(
                "evaluation.endpoint must be an address that begins with http:// or https://; got "
                f"{settings.endpoint!r}. Give the one that ends in /v1."
            )
        asked = REPLIES, settings.endpoint, settings.endpoint_model
        return cls(
            *served(*asked), settings.endpoint_timeout, settings.endpoint_parallel, ended, REPLIES
        )

    @property
    def identity(self) -> str:
        """Address and model, without a password in the address."""
        return f"{shown(self.address)} {self.model}"

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Holds connections open; the key is read from the environment now."""
        import httpx2

        limits = httpx2.Limits(max_connections=self.parallel)
        with httpx2.Client(
            headers=key_header(self.role.key), timeout=self.timeout, limits=limits
        ) as self._client:
            yield

    def __call__(self, conversations: Sequence[Prompt], usage: Usage, gate: Gate) -> list[Answer]:
        """An answer to each, one after the other.

        Raises:
            ModelError: if the key is refused, the address is wrong or nothing answers there.
        """
        return [self.ask(conversation, usage, gate) for conversation in conversations]

    def ask(self, conversation: Prompt, usage: Usage, gate: Gate, **options: Any) -> Answer:
        """Sends a conversation, as it is, until an answer comes or the tries are used up.

        Args:
            conversation: the turns.
            usage: where tokens are counted.
            gate: asked before each request.
            options: of the request, beside those of the role.

        Raises:
            ModelError: as `__call__`.
        """
        turns = [{"role": turn.role, "content": turn.content} for turn in conversation]
        body = {"model": self.model, "messages": turns, **options}
        why = ""
        for attempt in range(self.tries):
            if not gate():
                return Answer(failure=why or SPENT)
            outcome = self._try(body, usage)
            if isinstance(outcome, Answer):
                return outcome
            why = outcome.why
            wait = max(outcome.wait, self.backoff * 2**attempt * (1 + random.random()))
            if attempt + 1 < self.tries and self.ended.wait(min(wait, _LONGEST_WAIT_S)):
                return Answer(failure=why)
        if not self._answered:
            raise ModelError(
                f"{self.role.who} {shown(self.address)} must answer; got: {why}, "
                f"{self.tries} times. Check {self.role.setting} and that its server runs."
            )
        return Answer(failure=why)

    def _try(self, body: dict[str, Any], usage: Usage) -> Answer | _Again:
        """One request: an answer, a failure that lasts, or why to try again."""
        import httpx2

        plain = self._plain
        try:
            response = self._post(body if plain else {**body, **self.role.options})
        except httpx2.TimeoutException:
            return _Again(f"no answer within {self.timeout:g} s")
        except (httpx2.TransportError, httpx2.DecodingError) as error:
            return _Again(f"the connection failed ({type(error).__name__})")
        except httpx2.InvalidURL as error:
            raise ConfigError(
                f"{self.role.setting} must be an address; got {shown(self.address)} ({error})."
            ) from error
        self._answered = True
        if response.status_code == 400 and self.role.options and not plain:
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

    def _post(self, body: dict[str, Any]) -> httpx2.Response:
        """One request; the timeout bounds the whole of it, not each of its packets alone."""
        import httpx2

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
        status, role = response.status_code, self.role
        who = f"{role.who} {shown(self.address)}"
        if status in (401, 403):
            found = "its key was refused" if os.environ.get(role.key) else "no key was given"
            raise ModelError(
                f"{who} must accept the request; got status {status}: {found}. Set the environment "
                f"variable {role.key} to a valid key."
            )
        if status == 404:
            raise ModelError(
                f"{who} must serve the model {self.model!r}; got status 404. Set {role.setting} to "
                f"the address that ends in /v1, and {role.setting}_model to a model that it serves."
            )
        if 300 <= status < 400:
            raise ModelError(
                f"{who} must answer itself; got a redirect ({status}). Set {role.setting} to the "
                "address it leads to."
            )


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
