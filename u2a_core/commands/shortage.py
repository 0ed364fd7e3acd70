"""Out of memory, whoever says so, as a sentence with a next step; and memory given back."""

from __future__ import annotations

import ctypes
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from u2a_core.errors import MemoryShortageError

_SAID = ("out of memory", "can't allocate memory", "not enough memory")
"""Words of torch's allocators: CUDA and MPS, the CPU's on Linux, on Windows."""
_ASKED = re.compile(r"tried to allocate ([\d.]+ ?\w+)", re.IGNORECASE)


@contextmanager
def shortage_told() -> Iterator[None]:
    """While open, a lack of memory is raised as `MemoryShortageError`; all else as it is."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        known = isinstance(error, MemoryError | torch.OutOfMemoryError)
        if not known and not any(words in str(error) for words in _SAID):
            raise
        asked = _ASKED.search(str(error))
        more = f" (it asked for another {asked[1]})" if asked else ""
        raise MemoryShortageError(
            f"The job must fit in memory; it ran out{more}. The Model page's check, or u2a "
            "estimate CONFIG.yaml, tells what takes it and what saves most: a LoRA adapter, a "
            "smaller data.tokens_per_batch or objective.generation_rows, bfloat16, a shorter "
            "model.max_length."
        ) from error


def give_back() -> None:
    """Returns free pages of the C heap to the system, which glibc keeps between blocks in use.

    They grow with every batch whose shape differs: by 17 % over 20,000 samples, 1 % with this.
    Where the C library is another one, it does nothing.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)
