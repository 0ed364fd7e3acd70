"""docs/method.md names functions that exist."""

import importlib
import re
from pathlib import Path

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
