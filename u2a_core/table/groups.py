"""Which runs make a row of the table: their label, and what of their settings tells rows apart."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from u2a_core.config import EvaluationSettings, Settings, there
from u2a_core.config.paths import PATHS
from u2a_core.errors import RunError
from u2a_core.runs import Run, Workspace

ORIGINAL = "Original"
DESCENTS = ("reweight", "unlearn", "baseline")
_NAMES = {"ga": "GA", "graddiff": "GradDiff", "npo": "NPO", "simnpo": "SimNPO"}
BASELINES = {"dpo": "DPO", "ppo": "PPO", "retrain": "Retrain", "sft": "SFT"}
_ORDER = (
    *(ORIGINAL, "SFT", "Retrain"),
    *(name + more for name in _NAMES.values() for more in ("", " + U2A")),
    *("PPO", "DPO"),
)


def comparable(folder: Path) -> list[Run]:
    """The runs of a folder: itself, its arms, or all that stand in it.

    Raises:
        RunError: if there is no such folder.
    """
    if not (there(folder) and folder.is_dir()):
        raise RunError(f"A table must be made of runs or folders of runs; {folder} is none.")
    if Run(folder).exists:
        arms = sorted(folder.glob("arms/*/config.json"))
        return [Run.open(path.parent) for path in arms] or [Run.open(folder)]
    return Workspace(folder).runs()


def label(run: Run) -> str:
    """What a run is called in tables: NPO, NPO + U2A, DPO, Retrain and so on."""
    command, settings = run.config()["command"], run.settings()
    if command == "evaluate":
        return _measured(settings.evaluation)
    if command == "baseline":
        return BASELINES[settings.baseline.method]
    name = _NAMES[settings.inner.method]
    if command == "reweight":
        rule = settings.outer.rule
        return f"{name} + U2A" if rule == "weights" else f"{name}, {rule} {settings.outer.k}"
    if settings.weights == "uniform":
        return name
    source = Path(settings.weights)
    if (source / "config.json").exists():
        return f"{name} + U2A" + (" (last weights)" if settings.final_weights else "")
    # a shipped run keeps its weights beside its report, under the same name as all others
    origin = source.parent.name if source.stem == "weights" else source.stem
    return f"{name}, weights of {origin}"


def _measured(own: EvaluationSettings) -> str:
    """What the model is called whose replies an evaluation measured."""
    if own.endpoint:
        return f"{own.endpoint_model} (served)"
    return label(Run.open(Path(own.target))) if own.target else ORIGINAL


class Kind(NamedTuple):
    """What the runs of a row have in common.

    Attributes:
        label: what they are called.
        settings: as text, without what may differ: the seed, and the folders of their files, since
            every seed may have its own.
    """

    label: str
    settings: str

    @property
    def order(self) -> tuple[int, str]:
        """Where its row stands: as in the paper's tables."""
        place = _ORDER.index(self.label) if self.label in _ORDER else len(_ORDER)
        return place, self.label


def kind(run: Run) -> Kind:
    """Of the row of a descent, or of the model that an evaluation measured."""
    settings = run.settings()
    if run.config()["command"] != "evaluate":
        return Kind(label(run), _but_seed(settings))
    if settings.evaluation.endpoint:
        return Kind(label(run), original(run).settings)
    target = settings.evaluation.target
    return kind(Run.open(Path(target))) if target else original(run)


def original(run: Run) -> Kind:
    """Of the row of a run's original model: the model, the test prompts and the reward."""
    settings = run.settings()
    asked = (settings.model.path, settings.data.prompts, settings.objective.reward)
    return Kind(ORIGINAL, json.dumps([_file_name(path) for path in asked]))


def _but_seed(settings: Settings) -> str:
    """The settings but for the seed, what only measures, and the folders of files."""
    raw = settings.model_dump(mode="json", exclude={"seed", "evaluation", "ablation"})
    for section, fields in PATHS.items():
        if section in raw:
            raw[section] |= {field: _file_name(raw[section][field]) for field in fields}
    raw["weights"] = _file_name(raw["weights"])
    return json.dumps(raw, sort_keys=True)


def _file_name(path: str) -> str:
    """Of a file of this machine its name; a hub id stays."""
    return Path(path).name if Path(path).is_absolute() else path


def titles(kinds: Mapping[Kind, Run]) -> dict[Kind, str]:
    """What the rows are called: their label, with their first run's folder where several share it.

    Args:
        kinds: kind → its first run.
    """
    shared = Counter(one.label for one in kinds)
    return {
        one: one.label if shared[one.label] == 1 else f"{one.label} ({_folder(run)})"
        for one, run in kinds.items()
    }


def _folder(run: Run) -> str:
    """The folder's name; of an arm with its run's."""
    path = run.path.resolve()
    inside = path.parent.name == "arms"
    return f"{path.parent.parent.name}/{path.name}" if inside else path.name
