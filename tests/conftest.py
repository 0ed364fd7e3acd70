"""One thread per worker (the models are tiny), no network; the embedded scenario made small."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

_SIZES = {"negatives": 40, "truth": 40, "preferences": 12, "retain": 12, "test_prompts": 10}


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
