"""What a run was made with: hashes of its files and of the code, versions, the time."""

from __future__ import annotations

import hashlib
import platform
import time
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from u2a_core.config import Settings
from u2a_core.data import fingerprint

if TYPE_CHECKING:
    from u2a_core.runs.directory import Run

_PACKAGES = ("u2a-workbench", "torch", "transformers", "peft", "numpy")


def provenance(settings: Settings) -> dict[str, Any]:
    """Facts for config.json: sha256 by setting, code_sha256, created, python, packages."""
    return {
        "sha256": {name: fingerprint(path) for name, path in settings.local_paths().items()},
        "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "code_sha256": _code_fingerprint(),
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in _PACKAGES},
    }


def base_of(run: Run) -> str:
    """The model that the run began with: a folder or hub id."""
    settings = run.settings()
    tuned = run.config()["command"] == "baseline" and settings.baseline.method in ("sft", "retrain")
    return settings.baseline.base if tuned else settings.model.path


def as_found(run: Run, path: str) -> str:
    """A hub id with the commit at which the run found it; any other model as it is named."""
    commit = run.commits().get(path)
    return f"{path.partition('@')[0]}@{commit}" if commit else path


def _code_fingerprint() -> str:
    """SHA-256 of the library's own source."""
    package = Path(__file__).resolve().parents[1]
    lines = [f"{f.relative_to(package)} {fingerprint(f)}" for f in sorted(package.rglob("*.py"))]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
