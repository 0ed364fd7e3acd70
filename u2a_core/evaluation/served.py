"""Replies of a model that an OpenAI-compatible server serves, in place of the local model's.

For evaluation alone: J and its gradient need the local model's own draws. What the server does
beside temperature, top-p and the seed (top-k, a repetition penalty, its chat template) is its own.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from threading import Event
from typing import Any, TypeAlias

import pandas as pd

from u2a_core.config import Settings
from u2a_core.errors import ModelError
from u2a_core.experiment import EVALUATION_SEED
from u2a_core.judges import Endpoint, Usage
from u2a_core.judges.asking import Answer
from u2a_core.types import Message, Prompt, prompt_text

_POLL_S = 0.1
_KEEP_S = 10.0
"""How often what has come is kept: so much is lost when the process is killed."""
_MOST_FAILED = 10
"""After so many failed replies nothing more is asked."""

Draw: TypeAlias = tuple[int, int]
"""A prompt's place, and the number of its reply."""


@dataclass
class ServedModel:
    """Samples replies at `evaluation.endpoint`.

    Attributes:
        endpoint: that is asked.
        settings: of sampling.
        usage: what was asked.
    """

    endpoint: Endpoint
    settings: Settings
    usage: Usage = field(default_factory=Usage)

    @classmethod
    def of(cls, settings: Settings) -> ServedModel:
        """As the settings say; nothing is asked yet.

        Raises:
            ConfigError: if they name no address or no model, or the HTTP library is not installed.
        """
        return cls(Endpoint.of_replies(settings.evaluation, Event()), settings)

    @property
    def identity(self) -> str:
        """Address and model."""
        return self.endpoint.identity

    def facts(self) -> dict[str, Any]:
        """For a report: who replied, and what it was asked."""
        asked = self.usage.facts()
        return {"source": self.identity, "requests": asked["requests"], "tokens": asked["tokens"]}

    def __call__(
        self,
        prompts: Sequence[Prompt],
        known: pd.DataFrame,
        tick: Callable[[int, int], None],
        keep: Callable[[pd.DataFrame], None],
    ) -> pd.DataFrame:
        """Replies as `sampled_replies` gives them: prompt_index, sample, prompt, reply.

        Args:
            prompts: to answer, `evaluation.samples` times each.
            known: replies to them that are there already, and are not asked for again.
            tick: told how many replies are there, and of how many; may raise.
            keep: given all replies that are there, now and then and where the asking ends early.

        Raises:
            ModelError: if a reply failed after all tries; the others are kept.
        """
        draws = [(i, s) for i in range(len(prompts)) for s in range(self._samples)]
        places = known[["prompt_index", "sample"]].astype(int).itertuples(index=False, name=None)
        found = dict(zip(places, known["reply"].astype(str), strict=True))
        try:
            failures = self._ask(prompts, draws, found, tick, lambda: keep(_table(prompts, found)))
        finally:
            keep(_table(prompts, found))
        if failures:
            told = ", ".join(f"{why}: {count}" for why, count in failures.items())
            raise ModelError(
                f"Each of {len(draws)} replies must come from {self.identity}; {failures.total()} "
                f"failed after all tries ({told}), and {len(found)} are there and kept. See to the "
                "server, then continue with --resume. Status 400 is a request that it refuses, "
                "such as a prompt and objective.max_new_tokens beyond its context."
            )
        return _table(prompts, found)

    @property
    def _samples(self) -> int:
        return self.settings.evaluation.samples

    def _ask(
        self,
        prompts: Sequence[Prompt],
        draws: Sequence[Draw],
        found: dict[Draw, str],
        tick: Callable[[int, int], None],
        keep: Callable[[], None],
    ) -> Counter[str]:
        """Adds the replies that lack, a few asked for at the same time; why others failed."""
        failures, saved = Counter[str](), time.monotonic()
        lacking = [draw for draw in draws if draw not in found]
        tick(len(found), len(draws))
        self.endpoint.ended.clear()
        with self.endpoint.opened(), ThreadPoolExecutor(self.endpoint.parallel) as pool:
            pending: dict[Future[Answer], Draw] = {
                pool.submit(self._reply, prompts[draw[0]], draw[1]): draw for draw in lacking
            }
            try:
                while pending and failures.total() < _MOST_FAILED:
                    ready, _ = wait(pending, timeout=_POLL_S, return_when=FIRST_COMPLETED)
                    for future in ready:
                        draw, answer = pending.pop(future), future.result()
                        if answer.failure:
                            failures[answer.failure] += 1
                        else:
                            found[draw] = answer.text.strip()
                    tick(len(found), len(draws))
                    if time.monotonic() - saved > _KEEP_S:
                        keep()
                        saved = time.monotonic()
            finally:  # stopped, or too much failed: nothing more is sent
                self.endpoint.ended.set()
                for future in pending:
                    future.cancel()
        return failures

    def _reply(self, prompt: Prompt, sample: int) -> Answer:
        objective, system = self.settings.objective, self.settings.model.system
        if system and prompt[0].role != "system":
            prompt = (Message("system", system), *prompt)
        return self.endpoint.ask(
            prompt, self.usage, self._may_ask, temperature=objective.temperature, top_p=1,
            max_tokens=objective.max_new_tokens, seed=_seed(self.settings.seed, prompt, sample),
        )  # fmt: skip

    def _may_ask(self) -> bool:
        """Counts a request that is about to be sent, unless the asking ended."""
        with self.usage.lock:
            if self.endpoint.ended.is_set():
                return False
            self.usage.requests += 1
            return True


def _seed(seed: int, prompt: Prompt, sample: int) -> int:
    """Below 2³¹: of a reply to a prompt, whatever is asked beside it."""
    content = f"{seed + EVALUATION_SEED}\x1f{sample}\x1f{prompt_text(prompt)}".encode()
    return int.from_bytes(hashlib.sha256(content).digest()[:4]) >> 1


def _table(prompts: Sequence[Prompt], found: dict[Draw, str]) -> pd.DataFrame:
    """In prompt order."""
    draws = sorted(found)
    return pd.DataFrame(
        {
            "prompt_index": [i for i, _ in draws],
            "sample": [s for _, s in draws],
            "prompt": [prompt_text(prompts[i]) for i, _ in draws],
            "reply": [found[draw] for draw in draws],
        }
    )
