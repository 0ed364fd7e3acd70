"""Modules import only from lower floors, heavy libraries stay where they belong."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "u2a_core"
FLOORS = {
    "errors": 0,
    "types": 1,
    "config": 1,
    "params": 2,
    "reach": 2,
    "commits": 2,
    "room": 5.3,
    "figures": 2,
    "directional": 3,
    "ledger": 3,
    "losses": 2.5,
    "curvature": 3,
    "weights": 3,
    "objectives": 4,
    "data": 5,
    "models": 5.5,
    "testing": 5,
    "unlearn": 6,
    "descent": 6.5,
    "metrics": 6,
    "judges": 6.3,
    "reweight": 7,
    "baselines": 7,
    "proximal": 6.2,
    "impact": 7,
    "alignment": 7.5,
    "experiment": 8,
    "evaluation": 8.5,
    "runs": 9,
    "ablation": 9.2,
    "table": 9.2,
    "results": 9.3,
    "commands": 9.5,
    "estimate": 9.8,
    "doctor": 9.9,
    "jobs": 10.5,
    "report": 10,
    "export": 10,
    "demo": 10,
    "reproduce": 10.2,
    "tryout": 10.3,
    "serve": 10,
    "options": 10.8,
    "cli": 11,
    "start": 12,
}
"""design.md §2; between its floors: what was split off; losses under directional (slopes)."""

FILES = sorted(PACKAGE.rglob("*.py"))
APP = sorted((PACKAGE.parent / "app").rglob("*.py"))


def owner(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(file: Path) -> set[str]:
    """Dotted names imported anywhere in a file, TYPE_CHECKING blocks apart."""
    found: set[str] = set()
    pending: list[ast.AST] = [ast.parse(file.read_text(encoding="utf-8"))]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        pending.extend(ast.iter_child_nodes(node))
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_a_module_imports_only_from_lower_floors(file: Path):
    if owner(file) == "__init__":
        return
    for name in imports(file):
        parts = name.split(".")
        if parts[0] == "u2a_core" and len(parts) > 1 and parts[1] != owner(file):
            assert FLOORS[parts[1]] < FLOORS[owner(file)], f"{file.name} imports {name}"


@pytest.mark.parametrize(
    ("library", "allowed"),
    [
        ("transformers", {"models", "demo"}),
        ("peft", {"models"}),
        ("trl", {"baselines"}),
        ("streamlit", set()),
    ],
)
def test_heavy_libraries_stay_where_they_belong(library: str, allowed: set[str]):
    users = {owner(f) for f in FILES if any(n.split(".")[0] == library for n in imports(f))}
    assert users <= allowed


@pytest.mark.parametrize(
    "module",
    (
        *("runs", "jobs", "figures", "config", "data", "types", "metrics", "demo.world"),
        *("ablation", "report", "table", "tryout", "estimate", "export"),
    ),
)
def test_what_the_workbench_reads_imports_no_torch(module: str):
    code = (
        f"import sys, u2a_core.{module}; "
        "sys.exit(any(m in sys.modules for m in ('torch', 'transformers')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_catching_everything_happens_at_boundaries_only():
    """The command line, a page, the user's own reward code, a library without errors of its own."""
    catching = set()
    for file in (*FILES, *APP):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ExceptHandler):
                kinds = {getattr(k, "id", "") for k in ast.walk(node.type)} if node.type else {""}
                if node.type is None or kinds & {"Exception", "BaseException"}:
                    catching.add((file.name, ast.unparse(node.type) if node.type else ""))
    assert catching == {
        ("cli.py", "Exception"),
        ("parts.py", "Exception"),
        ("rewards.py", "(Exception, SystemExit)"),
        ("loading.py", "Exception"),  # of tokenizers, which raises nothing narrower
        ("work.py", "BaseException"),  # writes the state, and raises again
        ("arms.py", "BaseException"),  # tells the workers to stop, and raises again
    }


@pytest.mark.parametrize("file", (*FILES, *APP), ids=lambda f: str(f.relative_to(PACKAGE.parent)))
def test_files_and_functions_stay_short(file: Path):
    text = file.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 300
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 45, node.name


def test_public_names_exist_and_are_listed():
    import u2a_core

    for file in FILES:  # a module of the same name would take a public name's place
        importlib.import_module(f"u2a_core.{owner(file)}")
    for name in u2a_core.__all__:
        assert not isinstance(getattr(u2a_core, name), ModuleType), name
    assert set(u2a_core.__all__) == set(u2a_core._HOMES)
