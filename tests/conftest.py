"""One thread per worker (the models are tiny), no network; the embedded scenario made small."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import dataclasses
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
import yaml
from workbench import Server, chromium, serving

from u2a_core.ablation import Arm
from u2a_core.config import load_settings
from u2a_core.runs import Run
from u2a_core.types import Progress

_SIZES = {"negatives": 40, "truth": 40, "preferences": 12, "retain": 12, "test_prompts": 10}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Measurements of minutes are left to whoever asks for them."""
    for item in items:
        if item.get_closest_marker("long") and not os.environ.get("U2A_LONG"):
            item.add_marker(pytest.mark.skip(reason="takes minutes: set U2A_LONG"))


@pytest.fixture(scope="session")
def scenario(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The settings file of a copy of the embedded scenario: its models, the head of its data."""
    from u2a_core.runs import demo_assets

    folder = tmp_path_factory.mktemp("scenario")
    shutil.copytree(demo_assets(), folder, dirs_exist_ok=True)
    for name, size in _SIZES.items():
        file = folder / "data" / f"{name}.jsonl"
        lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
        file.write_text("".join(lines[:size]), encoding="utf-8")
    settings = yaml.safe_load((folder / "demo.yaml").read_text(encoding="utf-8"))
    settings["inner"]["steps"] = 6
    settings["objective"]["max_new_tokens"] = 12
    (folder / "demo.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    return folder / "demo.yaml"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of runs that the pages read; not made yet."""
    monkeypatch.setenv("U2A_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


@pytest.fixture
def own(scenario: Path, tmp_path: Path) -> Path:
    """A copy of the small scenario that a test may spoil; returns its settings file."""
    shutil.copytree(scenario.parent, tmp_path / "own")
    return tmp_path / "own" / scenario.name


@pytest.fixture
def u2a(
    scenario: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Runs `u2a COMMAND scenario.yaml …` in this process: exit code, stdout, stderr."""
    from u2a_core.cli import main

    def run(command: str, *arguments: object, config: Path = scenario) -> tuple[int, str, str]:
        code = main([command, str(config), *map(str, arguments)])
        told = capsys.readouterr()
        return code, told.out, told.err

    return run


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The workbench on a free port, with an empty folder of runs."""
    with serving(tmp_path_factory.mktemp("browser") / "runs") as made:
        yield made


@pytest.fixture(scope="module")
def browser() -> Iterator:
    """A real browser."""
    with chromium() as opened:
        yield opened


@pytest.fixture
def tab(browser) -> Iterator:
    """A page of its own session, 1400 px wide."""
    context = browser.new_context(viewport={"width": 1400, "height": 1000})
    context.set_default_timeout(60_000)
    yield context.new_page()
    context.close()


ABLATION_REWARDS = {"top_k": 0.5, "random_k": 0.1, "all": 0.2, "u2a": 0.3}


@pytest.fixture
def made_ablation() -> Callable[..., Run]:
    """An ablation as its files say it is, synthesized: rewards of `ABLATION_REWARDS`.

    `made(folder, state, seeds=3)`; of a running or failed one the first half of the arms is there.
    """
    return _ablation


def _ablation(folder: Path, state: str = "finished", *, seeds: int = 3) -> Run:
    from u2a_core import ablation
    from u2a_core.config import override
    from u2a_core.runs import Workspace, demo_assets

    words = ["--ablation.seeds", str(seeds), "--ablation.ks", "24,96"]
    words += ["--ablation.arms", ",".join(ABLATION_REWARDS), "--ablation.sensitivity", "step_size"]
    settings = override(load_settings(demo_assets() / "demo.yaml"), words)
    run = Run.create(folder / "abl", "ablate", settings)
    planned = ablation.plan(settings, 240)
    run.write_table("plan", pd.DataFrame([dataclasses.asdict(arm) for arm in planned]))
    left = planned if state == "finished" else planned[: len(planned) // 2]
    for arm in left:
        _arm(run, arm, Workspace(folder).find("demo-npo-u2a"))
    if state == "finished":
        _report_ablation(run, seeds)
    elif state == "running":
        run.lock.assign(os.getpid())
        run.write_status("running")
        run.append_progress(Progress("arms", len(left), len(planned), 60.0, {}))
    else:
        run.write_status("failed", "The inner gradient must be finite; got nan.")
    return run


def _arm(run: Run, arm: Arm, shipped: Run) -> None:
    command = "gains" if arm.arm == "gains" else "reweight"
    made = Run.create(run.path / "arms" / arm.name, command, shipped.settings())
    mean = ABLATION_REWARDS.get(arm.arm, 0.25) + 0.01 * arm.seed + 0.0001 * arm.k
    after = {"mean": mean, "low": mean - 0.1, "high": mean + 0.1, "n": 200}
    facts = {"reward": shipped.report()["reward"] | {"after": after}}
    facts |= {"objective": {"before": -0.4, "after": mean / 2}, "command": command}
    for name in ("history", "weight_path", "weights", "generations"):
        made.write_table(name, shipped.table(name))
    made.write_report(shipped.report() | facts)


def _report_ablation(run: Run, seeds: int) -> None:
    from u2a_core import ablation

    rows = ablation.collect(run)
    differences = ablation.differences(rows)
    run.write_table("ablation", rows)
    notes = ["One seed only: no band and no paired interval; raise ablation.seeds."]
    original = {"mean": -0.4, "low": -0.5, "high": -0.3, "n": seeds}
    report = {
        "command": "ablate", "method": "npo", "negatives": 240, "seeds": seeds, "arms": len(rows),
        "collapsed": [], "best_k": ablation.best_k(rows), "original": {"reward": original},
        "bands": [], "notes": [*(notes if seeds == 1 else []), *ablation.behind(differences)],
    }  # fmt: skip
    table = differences[differences["metric"] == "reward"]
    cleaned = table.astype(object).where(table.notna(), None)
    run.write_report(report | {"differences": cleaned.to_dict("records")})
