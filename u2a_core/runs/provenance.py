"""What a run was made with: hashes of its files and of the code, versions, the time."""

from __future__ import annotations

import hashlib
import platform
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from u2a_core.config import Settings
from u2a_core.data import fingerprint

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


def _code_fingerprint() -> str:
    """SHA-256 of the library's own source."""
    package = Path(__file__).resolve().parents[1]
    lines = [f"{f.relative_to(package)} {fingerprint(f)}" for f in sorted(package.rglob("*.py"))]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
