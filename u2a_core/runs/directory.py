"""The run directory; the only module that knows its layout.

    config.json     command, settings, versions, hashes: written first, never changed
    commits.json    hub id → commit, of models and data sets of the hub, once they are loaded
    progress.jsonl  one `Progress` a line, append-only
    status.json     the last word of the process: running, stopping, stopped, failed, finished
    lock            pid and birth of the process that works here
    log.txt         what the process of a job says
    checkpoint.safetensors   enough to continue to the same result; replaced as a whole
    tables/*.parquet, model/
    report.json     last: present ⇔ finished

Everything is written beside and moved into place, so a reader never sees half a file, and a full
disk leaves the previous one. Imports no torch: pages read runs through this module.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import ArrowException

from u2a_core.config import Settings, parse_settings, resolved, there
from u2a_core.data import fingerprint, replace_file
from u2a_core.errors import RunError
from u2a_core.runs.files import RESUME, read_json, write_json, writing
from u2a_core.runs.journal import LOADING, Journal
from u2a_core.runs.provenance import provenance

if TYPE_CHECKING:
    from torch import Tensor

LAYOUT = 1
"""Version of the layout above."""
_START = {"config.json", "commits.json", "progress.jsonl", "status.json", "lock", ".door.lock",
          "log.txt"}  # fmt: skip
"""All that a run holds before it has computed anything."""


@dataclass(frozen=True)
class Run(Journal):
    """A run directory."""

    @classmethod
    def create(cls, path: Path, command: str, settings: Settings) -> Run:
        """A new run directory with its config.json, or in place of a run that computed nothing.

        Raises:
            RunError: if the directory holds a run already, or cannot be written.
        """
        run = cls(path)
        if run.vacant:
            run.delete()
        new = not there(path)
        if not new and path.is_file():
            raise RunError(
                f"{path} must be a new directory; it is a file. Name another with --out."
            )
        if run.exists:
            raise RunError(
                f"{path} must be a new directory; it holds a run already. "
                "Continue it with --resume, or name another with --out."
            )
        config = {
            "layout": LAYOUT,
            "command": command,
            "settings": settings.model_dump(mode="json"),
            **provenance(settings),
        }
        try:
            write_json(run.path / "config.json", config)
        except RunError:
            if new:
                with contextlib.suppress(OSError):
                    path.rmdir()
            raise
        return run

    @classmethod
    def open(cls, path: Path) -> Run:
        """An existing run directory.

        Raises:
            RunError: if there is none, or its layout is of another version.
        """
        run = cls(path)
        if not run.exists:
            raise RunError(f"{path} must be a run directory; got one without config.json.")
        config = run.config()
        if (layout := config.get("layout")) != LAYOUT:
            raise RunError(
                f"{path} must have run layout {LAYOUT}; got {layout}. "
                "It was written by another version of u2a: use that version, or run anew."
            )
        for key, kind in (("command", str), ("settings", dict), ("sha256", dict)):
            if not isinstance(config.get(key), kind):
                raise RunError(f"{path / 'config.json'} must hold {key}; it has been changed.")
        return run

    def config(self) -> dict[str, Any]:
        """config.json."""
        return read_json(self.path / "config.json")

    def settings(self) -> Settings:
        """The settings that the run was made with; a shipped run's paths are relative to `base`."""
        config = self.config()
        raw = config["settings"]
        if "base" in config:
            raw = resolved(raw, self.path / str(config["base"]))
        return parse_settings(raw, source=str(self.path / "config.json"))

    def changed(self, section: str = "") -> list[str]:
        """Files that are no longer what the run was begun with, by their setting.

        Args:
            section: only of this section of the settings; empty: of all.
        """
        here, then = self.settings().local_paths(), self.config()["sha256"]
        return [
            name
            for name in sorted(then)
            if name.startswith(section)
            and (name not in here or fingerprint(here[name]) != then[name])
        ]

    def check_unchanged(self) -> None:
        """For a resume.

        Raises:
            RunError: if a file of the run has changed or gone.
        """
        if changed := self.changed():
            raise RunError(
                f"A resumed run must find its files as they were; {', '.join(changed)} of "
                f"{self.path} changed or went away. Restore them, or begin a new run."
            )

    def report(self) -> dict[str, Any]:
        """report.json of a finished run.

        Raises:
            RunError: if the run is not finished.
        """
        if not self.finished:
            raise RunError(f"{self.path} must be a finished run; it is {self.status().state}.")
        report = read_json(self.path / "report.json")
        if report.get("command") != self.config()["command"]:
            raise RunError(f"{self.path / 'report.json'} must be the run's own; it is damaged.")
        return report

    def write_report(self, report: Mapping[str, Any]) -> None:
        """report.json: the last file of a run, which needs its checkpoint no more."""
        write_json(self.path / "report.json", report, then=RESUME)
        (self.path / "checkpoint.safetensors").unlink(missing_ok=True)
        self.write_status("finished")

    @property
    def vacant(self) -> bool:
        """Whether a run began here that computed nothing, as if loading failed, and is at rest."""
        try:
            ours = "layout" in self.config()
        except RunError:
            return False
        only = {path.name for path in self.path.iterdir()} <= _START
        steps = any(line.step > 0 and line.stage != LOADING for line in self.progress())
        return ours and only and not steps and not self.lock.alive

    def delete(self) -> None:
        """Removes the directory.

        Raises:
            RunError: if a process works here, or the directory cannot be removed.
        """
        if self.lock.alive:
            raise RunError(f"{self.path} must be at rest; a process works on it. Stop it first.")
        with writing(self.path):
            shutil.rmtree(self.path)

    def write_table(self, name: str, table: pd.DataFrame) -> None:
        """tables/<name>.parquet."""
        self._replace(f"tables/{name}.parquet", lambda path: table.to_parquet(path, index=False))

    def write_blocks(self, name: str, blocks: Iterable[pd.DataFrame]) -> None:
        """tables/<name>.parquet, a row group for each block, which is let go once it is written."""

        def write(path: Path) -> None:
            writer: pq.ParquetWriter | None = None
            try:
                for block in blocks:
                    table = pa.Table.from_pandas(block, preserve_index=False)
                    writer = writer or pq.ParquetWriter(path, table.schema)
                    writer.write_table(table)
            finally:
                if writer is not None:
                    writer.close()

        self._replace(f"tables/{name}.parquet", write)

    def has_table(self, name: str) -> bool:
        """Whether the run has written the table yet."""
        return (self.path / "tables" / f"{name}.parquet").exists()

    def table_version(self, name: str) -> int:
        """Changes whenever the table is written anew; 0 where there is none."""
        try:
            return (self.path / "tables" / f"{name}.parquet").stat().st_mtime_ns
        except OSError:
            return 0

    def table(self, name: str, *, sample: str | None = None) -> pd.DataFrame:
        """A table of the run.

        Args:
            name: of the table.
            sample: an id, whose rows alone are read.

        Raises:
            RunError: if the run has no such table.
        """
        if not self.has_table(name):
            raise RunError(f"{self.path} must have the table {name!r}; it has none.")
        path = self.path / "tables" / f"{name}.parquet"
        try:
            return pd.read_parquet(path, filters=None if sample is None else [("id", "==", sample)])
        except (OSError, ValueError, ArrowException) as error:
            raise RunError(f"{path} must be a whole table; got: {error}. Run anew.") from error

    def save_checkpoint(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Replaces the checkpoint as a whole.

        Raises:
            RunError: if the disk is full; the previous checkpoint is still there.
        """
        from safetensors.torch import save_file

        contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
        meta = {"facts": json.dumps(facts)}
        self._replace("checkpoint.safetensors", lambda path: save_file(contiguous, path, meta))

    def checkpoint(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Tensors and facts of the checkpoint, if there is one."""
        from safetensors import SafetensorError, safe_open

        path = self.path / "checkpoint.safetensors"
        if not path.exists():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                return tensors, json.loads(file.metadata()["facts"])
        except SafetensorError as error:
            raise RunError(f"{path} must be a checkpoint; got: {error}. Run anew.") from error

    def checkpoint_step(self) -> int | None:
        """The step that a resume continues from; None where no checkpoint tells one."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.path / "checkpoint.safetensors", framework="numpy") as file:
                return int(json.loads(file.metadata()["facts"])["step"])
        except (OSError, SafetensorError, KeyError, TypeError, ValueError):
            return None

    @property
    def model_folder(self) -> Path:
        """Where the unlearned model is saved."""
        return self.path / "model"

    def save_model(self, write: Callable[[Path], object]) -> None:
        """The unlearned model: `write` fills a folder, which then takes the place of `model/`.

        Raises:
            RunError: if the disk is full; what was there before is still there.
        """
        self.check_there()
        beside = self.path / f".model.{os.getpid()}"
        with writing(self.model_folder, then=RESUME):
            try:
                write(beside)
                shutil.rmtree(self.model_folder, ignore_errors=True)
                beside.replace(self.model_folder)
            finally:
                shutil.rmtree(beside, ignore_errors=True)

    def _replace(self, name: str, write: Callable[[Path], object]) -> None:
        self.check_there()
        with writing(self.path / name, then=RESUME):
            replace_file(self.path / name, write)
