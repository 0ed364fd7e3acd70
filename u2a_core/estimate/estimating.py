"""The estimate of a settings file: the skeleton, the work, the machine, and what would help."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from u2a_core.config import ModelSettings, Settings, override, there
from u2a_core.errors import ConfigError, U2AError
from u2a_core.estimate.duration import seconds
from u2a_core.estimate.machine import machine, measured_rates, process_bytes
from u2a_core.estimate.memory import Memory
from u2a_core.estimate.result import Estimate, Need, Suggestion, verdict
from u2a_core.estimate.trace import Passes
from u2a_core.estimate.workload import read_workload
from u2a_core.models.policy import (
    choose_device,
    choose_dtype,
    context_of,
    length_limit,
    use_threads,
)
from u2a_core.models.skeleton import Skeleton, policy_skeleton, reward_skeleton
from u2a_core.models.templates import chat_tokenizer

COMMANDS = ("gains", "unlearn", "reweight")


def estimate(settings: Settings) -> Estimate:
    """Memory and time of gains, unlearn and reweight, before anything is loaded.

    Raises:
        ConfigError: if the settings name no model.
        ModelError: if its configuration or tokenizer does not load; `TokenError` or `AccessError`
            where the hub wants a token, or its terms accepted.
        DataError: if a file that they name cannot be used.
    """
    if not settings.model.path:
        raise ConfigError("model.path must name a model folder or hub id; got nothing.")
    tokenizer, told = chat_tokenizer(settings.model)
    skeletons = _Skeletons()
    policy = skeletons.policy(settings.model)
    use_threads(settings.threads, policy.skeleton.model)
    longest = length_limit(settings.model, context_of(policy.skeleton.config))
    work = read_workload(settings, tokenizer, longest)
    device = choose_device(settings.model.device)
    dtype = choose_dtype(settings.model.dtype, device)
    memory = Memory(settings, policy, skeletons.reward(settings), work, 0, device.type)
    width, depth = _sizes(policy.skeleton)
    tokens = work.negatives.largest(settings.data.tokens_per_batch).tokens
    rates = measured_rates(device, dtype, tokens=tokens, width=width, depth=depth)
    times = {command: seconds(memory, command, rates) for command in COMMANDS}
    memory = replace(memory, program=_program(device))  # with all that the passes have imported
    needs = tuple(Need(name, *memory.peak(name), times[name]) for name in COMMANDS)
    there_is = machine(device, rates)
    found = Estimate(
        model=_described(settings, policy.skeleton, longest, dtype),
        machine=there_is,
        needs=needs,
        suggestions=(),
        assumed=work.assumed,
        warnings=(*told, *_warnings(settings, policy.skeleton, device)),
    )
    if verdict(found.largest.peak, there_is.free) == "fits":
        return found
    helpful = _suggestions(memory, found.largest, skeletons, tokenizer)
    return replace(found, suggestions=helpful)


def _program(device: torch.device) -> int:
    """Bytes of a job's process without a model: of this one, which has imported the same."""
    import u2a_core.commands  # noqa: F401 - a job has it

    return process_bytes() if device.type == "cpu" else 0


class _Skeletons:
    """Skeletons, each built once."""

    def __init__(self) -> None:
        self._policies: dict[ModelSettings, Passes] = {}
        self._rewards: dict[tuple[str, str], Passes | None] = {}

    def policy(self, settings: ModelSettings) -> Passes:
        if settings not in self._policies:
            self._policies[settings] = Passes(policy_skeleton(settings))
        return self._policies[settings]

    def reward(self, settings: Settings) -> Passes | None:
        """Of the reward model that J or the comparison asks; None for a function."""
        spec = settings.objective.reward or settings.evaluation.reward
        if not spec or (":" in spec and not there(Path(spec))):
            return None
        key = (spec, settings.model.dtype)
        if key not in self._rewards:
            self._rewards[key] = Passes(reward_skeleton(spec, settings.model))
        return self._rewards[key]


@dataclass(frozen=True)
class _Change:
    """Something that may need less: the settings' words, and what they cost."""

    title: str
    words: dict[str, Any]
    price: str


def _suggestions(
    memory: Memory, worst: Need, skeletons: _Skeletons, tokenizer: Any
) -> tuple[Suggestion, ...]:
    """The changes that save, by estimating again with each; the one that saves most first."""
    found = []
    for change in _changes(memory):
        words = [w for name, value in change.words.items() for w in (f"--{name}", str(value))]
        try:
            changed = override(memory.settings, words)
            policy = skeletons.policy(changed.model)
            longest = length_limit(changed.model, context_of(policy.skeleton.config))
            work = memory.work
            if longest != work.longest:
                work = read_workload(changed, tokenizer, longest)
            after = replace(
                memory,
                settings=changed,
                policy=policy,
                reward=skeletons.reward(changed),
                work=work,
            )
            peak = sum(part.bytes for part in after.peak(worst.command)[1])
        except U2AError:  # a change that this model or these data do not allow
            continue
        if worst.peak - peak > 0.02 * worst.peak:
            found.append(
                Suggestion(change.title, change.words, peak, worst.peak - peak, change.price)
            )
    return tuple(sorted(found, key=lambda s: -s.saves))


def _changes(memory: Memory) -> list[_Change]:
    """What could be changed in these settings."""
    settings, work = memory.settings, memory.work
    model, size = settings.model, settings.data.tokens_per_batch
    rows = settings.objective.generation_rows
    half, shorter = max(16, size // 2), max(32, work.longest // 2)
    full, wide = model.parameters == "full", memory.policy.skeleton.weights
    numbers = memory.policy.skeleton.parameters
    changes: list[tuple[bool, str, dict[str, Any], str]] = [
        (full, "Train a LoRA adapter", {"model.parameters": "lora", "model.lora_slopes": "adapter"},
         "the weights themselves stay; the adapter's first slopes see its B alone"),
        (full, "Train the last layer only", {"model.parameters": "last_n"},
         "unlearning reaches the last layer alone"),
        (model.lora_slopes == "weights" and model.parameters == "lora",
         "Take slopes in the adapter's space", {"model.lora_slopes": "adapter"},
         "the adapter's first slopes see its B alone"),
        (wide > 3 * numbers, "Compute in bfloat16", {"model.dtype": "bfloat16"},
         "fewer digits: steps and slopes are rounded"),
        (settings.objective.splits > 0, "Leave out the gains' standard errors",
         {"objective.splits": 0}, "gains without intervals"),
        (size > 16, f"Halve the batch to {half} tokens", {"data.tokens_per_batch": half},
         "the same result, somewhat slower"),
        (work.longest > 64, f"Cut samples at {shorter} tokens", {"model.max_length": shorter},
         "longer replies are cut"),
        (rows > 8 and bool(work.asked), f"Sample {max(8, rows // 4)} replies together",
         {"objective.generation_rows": max(8, rows // 4)},
         "slower sampling"),
        (settings.inner.optimizer == "adamw", "Use plain gradient descent",
         {"inner.optimizer": "sgd"}, "other steps; set the learning rate anew"),
    ]  # fmt: skip
    return [_Change(title, words, price) for holds, title, words, price in changes if holds]


def _sizes(skeleton: Skeleton) -> tuple[int, int]:
    """Hidden size, and the other size of the largest matrix of a layer."""
    config = skeleton.config
    width = int(config.hidden_size)
    return width, int(getattr(config, "intermediate_size", None) or 4 * width)


def _described(
    settings: Settings, skeleton: Skeleton, longest: int, dtype: torch.dtype
) -> dict[str, Any]:
    return {
        "path": settings.model.path,
        "parameters": skeleton.parameters,
        "trained": skeleton.numbers_in(skeleton.theta),
        "how": settings.model.parameters,
        "layers": int(getattr(skeleton.config, "num_hidden_layers", 0)),
        "vocabulary": int(skeleton.config.vocab_size),
        "dtype": str(dtype).removeprefix("torch."),
        "longest": longest,
    }


def _warnings(settings: Settings, skeleton: Skeleton, device: torch.device) -> tuple[str, ...]:
    own, told = settings.model, "is not counted here, and lowers what is needed"
    found = [f"model.quantize {own.quantize} {told}."] if own.quantize != "none" else []
    found += [f"model.activation_checkpointing {told}."] if own.activation_checkpointing else []
    context = context_of(skeleton.config)
    if context and settings.model.max_length > context:
        found.append(
            f"model.max_length must be at most the model's context of {context} tokens; got "
            f"{settings.model.max_length}. A job with it would be refused."
        )
    if device.type == "cuda":
        import psutil

        free = psutil.virtual_memory().available
        if skeleton.weights > free:
            found.append(
                "The weights pass through the machine's own memory on their way to the device; it "
                f"has {free / 2**30:.1f} GiB free, and {skeleton.weights / 2**30:.1f} are needed."
            )
    return tuple(found)
