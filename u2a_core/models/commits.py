"""Which commit of the hub each model came from that this process has loaded."""

from __future__ import annotations

from collections.abc import Iterable

_LOADED: dict[str, dict[str, str]] = {}
"""Path as the settings name it → hub id → commit: of the model itself and of an adapter's base."""


def note_commit(path: str, commit: str, base: str = "") -> str:
    """Remembers where a model was loaded from; returns the commit.

    Args:
        path: folder or hub id.
        commit: that the hub id stands for; empty for a folder.
        base: of an adapter, loaded before.
    """
    _LOADED[path] = {**_LOADED.get(base, {}), **({path: commit} if commit else {})}
    return commit


def commits_of(paths: Iterable[str]) -> dict[str, str]:
    """Hub id → commit, of those of the paths that this process has loaded, and of their bases."""
    return {name: commit for path in paths for name, commit in _LOADED.get(path, {}).items()}
