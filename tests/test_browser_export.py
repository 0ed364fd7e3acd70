"""A finished run leaves the workbench: its small files by a click, its model by a command."""

import io
import json
import zipfile
from pathlib import Path

import pandas as pd
import pytest
from workbench import Server, finished_run, pictured

from u2a_core.data import load_negatives

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def test_the_files_of_a_run_are_downloaded(server: Server, tab, tmp_path: Path):
    run = finished_run(server.folder, "mine", model=True)
    tab.goto(f"{server.url}/unlearn?run=mine")
    tab.get_by_test_id("stMain").get_by_role("button", name="Export").click()
    command = tab.get_by_test_id("stCode").filter(has_text="u2a export")
    assert str(run.path) in command.inner_text()
    pictured(tab, "export-of-a-run")
    kept = {}
    for name in ("JSONL", "Parquet", "LLaMA-Factory", "Model card"):
        with tab.expect_download() as download:
            tab.get_by_role("button", name=name, exact=True).click()
        kept[name] = download.value.path().read_bytes()
    (tmp_path / "a.jsonl").write_bytes(kept["JSONL"])
    sha256 = run.report()["data"]["negatives_sha256"]
    assert load_negatives(tmp_path / "a.jsonl").sha256 == sha256
    assert len(pd.read_parquet(io.BytesIO(kept["Parquet"]))) == 240
    with zipfile.ZipFile(io.BytesIO(kept["LLaMA-Factory"])) as archive:
        described = json.loads(archive.read("dataset_info.json"))
        assert {one["file_name"] for one in described.values()} < set(archive.namelist())
    assert kept["Model card"].startswith(b"---\n")
