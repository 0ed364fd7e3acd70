"""A folder of runs, and beside it the demo's finished runs, which ship with the package.

    <id>/                   a run; annotations/ inside it are its slices and votes
    .annotations/           those of shipped runs, and the marks of samples by set
    .uploads/, .datasets.json   files that came through the browser; the versions of each set
    .draft.yaml, .forms/, .configs/   the user's project, what forms hold, named configurations
    .estimates/, .rendered/, .try/    answers of short jobs: memory, samples in tokens, own prompts
    .blurred.json           sets whose texts are blurred until clicked
    .launch.lock, .device-*.lock      one launch at a time; one job at a time on a device

All but the runs may be deleted while nothing is at work: only what people wrote there is lost.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from u2a_core.config import there
from u2a_core.errors import RunError
from u2a_core.runs.directory import Run
from u2a_core.runs.files import read_json

_CLOSED = ("ablate", "reproduce")
"""Commands whose arms are parts of one result."""


def demo_assets() -> Path:
    """The embedded scenario: models, data, settings, and the runs that were computed from them."""
    package = Path(__file__).resolve().parents[1]
    beside = package.parent / "assets" / "demo"  # a checkout; else inside the installed package
    return beside if beside.is_dir() else package / "assets" / "demo"


@dataclass(frozen=True)
class Workspace:
    """Finds runs by id: the path of their directory inside the folder.

    Attributes:
        folder: where new runs are made.
    """

    folder: Path

    def check_writable(self) -> None:
        """For a page with a launch button; makes nothing.

        Raises:
            RunError: if a run could not be made here.
        """
        place = next(path for path in (self.folder, *self.folder.parents) if there(path))
        if not (place.is_dir() and os.access(place, os.W_OK | os.X_OK)):
            kind = "cannot be written" if place.is_dir() else "is a file"
            raise RunError(
                f"The folder of runs must be writable; got {self.folder}, where {place} {kind}. "
                "Change its permissions, or start the workbench with --runs ANOTHER_FOLDER."
            )

    def runs(self) -> list[Run]:
        """The runs of the folder, newest first; a demo's arms stand under the demo.

        Those of an ablation or a reproduction, a hundred and more, are listed by `arms` alone; the
        ablation of a reproduction is a run of its own.
        """
        return [run for run in self._all() if _readable(run)]

    def arms(self, run: Run) -> list[Run]:
        """The runs inside a run, by name."""
        found = [Run(path) for path in sorted(run.path.glob("arms/*"))]
        return [arm for arm in found if arm.exists and _readable(arm)]

    def unreadable(self) -> list[str]:
        """Folders of damaged runs, and of those that another version wrote."""
        return [self.identify(run) for run in self._all() if not _readable(run)]

    def parent(self, run: Run) -> Run | None:
        """The ablation or reproduction that a run is a part of."""
        parent = Run(run.path.parent.parent)
        return None if run.path.parent.name != "arms" or _opens(parent) else parent

    def _all(self) -> list[Run]:
        if not self.folder.is_dir():
            return []
        tops = [path for path in self.folder.iterdir() if not path.name.startswith(".")]
        found = [Run(path) for top in tops for path in (top, top / "ablation")]
        found += [Run(p) for top in tops if _opens(Run(top)) for p in sorted(top.glob("arms/*"))]
        return sorted((run for run in found if run.exists), key=_created, reverse=True)

    def shipped(self) -> list[Run]:
        """The demo's runs; its gains and the U2A run that tells most come first."""
        paths = sorted((demo_assets() / "runs").glob("*"))
        first = ("demo-gains", "demo-npo-u2a")
        return [Run(path) for path in sorted(paths, key=lambda path: path.name not in first)]

    def identify(self, run: Run) -> str:
        """The id under which `find` gives the run."""
        if run.path.parent == demo_assets() / "runs":
            return run.path.name
        return run.path.relative_to(self.folder).as_posix()

    def annotations(self, run: Run) -> Path:
        """Where what people say of a run is kept: slices, votes.

        Inside the run; of a shipped one, whose folder may be read-only, beside the runs.
        """
        if run.path.parent == demo_assets() / "runs":
            return self.folder / ".annotations" / run.path.name
        return run.path / "annotations"

    def blurs(self, run: Run) -> bool:
        """Whether the texts of the run's negatives are blurred in the workbench."""
        try:
            kept = read_json(self.folder / ".blurred.json")
        except RunError:  # nothing is blurred yet
            return False
        return bool(kept.get(texts_of(run)))

    def find(self, identity: str) -> Run:
        """The run of an id, which may come from an address bar.

        Raises:
            RunError: if there is none, or it is of another version.
        """
        name = Path(identity)
        if name.parts and not name.is_absolute() and ".." not in name.parts:
            for base in (self.folder, demo_assets() / "runs"):
                if there(base / name / "config.json"):
                    return Run.open(base / name)
        raise RunError(
            f"The run must be one of this workspace; got {identity[:80]!r}. It may have been "
            "deleted or renamed; choose another."
        )


def texts_of(run: Run) -> str:
    """The content hash of a finished run's negatives, by which its texts are blurred; or nothing.

    Raises:
        RunError: if the run is not finished.
    """
    data = run.report().get("data")
    return str(data.get("negatives_sha256", "")) if isinstance(data, dict) else ""


def _opens(run: Run) -> bool:
    """Whether the arms of a run are listed beside it."""
    try:
        return run.config().get("command") not in _CLOSED
    except RunError:  # none, or damaged: its arms may be whole
        return True


def _created(run: Run) -> float:
    try:
        return (run.path / "config.json").stat().st_mtime
    except OSError:  # deleted meanwhile
        return 0.0


def _readable(run: Run) -> bool:
    try:
        Run.open(run.path)
    except RunError:
        return False
    return True
