"""The demo's finished runs as they ship with the package: tables and reports, without the models.

Their paths are relative to the scenario, so that they hold wherever it is installed.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from u2a_core import commands
from u2a_core.config import load_settings
from u2a_core.demo.run import run_demo
from u2a_core.runs import Run


def ship(scenario: Path, report: Callable[[str], None]) -> None:
    """Computes gains, impact curves and all arms of the demo into `scenario/runs`."""
    settings = load_settings(scenario / "demo.yaml")
    with tempfile.TemporaryDirectory() as folder:
        gains = Run.create(Path(folder) / "gains", "gains", settings)
        report("gains")
        commands.execute(gains, commands.Watch(gains), commands.run_gains)
        impact = Run.create(Path(folder) / "impact", "impact", settings)
        report("impact curves")
        commands.execute(impact, commands.Watch(impact), commands.run_impact)
        demo = Run.create(Path(folder) / "demo", "demo", settings)
        report("the twelve runs of the demo")
        commands.execute(demo, commands.Watch(demo), run_demo)
        shutil.rmtree(scenario / "runs", ignore_errors=True)
        for run in (gains, impact, *map(Run, sorted((demo.path / "arms").iterdir()))):
            _put(run, scenario, scenario / "runs" / f"demo-{run.path.name}")


def _put(run: Run, scenario: Path, target: Path) -> None:
    """One run's tables, report and settings, its paths made relative to the scenario."""
    shutil.copytree(run.path / "tables", target / "tables")
    shutil.copy(run.path / "report.json", target)
    settings = run.settings()
    config = run.config() | {"base": "../.."}
    if Path(settings.weights).is_file():
        shutil.copy(settings.weights, target / "weights.jsonl")
        config["settings"]["weights"] = f"runs/{target.name}/weights.jsonl"
    text = json.dumps(config, indent=2, ensure_ascii=False)
    (target / "config.json").write_text(text.replace(f"{scenario.resolve()}/", ""), "utf-8")
