"""The Export popover of a finished run on Unlearn: what it offers, what the files hold."""

import io
import json
import shlex
import zipfile
from pathlib import Path

import pandas as pd
import pytest
from pages import opened
from streamlit.testing.v1 import AppTest
from workbench import finished_run

from app import export_menu
from u2a_core.data import load_negatives
from u2a_core.runs import Run, Workspace, reviews

FILES = {"JSONL", "Parquet", "TRL", "LLaMA-Factory", "open-unlearning", "Model card"}


def offered(app: AppTest) -> set[str]:
    return {element.proto.label for element in app.get("download_button")}


def said(app: AppTest) -> str:
    return " ".join(element.value for element in app.caption)


def commands(app: AppTest) -> list[str]:
    return [code.value for code in app.code if code.value.startswith("u2a export")]


def test_small_files_are_downloads_and_the_model_a_command(folder: Path):
    run = finished_run(folder, "mine", model=True)
    app = opened("unlearn", run="mine")
    assert offered(app) >= FILES
    (command,) = commands(app)
    assert shlex.split(command) == ["u2a", "export", str(run.path), "--to", "mine-model"]
    (run.model_folder / "adapter_config.json").write_text("{}")
    (command,) = commands(opened("unlearn", run="mine"))
    assert command.endswith("--merged")


def test_a_shipped_run_offers_its_samples_and_tells_that_it_kept_no_model(folder: Path):
    app = opened("unlearn", run="demo-npo-u2a")
    assert offered(app) >= FILES
    assert "kept no model" in said(app)
    assert not commands(app)


def test_a_baseline_has_no_samples_to_export(folder: Path):
    shipped = Workspace(folder).find("demo-npo-uniform")
    run = Run.create(folder / "dpo", "baseline", shipped.settings())
    for table in ("history", "generations"):
        run.write_table(table, shipped.table(table))
    run.write_report(shipped.report() | {"command": "baseline"})
    app = opened("unlearn", run="dpo")
    assert offered(app) & FILES == {"Model card"}


def test_files_are_made_when_asked_for_and_load_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run = finished_run(folder, "mine", model=False)
    sha256 = run.report()["data"]["negatives_sha256"]
    reviews.put(Workspace(folder), sha256, "n002", "unsure")
    made: dict[str, object] = {}
    monkeypatch.setattr(
        export_menu, "_button", lambda title, file, mime, write: made.update({file: write})
    )
    export_menu.menu(run)
    (tmp_path / "a.jsonl").write_text(made["mine-samples.jsonl"](), encoding="utf-8")
    assert load_negatives(tmp_path / "a.jsonl").sha256 == sha256
    frame = pd.read_parquet(io.BytesIO(made["mine-samples.parquet"]())).set_index("id")
    assert frame.loc["n002", "mark"] == "unsure"
    with zipfile.ZipFile(io.BytesIO(made["mine-trl.zip"]())) as archive:
        lines = archive.read("unpaired_preference.jsonl").decode("utf-8").splitlines()
    support = run.table("weights")["weight"] > 0
    assert len(lines) == support.sum()
    assert sum(json.loads(line)["weight"] for line in lines) == pytest.approx(1)
    card = made["mine-README.md"]()
    assert "n = 200 prompts" in card
    assert card.startswith("---\n")
