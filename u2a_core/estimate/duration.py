"""How long a command takes: its passes, counted, at the machine's rates.

A trained token costs about 6 operations a parameter (2 forward, 4 backward; frozen weights spare
2), as the traces of the passes count them. Bytes written and the number of operations are counted,
too, for small models and single tokens wait for memory and for Python, not for arithmetic.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from u2a_core.config import Settings
from u2a_core.estimate.machine import Rates
from u2a_core.estimate.memory import Memory
from u2a_core.estimate.trace import Trace
from u2a_core.estimate.workload import Rows
from u2a_core.models.generation import TOKENS_PER_BATCH
from u2a_core.models.scorer import ROWS

SLOWER = 2.5
"""A run takes up to this many times what the rates of single operations give: the demo's took 1.8
to 2.1 times as long, for its matrices are small."""
FASTER = 0.8
_START_S = (1.5, 4.0)
"""Libraries and data, before a model computes."""
_READ = (2e9, 2e8)
"""Bytes of weights read in a second: at most, at least."""
_SHORTEST = 0.4
"""Replies that end early spare up to the rest of the tokens they may have."""
_OVERHEAD = 4.0
"""A module's operation in Python takes so many times a bare one."""


@dataclass(frozen=True)
class Cost:
    """Work: operations of arithmetic, bytes written, calls of operations."""

    flops: float = 0.0
    written: float = 0.0
    calls: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.flops + other.flops, self.written + other.written, self.calls + other.calls
        )

    def __mul__(self, factor: float | int) -> Cost:
        return Cost(self.flops * factor, self.written * factor, self.calls * factor)

    def seconds(self, rates: Rates) -> float:
        """At the rates of the machine."""
        return rates.seconds(self.flops, self.written, _OVERHEAD * self.calls)


def _of(trace: Trace, *, share: float | int = 1.0, batches: float | int = 1.0) -> Cost:
    return Cost(trace.flops * share, trace.written * share, trace.calls * batches)


@dataclass(frozen=True)
class Duration:
    """The work of commands.

    Attributes:
        memory: with the passes, the amount of work and the settings.
        reply: the share of the longest reply that replies have.
        slower: how many times as long the reward model's device takes for the same work.
    """

    memory: Memory
    reply: float = 1.0
    slower: float = 1.0

    @property
    def settings(self) -> Settings:
        """What is asked for."""
        return self.memory.settings

    def cost(self, command: str) -> Cost:
        """Of gains, reweight or unlearn."""
        reference = self.settings.inner.method == "npo"
        start = self._values(self.memory.work.negatives) if reference else Cost()
        if command == "gains":
            return start + self._scoring(check=True) + self._values(self.memory.work.negatives)
        steps, outer = self.settings.inner.steps, self.settings.outer
        rounds = math.ceil(steps / outer.steps_per_round)
        work = start + self._step() * steps + self._comparison() * 2
        work += self._values(self.memory.work.retain) * (rounds + 1)
        if command == "unlearn":
            return work + self._objective() * (rounds + 1)
        return (
            work
            + self._scoring(check=True)
            + self._scoring(check=False) * (rounds - 1)
            + self._objective()
        )

    def _scoring(self, *, check: bool) -> Cost:
        """J with its gradient, and the slopes of all negatives."""
        memory, negatives = self.memory, self.memory.work.negatives
        splits = memory.splits if check else 1
        work = self._objective() + self._objective_gradient(splits)
        size = self.settings.data.tokens_per_batch
        directions = splits + 1 if splits > 1 else 1
        work += self._over(negatives, memory.policy.slopes(negatives.largest(size), directions))
        gradient = self._gradient(negatives, memory.policy.skeleton.space)
        products = 2 + 1 if check else 0
        if self.settings.outer.curvature == "cg":
            products += 2 * (15 + 20 * (1 + splits if splits > 1 else 1))
        return work + gradient * products

    def _step(self) -> Cost:
        """A step of the inner problem."""
        theta = self.memory.policy.skeleton.theta
        work = self._gradient(self.memory.work.negatives, theta) * self.memory.share
        if self.settings.inner.retain_weight:
            work += self._gradient(self.memory.work.retain, theta)
        return work + Cost(written=6.0 * self.memory.theta)

    def _objective(self) -> Cost:
        """A value of J."""
        work = self.memory.work
        if not work.asked:
            return self._values(work.pairs)
        return self._sampled(work.asked, self.settings.objective.samples)

    def _comparison(self) -> Cost:
        """Replies to the test prompts."""
        test = self.memory.work.test
        return self._sampled(test, self.settings.evaluation.samples) if test else Cost()

    def _objective_gradient(self, splits: int) -> Cost:
        work, space = self.memory.work, self.memory.policy.skeleton.space
        if not work.asked:
            return self._gradient(work.pairs, space)
        rows = work.rollouts(self.settings)
        shape = self.memory.j_batch(splits)
        trace = self.memory.policy.gradient(shape, space)
        tokens = rows.tokens * self.reply
        batches = max(splits, splits * tokens / TOKENS_PER_BATCH)
        return _of(trace, share=tokens / shape.tokens, batches=batches)

    def _gradient(self, rows: Rows, names: tuple[str, ...]) -> Cost:
        shape = rows.largest(self.settings.data.tokens_per_batch)
        return self._over(rows, self.memory.policy.gradient(shape, names))

    def _values(self, rows: Rows) -> Cost:
        if not rows:
            return Cost()
        shape = rows.largest(self.settings.data.tokens_per_batch)
        return self._over(rows, self.memory.policy.value(shape))

    def _over(self, rows: Rows, trace: Trace) -> Cost:
        """A pass over all rows, of which the trace is of the largest batch."""
        size = self.settings.data.tokens_per_batch
        shape = rows.largest(size)
        batches = max(1.0, rows.tokens / size)
        return _of(trace, share=rows.tokens / shape.tokens, batches=batches)

    def _sampled(self, prompts: tuple[int, ...], samples: int) -> Cost:
        """Sampling replies, and the reward of each."""
        objective, count = self.settings.objective, len(prompts) * samples
        rows, new = min(objective.generation_rows, count), objective.max_new_tokens
        first, last = self.memory.policy.generation(rows, max(prompts), new)
        work = (_of(first) + _of(last) * (new * self.reply)) * (count / rows)
        if self.memory.reward is not None:
            scored = _of(self.memory.scored(prompts, samples))
            work += scored * (self.slower * count / min(ROWS, count))
        return work


def seconds(memory: Memory, command: str, rates: Rates, slower: float = 1.0) -> tuple[float, float]:
    """From, to: replies that end early, undisturbed; the longest ones, with what else runs here."""
    weights = memory.policy.skeleton.weights + memory.reward_weights
    low, high = (start + weights / read for start, read in zip(_START_S, _READ, strict=True))
    low += FASTER * Duration(memory, _SHORTEST, slower).cost(command).seconds(rates)
    high += SLOWER * Duration(memory, slower=slower).cost(command).seconds(rates)
    return low, rates.busy * high
