"""Which commit of the hub each model and each data set came from that this process has loaded."""

from __future__ import annotations

from collections.abc import Iterable

DATA = "datasets/"
"""Before the id of a data set, as in the hub's own addresses: a model may be called the same."""

_LOADED: dict[str, dict[str, str]] = {}
"""Path as the settings name it, after DATA for data → hub id → commit: of the model or data set
itself, and of an adapter's base."""


def note_commit(path: str, commit: str, base: str = "") -> str:
    """Remembers where a model was loaded from; returns the commit.

    Args:
        path: folder or hub id.
        commit: that the hub id stands for; empty for a folder.
        base: of an adapter, loaded before.
    """
    _LOADED[path] = {**_LOADED.get(base, {}), **({path: commit} if commit else {})}
    return commit


def note_data(path: str, hub_id: str, commit: str) -> str:
    """Remembers where a data set was read from; returns the commit.

    Args:
        path: as the settings name it, with its split.
        hub_id: owner/name, and @revision if one is named.
        commit: that the hub id stands for; empty if it is not known.
    """
    _LOADED[DATA + path] = {DATA + hub_id: commit} if commit else {}
    return commit


def commits_of(paths: Iterable[str]) -> dict[str, str]:
    """Hub id → commit, of the paths that this process has loaded, as models or data."""
    keys = [key for path in paths for key in (path, DATA + path)]
    return {name: commit for key in keys for name, commit in _LOADED.get(key, {}).items()}
