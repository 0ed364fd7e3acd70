"""docs/method.md names functions that exist; the table of docs/models.md is what code computes."""

import importlib
import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent
METHOD = (ROOT / "docs" / "method.md").read_text(encoding="utf-8")
TABLE = METHOD[METHOD.index("## Equations and functions") : METHOD.index("One solve serves")]
NAMES = sorted(set(re.findall(r"`([a-z_]+\.[A-Za-z_]+)`", TABLE)))


def test_the_table_covers_every_equation():
    assert len(NAMES) >= 15
    for number in range(1, 11):
        assert re.search(rf"^\|[ 0-9,]*\b{number}\b", TABLE, re.MULTILINE), number


@pytest.mark.parametrize("name", NAMES)
def test_every_function_of_the_table_exists(name: str):
    module, function = name.split(".")
    assert callable(getattr(importlib.import_module(f"u2a_core.{module}"), function))


def test_every_setting_that_is_named_exists():
    from u2a_core.config import Settings

    sections = {n: f.annotation for n, f in Settings.model_fields.items()}
    for section, field in re.findall(r"`(?:--)?([a-z]+)\.([a-z_]+)(?: [a-z0-9.]+)?`", METHOD):
        fields = getattr(sections.get(section), "model_fields", None)
        if fields is not None and f"{section}.{field}" not in NAMES:
            assert field in fields, f"{section}.{field}"


def test_pictures_that_are_shown_are_there():
    for page in (ROOT / "README.md", ROOT / "docs" / "method.md"):
        for target in re.findall(r"!\[[^]]*\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).is_file(), target


def cards() -> ModuleType:
    """benchmarks/cards.py, which makes the table of docs/models.md."""
    spec = importlib.util.spec_from_file_location("cards", ROOT / "benchmarks" / "cards.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["cards"] = module  # a dataclass looks its module up there
    spec.loader.exec_module(module)
    return module


def test_every_model_and_card_has_its_row():
    module = cards()
    page = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    lines = module.written(page).splitlines()
    assert len(lines) == 2 + len(module.MODELS) * len(module.WAYS)
    for line in lines[2:]:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        need, room = (
            max(map(float, cells[5:8])),
            [g - module.CONTEXT for g in module.CARDS.values()],
        )
        said = [
            "fits" if need * 1.2 <= gib else "tight" if need * 0.8 <= gib else "–" for gib in room
        ]
        assert cells[-len(room) :] == said


@pytest.mark.long
@pytest.mark.parametrize("model", ["LLaMA2-7B", "LLaMA3.1-8B", "Qwen2.5-14B"])
def test_the_table_of_models_and_cards_is_what_the_estimate_computes(model: str):
    module = cards()
    page = module.written((ROOT / "docs" / "models.md").read_text(encoding="utf-8"))
    found = [row.line() for row in module.fits((model,))]
    assert found == [line for line in page.splitlines() if line.startswith(f"| {model} ")]


@pytest.mark.long
@pytest.mark.parametrize("way", [{}, {"base": "4bit", "again": True}])
def test_a_row_with_every_layer_computed_is_the_one_that_is_continued(way: dict):
    module = cards()
    chosen = module.Way(8, **way)
    every = module.whole("LLaMA2-7B", chosen)
    continued = next(module.fits(("LLaMA2-7B",), (chosen,)))
    for command, gib in every.peaks.items():
        assert continued.peaks[command] == pytest.approx(gib, rel=0.01), command
