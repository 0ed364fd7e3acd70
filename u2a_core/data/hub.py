"""Data sets of the hub: how they are named, and their records.

    owner/name[@revision][:split]
    owner/name[@revision]:configuration:[split]

A revision is a branch, a tag or a commit; without a split the first one is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub import constants

from u2a_core import reach
from u2a_core.commits import note_data
from u2a_core.config import there
from u2a_core.data.files import Record
from u2a_core.errors import DataError

_FORM = re.compile(
    r"([\w.-]+/[\w.-]+)(?:@([\w.+-]+(?:/[\w.+-]+)*))?(?::([\w.+-]+)(?::([\w.+-]*))?)?"
)
_ENDINGS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".txt")
_REASON = 600
_COMMIT = re.compile(r"[0-9a-f]{40}")
_APART = (
    "Its files hold other columns each: name a configuration or a revision whose files agree, or "
    "download one of them and name that."
)
_TO_DO = {
    "Config name is missing": "Name one of them, and a split: {path}:CONFIGURATION:SPLIT.",
    "BuilderConfig": "Name one of them, and a split: {path}:CONFIGURATION:SPLIT.",
    "Unknown split": "Name one of them after the last colon.",
    "doesn't exist for dataset": "Check what follows the @: a branch, a tag or a commit.",
    "gated dataset": "Accept its terms at {page} , and set HF_TOKEN.",
    "doesn't exist on the Hub": "Check the name; for a private set, set HF_TOKEN.",
    "scripts are no longer supported": "Name the Parquet files that the hub has made of it: "
    "{path}@refs/convert/parquet.",
    "column names don't match": _APART,
    "same columns": _APART,
}
"""Words of the datasets library → what can be done."""


class Named(NamedTuple):
    """A set of the hub by its name; empty: what the set itself gives."""

    path: str
    revision: str
    config: str
    split: str

    @property
    def at(self) -> str:
        """owner/name, and @revision if one is named."""
        return f"{self.path}@{self.revision}" if self.revision else self.path


def is_hub_id(path: str | Path) -> bool:
    """Whether it names a hub set: by its form, and it is no file here and by its ending none."""
    name = str(path)
    return bool(_FORM.fullmatch(name)) and not there(Path(name)) and not name.endswith(_ENDINGS)


def named(name: str) -> Named:
    """The parts of a name that is a hub id."""
    found = _FORM.fullmatch(name)
    assert found is not None
    path, revision, first, second = found.groups()
    config, split = ("", first) if second is None else (first, second)
    return Named(path, revision or "", config, split or "")


def read(name: str) -> tuple[str, Iterator[tuple[int, Record]]]:
    """What is read, in words; and its records with their positions, from 1.

    Raises:
        DataError: if the set does not load; while going through it, if it cannot be read on.
    """
    which = named(name)
    away = _check_reach(name, which)
    loaded = _loaded(name, which)
    split = which.split or next(iter(loaded))
    rows = loaded if which.split else loaded[split]
    commit = note_data(name, which.at, _commit(rows))
    if away:
        _check_commit(name, which, commit, away)
    told = [f"configuration {which.config}"] if which.config else []
    told += [f"split {split}"]
    if not which.split and len(loaded) > 1:
        told[-1] += f" (the first of {', '.join(loaded)})"
    told += [f"revision {which.revision}"] if which.revision else []
    told += [f"commit {commit[:12]}"] if commit else []
    return f"hub data set, {', '.join(told)}", _rows(name, rows)


def _loaded(name: str, which: Named) -> Any:
    """The split, or all splits by their names where none is named."""
    import datasets

    try:
        return datasets.load_dataset(
            which.path,
            name=which.config or None,
            split=which.split or None,
            revision=which.revision or None,
        )
    except _failures() as error:
        raise _refusal(name, which, error) from error


def _rows(name: str, split: Any) -> Iterator[tuple[int, Record]]:
    try:
        for line, row in enumerate(split, start=1):
            yield line, dict(row)
    except _failures() as error:  # a column of pictures or sounds needs packages of its own
        raise _refusal(name, named(name), error) from error


def _failures() -> tuple[type[BaseException], ...]:
    """What the datasets library raises for a set that it cannot load."""
    import httpx2
    import yaml
    from datasets.exceptions import DatasetsError

    standard = (OSError, ValueError, ImportError, RuntimeError, LookupError, TypeError)
    return (*standard, DatasetsError, httpx2.HTTPError, yaml.YAMLError)


def _refusal(name: str, which: Named, error: BaseException) -> DataError:
    """What a user can do about a set that does not load."""
    cause = error.__cause__  # an error while generating says why in what led to it
    said = [str(error), *([str(cause)] if cause and "generating" in str(error) else [])]
    reason = " ".join(" ".join(said).split()).partition(" Example of usage")[0]
    page = f"{constants.ENDPOINT}/datasets/{which.path}"
    to_do = next((do for words, do in _TO_DO.items() if words in reason), "See {page} .")
    shown = reason[:_REASON].rstrip(". ") or type(error).__name__
    to_do = to_do.format(path=which.at, page=page)
    return DataError(f"{name} must be a file or a hub data set; got: {shown}. {to_do}")


def _check_reach(name: str, which: Named) -> str:
    """Why the hub is out of reach while something of the set is in the cache; empty: it answers.

    Raises:
        DataError: if it is out of reach, and there is nothing of the set here.
    """
    from datasets import config

    away = "the offline mode (HF_HUB_OFFLINE)" if constants.is_offline_mode() else ""
    if not away:
        try:
            reach.knock()
        except OSError:
            away = f"no connection to {constants.ENDPOINT}"
    made = Path(config.HF_DATASETS_CACHE) / which.path.replace("/", "___")
    if away and not there(_downloads(which)) and not there(made):
        raise DataError(
            f"{name} must be a file or a hub data set; got {away}, and nothing of it in the cache "
            f"({constants.HF_HUB_CACHE}). Check the path and the connection, or download the set "
            "elsewhere and name its file."
        )
    return away


def _downloads(which: Named) -> Path:
    return Path(constants.HF_HUB_CACHE) / f"datasets--{which.path.replace('/', '--')}"


def _commit(rows: Any) -> str:
    """The commit that rows are from, which names their folder in the cache; empty if none does."""
    files = getattr(rows, "cache_files", [])
    folder = Path(files[0]["filename"]).parent.name if files else ""
    return folder if _COMMIT.fullmatch(folder) else ""


def _check_commit(name: str, which: Named, commit: str, away: str) -> None:
    """Out of reach, the library gives whichever revision it made last: is it the one that is meant?

    Raises:
        DataError: if it is not known to be.
    """
    file = _downloads(which) / "refs" / (which.revision or "main")
    meant = file.read_text().strip() if file.is_file() else which.revision
    if commit != meant and (which.revision or there(file.parent)):
        raise DataError(
            f"{name} must be in the cache at the revision {which.revision or 'main'}; got {away}, "
            f"and there the commit {commit or 'unknown'}. Connect, or name that commit after an @."
        )
