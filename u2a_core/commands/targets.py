"""The finished run whose model `u2a evaluate` measures: whether it fits the settings, its model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from u2a_core.commits import DATA
from u2a_core.config import Settings, there
from u2a_core.data import fingerprint
from u2a_core.errors import ConfigError
from u2a_core.models import load_saved
from u2a_core.runs import Run, as_found, base_of

if TYPE_CHECKING:
    from u2a_core.models import Policy


def target_run(source: str) -> Run:
    """The finished run that is measured.

    Raises:
        ConfigError: if there is none, or none that saved its model.
    """
    if not there(Path(source) / "config.json"):
        raise ConfigError(
            f"evaluation.target must be the directory of a finished run; got {source!r}. Leave it "
            "empty to measure the original model."
        )
    target = Run.open(Path(source))
    target.report()
    if not there(target.model_folder):
        raise ConfigError(
            f"evaluation.target must be a run that saved its model; {source} has no model/ (the "
            "demo's shipped runs and runs that train nothing have none). Run it again."
        )
    return target


def compatible(settings: Settings, target: Run) -> list[str]:
    """Warnings about a run that was made of another model or of other negatives.

    Raises:
        ConfigError: if its adapter was made for another model, or its base is not as it was.
    """
    warnings, then, theirs = [], target.config()["sha256"], target.settings()
    if not _same_model(settings, target):
        if _adapted(target) and not _tuned(target):
            raise ConfigError(
                f"The adapter of {target.path} must be put on the model it was trained on "
                f"({theirs.model.path}); model.path is {settings.model.path}. Set model.path."
            )
        warnings.append(
            f"The run {target.path} began from another model ({theirs.model.path}) than "
            f"model.path ({settings.model.path}), under which perplexity is measured."
        )
    if _adapted(target) and _tuned(target):
        _fine_tuned_base(settings, target)
    files = settings.data.negatives, theirs.data.negatives
    if settings.evaluation.outsiders and _mark(files[0]) != then.get("data.negatives", files[1]):
        warnings.append(
            f"The run {target.path} unlearned other negatives ({files[1]}) than data.negatives "
            f"({files[0]}), of which membership is measured."
        )
    return warnings


def load_target(settings: Settings, target: Run) -> Policy:
    """The model of a compatible run; an adapter is put on what it was trained on.

    Fine-tuning begins at `baseline.base` and reads with the tokenizer of its `model.path`.
    """
    model, base = settings.model, base_under(settings, target)
    if base and _tuned(target) and not _same_model(settings, target):
        model = model.model_copy(update={"path": target.settings().model.path})
    return load_saved(model, target.model_folder, weights=base)


def base_under(settings: Settings, target: Run) -> str:
    """What the adapter of a compatible run is put on; empty: model.path, or it has no adapter."""
    if not _adapted(target):
        return ""
    if _tuned(target):
        return _fine_tuned_base(settings, target)
    base = base_of(target)
    return as_found(target, base) if settings.model.path == base else ""


def moved(run: Run, target: Run) -> list[str]:
    """Warnings about models of the hub that are at other commits than for the target."""
    then, now = target.commits(), run.commits()
    return [
        f"{name} was at commit {then[name]} for {target.path} and is at {commit} now, where the "
        "original model is concerned."
        for name, commit in now.items()
        if then.get(name, commit) != commit and not name.startswith(DATA)
    ]


def _fine_tuned_base(settings: Settings, target: Run) -> str:
    """Where the base model of a fine-tuned adapter is: where it was, or where the settings say.

    Raises:
        ConfigError: if it is at neither place as it was.
    """
    base = base_of(target)
    then = target.config()["sha256"].get("baseline.base", base)
    for place in (base, settings.baseline.base):
        if place and _mark(place) == then:
            return as_found(target, place)
    raise ConfigError(
        f"The adapter of {target.path} must be put on the model it was trained on ({base}); that "
        "changed since, or went away. Restore it, or name where it is as baseline.base."
    )


def _adapted(target: Run) -> bool:
    return there(target.model_folder / "adapter_config.json")


def _tuned(target: Run) -> bool:
    """Whether a run began from another model than its `model.path`."""
    return base_of(target) != target.settings().model.path


def _same_model(settings: Settings, target: Run) -> bool:
    theirs = target.settings().model.path
    return bool(_mark(settings.model.path) == target.config()["sha256"].get("model.path", theirs))


def _mark(path: str) -> str:
    """What tells a model or file from others: its hash, or the hub id."""
    return fingerprint(Path(path)) if path and there(Path(path)) else path
