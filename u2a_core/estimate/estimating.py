"""The estimate of a settings file: the skeleton, the work, the machine, and what would help."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from u2a_core.config import ModelSettings, Settings, override
from u2a_core.errors import ConfigError, U2AError
from u2a_core.estimate.duration import seconds
from u2a_core.estimate.machine import Rates, machine, measured_rates, process_bytes
from u2a_core.estimate.memory import Memory
from u2a_core.estimate.result import Beside, Estimate, Machine, Need, Suggestion, verdict
from u2a_core.estimate.trace import Passes
from u2a_core.estimate.workload import read_workload
from u2a_core.models.checks import check_vocabulary
from u2a_core.models.policy import (
    choose_dtype,
    context_of,
    is_there,
    length_limit,
    planned_device,
    use_threads,
)
from u2a_core.models.rewards import check_reward, is_function
from u2a_core.models.skeleton import Skeleton, policy_skeleton, reward_skeleton
from u2a_core.models.templates import chat_tokenizer

COMMANDS = ("gains", "unlearn", "reweight")


def estimate(settings: Settings) -> Estimate:
    """Memory and time of gains, unlearn and reweight, before anything is loaded.

    Raises:
        ConfigError: if the settings name no model.
        ModelError: if its configuration or tokenizer does not load, or they do not go together;
            `TokenError` or `AccessError` where the hub wants a token, or its terms accepted.
        DataError: if a file that they name cannot be used.
    """
    if not settings.model.path:
        raise ConfigError("model.path must name a model folder or hub id; got nothing.")
    tokenizer, told = chat_tokenizer(settings.model)
    skeletons = _Skeletons()
    policy = skeletons.policy(settings.model)
    told += check_vocabulary(policy.skeleton.model, tokenizer, settings.model.path)
    use_threads(settings.threads, policy.skeleton.model)
    context = context_of(policy.skeleton.config)
    longest = length_limit(settings.model, context)
    work = read_workload(settings, tokenizer, longest, context)
    device = planned_device(settings.model.device)
    if spec := settings.objective.reward or settings.evaluation.reward:
        check_reward(spec, settings.model, settings.objective)
    reward = skeletons.reward(settings)
    apart = _apart(settings, reward)
    memory = Memory(settings, policy, reward, work, 0, device.type, apart.type if apart else "")
    rates = _rates(memory, device)
    theirs = _rates(memory, apart) if apart else rates
    times = _times(memory, rates, theirs)
    memory = replace(memory, program=_program(device))  # with all that the passes have imported
    needs = tuple(Need(name, *memory.peak(name), times[name]) for name in COMMANDS)
    there_is = _machine(device, rates)
    found = Estimate(
        model=_described(settings, policy.skeleton, longest, device),
        machine=there_is,
        needs=needs,
        suggestions=(),
        assumed=work.assumed,
        warnings=(*told, *work.left_out, *_warnings(settings, policy.skeleton, device)),
        beside=_beside(memory, apart, theirs) if apart else None,
    )
    if verdict(found.largest.peak, there_is.free) == "fits":
        return found
    helpful = _suggestions(memory, found.largest, skeletons, tokenizer)
    return replace(found, suggestions=helpful)


def _apart(settings: Settings, reward: Passes | None) -> torch.device | None:
    """The device of a reward model, where it is another than the policy's."""
    if reward is None or not settings.objective.reward_device:
        return None
    names = (settings.model.device, settings.objective.reward_device)
    own, other = (planned_device(name) for name in names)
    return None if (own.type, own.index or 0) == (other.type, other.index or 0) else other


def _beside(memory: Memory, device: torch.device, rates: Rates | None) -> Beside:
    """What the reward model needs there."""
    return Beside(_machine(device, rates), memory.beside(_program(device)))


def _machine(device: torch.device, rates: Rates | None) -> Machine:
    """What there is; nothing of a device that is planned with."""
    if rates is None:
        return Machine(str(device), f"this machine has no {device}", None, None, None)
    return machine(device, rates)


def _times(
    memory: Memory, rates: Rates | None, theirs: Rates | None
) -> dict[str, tuple[float, float] | None]:
    """The time of each command, where the devices of policy and reward are there to be timed."""
    if rates is None or theirs is None:
        return dict.fromkeys(COMMANDS)
    slower = rates.flops / theirs.flops
    return {command: seconds(memory, command, rates, slower) for command in COMMANDS}


def _rates(memory: Memory, device: torch.device) -> Rates | None:
    """Of a device, for matrices like the policy's; None where it is not there."""
    if not is_there(device):
        return None
    width, depth = _sizes(memory.policy.skeleton)
    size = memory.settings.data.tokens_per_batch
    dtype = choose_dtype(memory.settings.model.dtype, device)
    tokens = memory.work.negatives.largest(size).tokens
    return measured_rates(device, dtype, tokens=tokens, width=width, depth=depth)


def _program(device: torch.device) -> int:
    """Bytes of a job's process without a model: of this one, which has imported the same."""
    import u2a_core.commands  # noqa: F401 - a job has it

    return process_bytes() if device.type == "cpu" else 0


class _Skeletons:
    """Skeletons, each built once."""

    def __init__(self) -> None:
        self._policies: dict[ModelSettings, Passes] = {}
        self._rewards: dict[tuple[str, ModelSettings], Passes] = {}

    def policy(self, settings: ModelSettings) -> Passes:
        if settings not in self._policies:
            self._policies[settings] = Passes(policy_skeleton(settings))
        return self._policies[settings]

    def reward(self, settings: Settings) -> Passes | None:
        """Of the reward model that J or the comparison asks; None for a function."""
        spec = settings.objective.reward or settings.evaluation.reward
        if not spec or is_function(spec):
            return None
        device = settings.objective.reward_device or settings.model.device
        key = (spec, settings.model.model_copy(update={"device": device}))
        if key not in self._rewards:
            self._rewards[key] = Passes(reward_skeleton(*key))
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
            context, work = context_of(policy.skeleton.config), memory.work
            longest = length_limit(changed.model, context)
            if longest != work.longest or work.left_out:  # a shorter reply leaves more room
                work = read_workload(changed, tokenizer, longest, context)
            reward = skeletons.reward(changed)
            apart = _apart(changed, reward)
            after = replace(
                memory,
                settings=changed,
                policy=policy,
                reward=reward,
                work=work,
                apart=apart.type if apart else "",
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
    numbers, card = memory.policy.skeleton.parameters, memory.device == "cuda"
    changes: list[tuple[bool, str, dict[str, Any], str]] = [
        (full, "Train a LoRA adapter", {"model.parameters": "lora", "model.lora_slopes": "adapter"},
         "the weights themselves stay; the adapter's first slopes see its B alone"),
        (full, "Train the last layer only", {"model.parameters": "last_n"},
         "unlearning reaches the last layer alone"),
        (model.lora_slopes == "weights" and model.parameters == "lora",
         "Take slopes in the adapter's space", {"model.lora_slopes": "adapter"},
         "the adapter's first slopes see its B alone"),
        (not model.activation_checkpointing, "Compute activations again",
         {"model.activation_checkpointing": True}, "about a third more time in a gradient"),
        (card and model.quantize == "none", "Hold the base's weights in 4 bits",
         {"model.quantize": "4bit", "model.parameters": "lora", "model.lora_slopes": "adapter"},
         "rounded weights, slower products; bitsandbytes must be there; computed, not measured"),
        (card and memory.reward is not None and not memory.apart,
         "Keep the reward model on the CPU", {"objective.reward_device": "cpu"},
         "replies are scored more slowly, in this machine's own memory"),
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
    settings: Settings, skeleton: Skeleton, longest: int, device: torch.device
) -> dict[str, Any]:
    return {
        "path": settings.model.path,
        "parameters": skeleton.parameters,
        "trained": skeleton.numbers_in(skeleton.theta),
        "how": settings.model.parameters,
        "layers": int(getattr(skeleton.config, "num_hidden_layers", 0)),
        "vocabulary": int(skeleton.config.vocab_size),
        "dtype": str(choose_dtype(settings.model.dtype, device)).removeprefix("torch."),
        "longest": longest,
    }


def _warnings(settings: Settings, skeleton: Skeleton, device: torch.device) -> tuple[str, ...]:
    found, kind = [], settings.model.quantize
    if kind != "none":
        refused = "" if device.type == "cuda" else " A job with it needs CUDA: refused here."
        found.append(
            f"What model.quantize {kind} needs is computed by the formats of bitsandbytes, and not "
            f"measured.{refused}"
        )
    dtype = choose_dtype(settings.model.dtype, device)
    if dtype.itemsize < 4 and settings.model.parameters != "lora":
        found.append(
            f"Weights trained in {str(dtype).removeprefix('torch.')} do not follow steps below "
            f"{torch.finfo(dtype).eps / 4:.2%} of themselves: a small inner.learning_rate moves "
            "few of them, and the run tells how many stood still. Set model.dtype float32, or "
            "model.parameters lora, whose adapter is float32."
        )
    context = context_of(skeleton.config)
    if context and settings.model.max_length > context:
        found.append(
            f"model.max_length must be at most the model's context of {context} tokens; got "
            f"{settings.model.max_length}. A job with it would be refused."
        )
    if device.type == "cuda" and is_there(device):
        import psutil

        free = psutil.virtual_memory().available
        if skeleton.weights > free:
            found.append(
                "The weights pass through the machine's own memory on their way to the device; it "
                f"has {free / 2**30:.1f} GiB free, and {skeleton.weights / 2**30:.1f} are needed."
            )
    return tuple(found)
