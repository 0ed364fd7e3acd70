"""`u2a doctor`: what this machine offers, in seconds, without a model and without a network.

Python and packages, devices with their memory and number formats, attention kernels, quantization,
memory, disk, the hub; and what is missing or scarce, a sentence each. A token is never read out:
whether there is one is all that is told.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import constants

from u2a_core.config import there
from u2a_core.estimate.machine import own_memory

_PACKAGES = (
    *("u2a-workbench", "torch", "transformers", "peft", "tokenizers", "datasets", "accelerate"),
    *("safetensors", "huggingface-hub", "streamlit"),
)
_OPTIONAL = {
    "bitsandbytes": "model.quantize 8bit and 4bit",
    "flash-attn": "model.attention flash_attention_2",
    "trl": "a check against TRL's DPO",
    "sentencepiece": "tokenizers without a tokenizer.json",
}
_NVIDIA = Path("/proc/driver/nvidia/version")
_SCARCE_DISK = 20 * 2**30
_SCARCE_MEMORY = 4 * 2**30
_ENOUGH_OF_A_GPU = 0.5


@dataclass(frozen=True)
class Device:
    """Where a model can compute. Memory in bytes."""

    name: str
    about: str
    free: int
    total: int
    bfloat16: bool


@dataclass(frozen=True)
class Findings:
    """What `u2a doctor` tells.

    Attributes:
        python, system: in words.
        packages: name → version; empty where it is not installed.
        optional: the same, of packages that not everyone needs.
        devices: the CPU first.
        chosen: the device that `auto` takes, and its number format.
        attention: kernels that `model.attention` can name here.
        quantization: whether 8- and 4-bit bases can be loaded here.
        disks: place → path and free bytes.
        hub: address, reachable, milliseconds, offline, token (whether one is set).
        warnings: what is missing or scarce.
    """

    python: str
    system: str
    packages: dict[str, str]
    optional: dict[str, str]
    devices: tuple[Device, ...]
    chosen: tuple[str, str]
    attention: tuple[str, ...]
    quantization: bool
    disks: dict[str, dict[str, Any]]
    hub: dict[str, Any]
    warnings: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def examine(runs: Path, *, timeout: float = 3.0) -> Findings:
    """What this machine offers.

    Args:
        runs: the folder of runs, whose disk is measured; it need not be there.
        timeout: seconds that the hub has for an answer.
    """
    from u2a_core.models.policy import choose_device, choose_dtype

    device = choose_device("auto")
    dtype = str(choose_dtype("auto", device)).removeprefix("torch.")
    cuda = torch.cuda.is_available()
    flash = cuda and find_spec("flash_attn") is not None
    found = Findings(
        python=f"{platform.python_version()} ({sys.executable})",
        system=f"{platform.system()} {platform.release()}, {platform.machine()}",
        packages={name: _version(name) for name in _PACKAGES},
        optional={name: _version(name) for name in _OPTIONAL},
        devices=tuple(_devices()),
        chosen=(str(device), dtype),
        attention=("eager", "sdpa", *(["flash_attention_2"] if flash else [])),
        quantization=cuda and find_spec("bitsandbytes") is not None,
        disks={"runs": _disk(runs), "hub cache": _disk(Path(constants.HF_HUB_CACHE))},
        hub=_hub(timeout),
    )
    return Findings(**{**vars(found), "warnings": tuple(_warnings(found))})


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _devices() -> Iterator[Device]:
    own = own_memory()
    cores = f"{os.cpu_count()} cores, {torch.get_num_threads()} threads"
    yield Device("cpu", cores, *own, bfloat16=True)
    for i in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        free, total = torch.cuda.mem_get_info(i)
        major, minor = torch.cuda.get_device_capability(i)
        about = f"{torch.cuda.get_device_name(i)}, compute capability {major}.{minor}"
        yield Device(f"cuda:{i}", about, free, total, bfloat16=major >= 8)
    if torch.backends.mps.is_available():
        yield Device("mps", "Apple GPU, with the machine's memory", *own, bfloat16=True)


def _disk(folder: Path) -> dict[str, Any]:
    """Of a folder, or of the nearest one above it that is there."""
    folder = folder.expanduser().absolute()
    known = next((place for place in (folder, *folder.parents) if there(place)), Path("/"))
    try:
        usage = shutil.disk_usage(known)
    except OSError:
        return {"path": str(folder), "free": None, "writable": False}
    return {"path": str(folder), "free": usage.free, "writable": os.access(known, os.W_OK)}


def _hub(timeout: float) -> dict[str, Any]:
    import httpx2
    from huggingface_hub import get_token

    facts: dict[str, Any] = {
        "address": constants.ENDPOINT,
        "offline": constants.is_offline_mode(),
        "token": bool(get_token()),
        "reachable": False,
        "milliseconds": None,
        "problem": "",
    }
    if facts["offline"]:
        return facts
    begun = time.perf_counter()
    try:  # any answer will do, a refusal as well
        httpx2.head(constants.ENDPOINT, timeout=timeout)
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError) as error:
        return facts | {"problem": f"{type(error).__name__}: {error}"[:200]}
    took = round(1000 * (time.perf_counter() - begun))
    return facts | {"reachable": True, "milliseconds": took}


def _warnings(found: Findings) -> Iterator[str]:
    missing = [name for name, version in found.packages.items() if not version]
    if missing:
        yield f"The packages {', '.join(missing)} are not installed. Install u2a-workbench again."
    if len(found.devices) == 1 and there(_NVIDIA):
        yield (
            f"This machine has an NVIDIA driver, and torch {found.packages['torch']} cannot use "
            "it. Install a build of torch for CUDA."
        )
    for device in found.devices:
        if device.name.startswith("cuda") and device.free < _ENOUGH_OF_A_GPU * device.total:
            yield (
                f"{device.name} has {device.free / 2**30:.1f} GiB of {device.total / 2**30:.1f} "
                "GiB free: another program uses it."
            )
        if not device.bfloat16:
            yield f"{device.name} does not compute in bfloat16; model.dtype auto takes float32."
    if found.devices[0].free < _SCARCE_MEMORY:
        yield (
            f"This machine has {found.devices[0].free / 2**30:.1f} GiB of memory free, through "
            "which the weights pass."
        )
    if len(found.devices) > 1 and not found.quantization:
        yield (
            "8- and 4-bit bases need bitsandbytes on CUDA. Install the extra: "
            "pip install 'u2a-workbench[quant]'."
        )
    yield from _about_disk_and_hub(found)


def _about_disk_and_hub(found: Findings) -> Iterator[str]:
    for name, disk in found.disks.items():
        if not disk["writable"]:
            yield f"The folder of the {name} ({disk['path']}) cannot be written."
        elif disk["free"] < _SCARCE_DISK:
            yield (
                f"The disk of the {name} ({disk['path']}) has {disk['free'] / 2**30:.1f} GiB free; "
                "a model of 8 billion parameters takes 16."
            )
    hub = found.hub
    if hub["offline"]:
        yield "The hub's offline mode is on (HF_HUB_OFFLINE): only folders and the cache are read."
    elif not hub["reachable"]:
        yield (
            f"The hub at {hub['address']} does not answer ({hub['problem']}): only folders and the "
            "cache can be used. A mirror is set by HF_ENDPOINT."
        )
    elif not hub["token"]:
        yield "No token of the hub is set (HF_TOKEN): models with terms to accept are closed."
