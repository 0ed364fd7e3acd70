"""What a pass takes: the most bytes alive at a time, operations of arithmetic, bytes written.

Counted while a `Skeleton`'s pass runs: every tensor that an operation makes is alive until nothing
holds it any more, exactly as in the real pass, of which nothing is computed.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from u2a_core.models.skeleton import Skeleton

LOGITS, GRADIENTS, ACTIVATIONS = "logits", "gradients", "activations"
WHOLE = "dequantized weights"


@dataclass(frozen=True)
class Trace:
    """What a pass takes.

    Attributes:
        peak: bytes alive at the worst moment, by kind; parameters left out.
        kept: bytes alive at its end.
        flops: of its matrix products.
        written: bytes that its operations write.
        calls: operations.
    """

    peak: dict[str, int]
    kept: int
    flops: float
    written: float
    calls: float

    @property
    def total(self) -> int:
        """Bytes at the worst moment."""
        return sum(self.peak.values())


@dataclass
class _Tally(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows the storages that come and go."""

    known: set[int]
    kind: Callable[[Tensor], str]
    live: Counter[str] = field(default_factory=Counter)
    peak: dict[str, int] = field(default_factory=dict)
    flops: float = 0.0
    written: float = 0.0
    calls: float = 0.0

    def __post_init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        self.calls += 1
        count = flop_registry.get(func._overloadpacket)
        if count is not None:
            self.flops += count(*args, **(kwargs or {}), out_val=out)
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                self._see(tensor)
        return out

    def _see(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self.known:
            return
        kind = self.kind(tensor)
        self.known.add(key)
        self.live[kind] += size
        self.written += size
        if self.live.total() > sum(self.peak.values()):
            self.peak = dict(self.live)
        weakref.finalize(storage, self._free, key, kind, size)

    def _free(self, key: int, kind: str, size: int) -> None:
        self.known.discard(key)
        self.live[kind] -= size


def traced(skeleton: Skeleton, logits: int, work: Callable[[], Any]) -> tuple[Trace, Any]:
    """What `work` takes, and what it returns.

    Args:
        skeleton: whose passes they are.
        logits: how many numbers the logits of a pass have.
        work: runs the passes.
    """
    held = [*skeleton.model.parameters(), *skeleton.model.buffers()]
    shapes = {p.shape: GRADIENTS for p in skeleton.model.parameters() if p.dim() > 1}
    shapes |= {torch.Size(reversed(shape)): kind for shape, kind in shapes.items()}
    shapes |= {layer.shape: WHOLE for layer in skeleton.packed}
    known = {tensor.untyped_storage()._cdata for tensor in held}
    tally = _Tally(known, lambda tensor: _kind(tensor, logits, shapes))
    with skeleton.mode, tally:
        out = work()
    trace = Trace(tally.peak, tally.live.total(), tally.flops, tally.written, tally.calls)
    return trace, out


def _kind(tensor: Tensor, logits: int, shapes: Mapping[torch.Size, str]) -> str:
    return LOGITS if tensor.numel() == logits else shapes.get(tensor.shape, ACTIVATIONS)


@dataclass(frozen=True)
class Shape:
    """A batch: rows of a width, of which so many tokens are scored."""

    rows: int
    width: int
    responses: int

    @property
    def tokens(self) -> int:
        """Padding included."""
        return self.rows * self.width


@dataclass(frozen=True, eq=False)
class Passes:
    """The passes of a policy, each traced once a shape."""

    skeleton: Skeleton

    @cache  # noqa: B019 - lives as long as the estimate
    def gradient(self, shape: Shape, names: tuple[str, ...]) -> Trace:
        """A loss and its gradient over the named parameters."""
        return self._scored(
            shape, lambda s: s.gradient(shape.rows, shape.width, shape.responses, names)
        )

    @cache  # noqa: B019
    def slopes(self, shape: Shape, directions: int) -> Trace:
        """A pass through the activations, contracted along so many directions."""
        return self._scored(
            shape, lambda s: s.slopes(shape.rows, shape.width, shape.responses, directions)
        )

    @cache  # noqa: B019
    def value(self, shape: Shape) -> Trace:
        """A loss without a gradient."""
        return self._scored(shape, lambda s: s.value(shape.rows, shape.width, shape.responses))

    @cache  # noqa: B019
    def generation(self, rows: int, width: int, new: int) -> tuple[Trace, Trace]:
        """Reading the prompts, and the last token of the replies, with the cache of all before."""
        logits = rows * self.vocabulary
        first, kept = traced(self.skeleton, logits, lambda: self.skeleton.prefill(rows, width))
        _, long = traced(
            self.skeleton, logits, lambda: self.skeleton.prefill(rows, width + new - 1)
        )
        del kept
        last, _ = traced(
            self.skeleton, logits, lambda: self.skeleton.decode(rows, width + new - 1, long)
        )
        return first, last

    @cache  # noqa: B019
    def cache_bytes(self, rows: int, length: int) -> int:
        """What a generation keeps of so many tokens."""
        trace, _ = traced(self.skeleton, 0, lambda: self.skeleton.prefill(rows, length))
        return trace.kept

    @cache  # noqa: B019
    def scores(self, rows: int, width: int) -> Trace:
        """Of a reward model."""
        return traced(self.skeleton, 0, lambda: self.skeleton.scores(rows, width))[0]

    @property
    def vocabulary(self) -> int:
        """V."""
        return int(self.skeleton.config.vocab_size)

    def _scored(self, shape: Shape, work: Callable[[Skeleton], Any]) -> Trace:
        logits = shape.responses * self.vocabulary
        return traced(self.skeleton, logits, lambda: work(self.skeleton))[0]
