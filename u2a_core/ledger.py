"""The compute ledger of a descent: passes through the model, tokens, seconds, peak memory.

Counted by a hook on the model's input embedding, which sees the token ids of every forward pass:
of losses, of J, of scoring, and of sampling (one pass a new token, over the rows still carried).
Tokens are those that are computed, padding included.

A backward pass leaves no trace there, so it is counted together with its forward pass. That holds
because every forward pass of this library that runs with gradients enabled is followed by exactly
one backward pass: `params.gradient` of the loss of a batch (unlearning, retain term, objectives,
Hessian products, baselines), or the pass through the activations that contracts slopes. Whatever
needs no gradient (values of J, reference log-probabilities, sampling) runs under `no_grad`. The
second passes of reverse-over-forward tricks are not used here, and would not be seen.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

_COUNTS = ("forward_passes", "backward_passes", "tokens", "backward_tokens")


@dataclass
class Ledger:
    """What has been computed while `counting`; sums over all times it was open.

    Attributes:
        forward_passes: calls of the model; a sampled token is one, for all rows together.
        backward_passes: those that were followed by a backward pass.
        tokens: token positions of the forward passes, sampled ones and padding included.
        backward_tokens: token positions of the backward passes.
        seconds: wall time.
        peak_memory_mb: most memory at a time, in 10⁶ bytes.
        memory_of: what that is: `cuda` (allocated by torch while counting) or `process` (peak
            resident memory of the process, loading included; it cannot be told apart).
    """

    forward_passes: int = 0
    backward_passes: int = 0
    tokens: int = 0
    backward_tokens: int = 0
    seconds: float = 0.0
    peak_memory_mb: float = 0.0
    memory_of: str = ""

    @contextmanager
    def counting(self, model: nn.Module) -> Iterator[None]:
        """While open, the model's passes are counted."""

        def see(_: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], __: Any) -> None:
            ids = args[0] if args else next(iter(kwargs.values()))
            assert isinstance(ids, Tensor)
            self._add(ids.numel(), backward=torch.is_grad_enabled())

        device, begun = next(model.parameters()).device, time.monotonic()
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        embedding = model.get_input_embeddings()  # type: ignore[operator]
        hook = embedding.register_forward_hook(see, with_kwargs=True)
        try:
            yield
        finally:
            hook.remove()
            self.seconds += time.monotonic() - begun
            self.memory_of, peak = _peak_memory(device)
            self.peak_memory_mb = max(self.peak_memory_mb, peak / 1e6)

    def facts(self) -> dict[str, Any]:
        """The entries by name, for reports and checkpoints; `Ledger(**facts)` continues them."""
        return dict(vars(self))

    def counts(self) -> dict[str, int]:
        """The entries that are the same on every machine: passes and tokens."""
        return {name: getattr(self, name) for name in _COUNTS}

    def _add(self, tokens: int, *, backward: bool) -> None:
        self.forward_passes += 1
        self.tokens += tokens
        if backward:
            self.backward_passes += 1
            self.backward_tokens += tokens


def _peak_memory(device: torch.device) -> tuple[str, float]:
    """Of what, and how many bytes."""
    if device.type == "cuda":
        return "cuda", float(torch.cuda.max_memory_allocated(device))
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return "process", float(resident * (1 if sys.platform == "darwin" else 1024))
