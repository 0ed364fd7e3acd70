"""Evaluations for tests: settings with other fields, and the run of `u2a evaluate`."""

from pathlib import Path
from typing import Any

from u2a_core import commands
from u2a_core.config import Settings
from u2a_core.runs import Run


def changed(settings: Settings, **fields: Any) -> Settings:
    own = settings.evaluation.model_copy(update=fields)
    return settings.model_copy(update={"evaluation": own})


def evaluated(path: Path, settings: Settings, **watch: Any) -> Run:
    run = Run.open(path) if Run(path).exists else Run.create(path, "evaluate", settings)
    commands.execute(run, commands.Watch(run, **watch), commands.run_evaluate)
    return run
