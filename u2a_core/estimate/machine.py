"""What the machine has: free memory, and how fast it computes, measured in a moment."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from u2a_core.estimate.result import Machine

_BUDGET_S = 0.15
_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Rates:
    """How fast the device is.

    Attributes:
        flops: operations a second in a matrix product.
        written: bytes a second that an elementwise operation writes.
        calls: operations a second, however small.
        busy: how many times as long it takes now, because others compute here, too.
    """

    flops: float
    written: float
    calls: float
    busy: float = 1.0

    def seconds(self, flops: float, written: float, calls: float) -> float:
        """How long so much work takes at these rates, undisturbed."""
        return flops / self.flops + written / self.written + calls / self.calls


def process_bytes() -> int:
    """Resident memory of this process."""
    return int(psutil.Process().memory_info().rss)


def machine(device: torch.device, rates: Rates) -> Machine:
    """The memory that a job on the device can have."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        name = torch.cuda.get_device_name(device)
        return Machine(str(device), f"memory of {name}", free, total, rates.flops)
    return Machine(str(device), "memory of this machine", *own_memory(), rates.flops)


def own_memory() -> tuple[int, int]:
    """Free and total bytes of this machine, or of its container, once this process is gone."""
    memory = psutil.virtual_memory()
    free, total = memory.available + process_bytes(), memory.total
    bound = _container()
    if bound is not None:
        free, total = min(free, bound[0] + process_bytes()), min(total, bound[1])
    return free, total


def _container() -> tuple[int, int] | None:
    """Free and total bytes that a container grants, where it sets a bound."""
    try:
        bound = int((_CGROUP / "memory.max").read_text())
        used = int((_CGROUP / "memory.current").read_text())
        stat = dict(line.split() for line in (_CGROUP / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # no container, or no bound in it
        return None
    return bound - used + int(stat.get("inactive_file", 0)), bound


_MOST_FLOPS = 20_000_000_000
"""Of a product that is timed."""


def measured_rates(
    device: torch.device, dtype: torch.dtype, *, tokens: int, width: int, depth: int
) -> Rates:
    """Rates of this moment, for matrices like the model's.

    Args:
        device: where.
        dtype: of the weights.
        tokens: of a batch.
        width: hidden size.
        depth: the other size of the largest layer.
    """
    if 2 * tokens * width * depth > _MOST_FLOPS:  # larger ones run no faster, and take minutes
        depth = min(depth, width)
        tokens = min(tokens, max(64, _MOST_FLOPS // (2 * width * depth)))
    left = torch.randn(tokens, width, device=device).to(dtype)
    right = torch.randn(width, depth, device=device).to(dtype)
    one = torch.zeros(1, device=device)
    begun, used = time.perf_counter(), time.process_time()
    product = _seconds(device, lambda: left @ right)
    added = _seconds(device, lambda: left + left)
    small = _seconds(device, lambda: one + one)
    return Rates(
        flops=2.0 * tokens * width * depth / product,
        written=left.numel() * left.element_size() / max(1e-9, added - 0.5 * small),
        calls=1 / small,
        busy=_busy(time.perf_counter() - begun, time.process_time() - used),
    )


def _busy(wall: float, used: float) -> float:
    """Time over computing time: 1 where this process had a core for itself."""
    return max(1.0, wall / max(used, 1e-3 * wall))


def _seconds(device: torch.device, work: Callable[[], object]) -> float:
    """The lower quartile of the times of a call: others interrupt one now and then."""
    times: list[float] = []
    begun = time.perf_counter()
    while time.perf_counter() - begun < _BUDGET_S or len(times) < 4:
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    return sorted(times)[len(times) // 4]
