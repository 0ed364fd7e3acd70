"""The bytes of a command at its worst moment, phase by phase, as the commands really hold them.

T: bytes of the trained parameters θ; S: of the parameters in whose space slopes are taken. Kept
beside the model are θ₀ (T), while unlearning the best θ (T) and the optimizer's moments, and while
scoring the parts of ∇J and the directions made of them (several S). A pass's activations, logits
and gradients come from its trace.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from u2a_core.config import Settings
from u2a_core.estimate.result import Part
from u2a_core.estimate.trace import ACTIVATIONS, GRADIENTS, LOGITS, WHOLE, Passes, Shape, Trace
from u2a_core.estimate.workload import Workload
from u2a_core.models.generation import TOKENS_PER_BATCH
from u2a_core.models.scorer import ROWS
from u2a_core.models.skeleton import policy_skeleton

_RIDGE_VECTORS = 5
"""∇J, u, θ, θ moved, and the gradient on one side, while the neglected curvature is measured."""
_CG_VECTORS = 8
"""u, the vector solved for, three of conjugate gradients, and θ, θ moved, one side's gradient."""

_PAGES = 0.033
"""Share of the memory that lies beside tensors on a CPU: pages that are used in part."""
_CACHING = 0.1
"""The same of an accelerator's caching allocator; not measured here."""

ABOUT = {
    "program": "Python with its libraries, before a model is there",
    "weights": "the model's parameters",
    "adapter": "the LoRA adapter",
    "reward model": "its parameters",
    "copies of the weights": "the original and the best trained parameters",
    "optimizer": "AdamW's two moments of every trained parameter",
    "gain directions": "parts of ∇J and directions for gains and their standard errors",
    "gradients": "of the trained parameters",
    "activations": "what a batch leaves for the backward pass",
    "logits": "vocabulary × response tokens of a batch",
    WHOLE: "of one quantized layer at a time, while it computes",
    "generation cache": "keys and values of the replies that are sampled together",
    "allocator": "what the heap keeps of blocks that passes have freed",
}


@dataclass(frozen=True)
class Phase:
    """Something a command does, and what it holds meanwhile beside what is always there."""

    name: str
    held: dict[str, int]

    @property
    def total(self) -> int:
        """Bytes."""
        return sum(self.held.values())


@dataclass(frozen=True)
class Memory:
    """The memory of commands on settings.

    Attributes:
        settings: what is asked for.
        policy: the model's passes.
        reward: the reward model's; None where there is none.
        work: how much there is to compute.
        program: bytes of the process without a model.
        device: the kind of it: cpu, cuda, mps.
        apart: the kind of the reward model's device, where it is another; else empty.
    """

    settings: Settings
    policy: Passes
    reward: Passes | None
    work: Workload
    program: int
    device: str = "cpu"
    apart: str = ""

    @property
    def theta(self) -> int:
        """T."""
        return self.policy.skeleton.bytes_of(self.policy.skeleton.theta)

    @property
    def space(self) -> int:
        """S."""
        return self.policy.skeleton.bytes_of(self.policy.skeleton.space)

    @property
    def reward_weights(self) -> int:
        """Bytes of the reward model; 0 without."""
        return self.reward.skeleton.weights if self.reward else 0

    def peak(self, command: str) -> tuple[str, tuple[Part, ...]]:
        """The worst phase of gains, reweight or unlearn, and the parts of its memory."""
        worst = max(self.phases(command), key=lambda phase: phase.total)
        parts = {**self._always(), **worst.held}
        parts["allocator"] = self._allocator(command, sum(parts.values()))
        return worst.name, _listed(parts)

    def beside(self, program: int) -> tuple[Part, ...]:
        """The parts of a reward model's memory on a device of its own; none where there is none.

        Args:
            program: bytes of the process there.
        """
        if self.reward is None or not self.apart:
            return ()
        read = [self.scored(prompts, samples).total for _, prompts, samples in self.sampled()]
        parts = {"program": program, "reward model": self.reward_weights}
        parts[ACTIVATIONS] = max(read, default=0)
        parts["allocator"] = round(_beside_tensors(self.apart) * sum(parts.values()))
        return _listed(parts)

    def totals(self, command: str) -> list[int]:
        """Bytes of each phase by itself, in their order; the largest is the peak."""
        always = sum(self._always().values())
        alone = [always + phase.total for phase in self.phases(command)]
        return [total + self._allocator(command, total) for total in alone]

    def _allocator(self, command: str, total: int) -> int:
        """What stays allocated beside the tensors.

        On a CPU blocks below 32 MiB come from the heap, and gaps between those that stay are not
        given back. An adapter's narrow tensors lie between large ones that are freed at once: about
        as much again as a pass holds, or would hold if its activations were not computed again.
        Without an adapter those that are leave gaps between the gradients: as much as a pass holds.
        With every block mapped by itself (MALLOC_MMAP_THRESHOLD_) the same runs hold their tensors
        alone.
        """
        beside, model = round(_beside_tensors(self.device) * total), self.settings.model
        lora = model.parameters == "lora"
        if self.device != "cpu" or not (lora or model.activation_checkpointing):
            return beside
        passing = (ACTIVATIONS, LOGITS, "generation cache")
        phases = (self._keeping if lora else self).phases(command)
        return beside + max(sum(phase.held.get(n, 0) for n in passing) for phase in phases)

    @cached_property
    def _keeping(self) -> Memory:
        """The same, where no activations are computed again."""
        model = self.settings.model
        if not model.activation_checkpointing:
            return self
        model = model.model_copy(update={"activation_checkpointing": False})
        settings = self.settings.model_copy(update={"model": model})
        return replace(self, settings=settings, policy=Passes(policy_skeleton(model)))

    def phases(self, command: str) -> Iterator[Phase]:
        """What the command does that may need most."""
        descends = command != "gains"
        copies = {"copies of the weights": self.theta * (2 if descends else 1)}
        moments = 2 * self.theta if self.settings.inner.optimizer == "adamw" else 0
        kept = {**copies, "optimizer": moments} if descends else copies
        yield from self._sampling(kept)
        if command != "unlearn":
            yield from self._scoring(copies)
        if descends:
            yield from self._stepping(kept)

    def _always(self) -> dict[str, int]:
        skeleton = self.policy.skeleton
        lora = self.settings.model.parameters == "lora"
        return {
            "program": self.program,
            "weights": skeleton.weights - (self.theta if lora else 0),
            "adapter": self.theta if lora else 0,
            "reward model": 0 if self.apart else self.reward_weights,
        }

    def sampled(self) -> Iterator[tuple[str, tuple[int, ...], int]]:
        """What replies are sampled for: name, lengths of the prompts, replies each."""
        objective, evaluation = self.settings.objective, self.settings.evaluation
        if self.work.asked:
            yield "sampling replies for J", self.work.asked, objective.samples
        if self.work.test:
            yield "sampling replies to compare", self.work.test, evaluation.samples

    def scored(self, prompts: tuple[int, ...], samples: int) -> Trace:
        """The reward model's reading of a batch of replies."""
        assert self.reward is not None
        rows = min(ROWS, len(prompts) * samples)
        return self.reward.scores(rows, max(prompts) + self.settings.objective.max_new_tokens)

    def _sampling(self, kept: dict[str, int]) -> Iterator[Phase]:
        """Generation for J and for the comparison, and the reward model's reading of it."""
        objective = self.settings.objective
        for name, prompts, samples in self.sampled():
            rows = min(objective.generation_rows, len(prompts) * samples)
            width, new = max(prompts), objective.max_new_tokens
            cache = self.policy.cache_bytes(rows, width + new)
            for trace in self.policy.generation(rows, width, new):
                held = _sum(trace)
                rest = max(0, held[ACTIVATIONS] - cache)
                yield Phase(name, {**kept, **held, ACTIVATIONS: rest, "generation cache": cache})
            if self.reward is not None and not self.apart:
                scored = _sum(self.scored(prompts, samples))
                yield Phase("scoring replies by the reward model", {**kept, **scored})

    def _scoring(self, kept: dict[str, int]) -> Iterator[Phase]:
        """∇J in parts, its curvature, and the slopes along directions."""
        splits, names = self.splits, self.policy.skeleton.space
        parts = splits if splits > 1 else 0
        trace = self.policy.gradient(self.j_batch(splits), names)
        held = {**kept, **_sum(trace), "gain directions": splits * self.space}
        yield Phase("the gradient of J", held)
        negatives = self.work.negatives
        shape = negatives.largest(self.settings.data.tokens_per_batch)
        several = negatives.several(self.settings.data.tokens_per_batch)
        trace = self.policy.gradient(shape, names)
        cg = self.settings.outer.curvature == "cg"
        vectors = parts + (_CG_VECTORS if cg else _RIDGE_VECTORS) + several
        held = {**kept, **_sum(trace), "gain directions": vectors * self.space}
        yield Phase("measuring the curvature", held)
        contracted = self.policy.slopes(shape, parts + 1)
        held = {**kept, **_sum(contracted), "gain directions": (parts + 1) * self.space}
        yield Phase("slopes of the samples", held)
        yield Phase("checking the slopes", {**kept, **_sum(trace), "gain directions": self.space})

    def _stepping(self, kept: dict[str, int]) -> Iterator[Phase]:
        """A step of the inner problem."""
        size, inner = self.settings.data.tokens_per_batch, self.settings.inner
        shapes = [self.work.negatives.largest(size, self.share)]
        shapes += [self.work.retain.largest(size)] if inner.retain_weight else []
        total = self.theta if self.work.negatives.several(size) or inner.retain_weight else 0
        for shape in shapes:
            trace = _sum(self.policy.gradient(shape, self.policy.skeleton.theta))
            trace[GRADIENTS] = trace.get(GRADIENTS, 0) + total
            yield Phase("a step of unlearning", {**kept, **trace})
        yield Phase("a step of the optimizer", {**kept, GRADIENTS: 2 * self.theta})

    @property
    def splits(self) -> int:
        """Parts of ∇J that are kept apart."""
        units = len(self.work.asked) or len(self.work.pairs) // 2
        return max(1, min(self.settings.objective.splits, units))

    @property
    def share(self) -> float:
        """Of the negatives, in a step."""
        drawn = self.settings.inner.samples_per_step
        return min(1.0, drawn / len(self.work.negatives)) if drawn else 1.0

    def j_batch(self, splits: int) -> Shape:
        """The batch of J's gradient that takes most: the rows of one part."""
        if self.work.asked:
            return self.work.rollouts(self.settings).largest(TOKENS_PER_BATCH, 1 / splits)
        return self.work.pairs.largest(self.settings.data.tokens_per_batch, 1 / splits)


def _sum(trace: Trace) -> dict[str, int]:
    return {ACTIVATIONS: 0, **trace.peak}


def _beside_tensors(device: str) -> float:
    """Share of the memory that lies beside tensors."""
    return _PAGES if device == "cpu" else _CACHING


def _listed(parts: dict[str, int]) -> tuple[Part, ...]:
    return tuple(Part(name, parts[name], ABOUT[name]) for name in ABOUT if parts.get(name, 0) > 0)
