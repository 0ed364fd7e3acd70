"""The Data page without a browser: own files of every sort, columns, versions, blur, preview."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from pages import opened
from streamlit.testing.v1 import AppTest

from app import datasets, rendering, texts
from u2a_core.config import load_settings
from u2a_core.data import inspect_data
from u2a_core.runs import demo_assets

ROWS = [{"ask": f"Why {i}?", "said": f"No {i}.", "good": f"Yes {i}."} for i in range(6)]


def lines(path: Path, *rows: Any) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def own(**files: object) -> AppTest:
    """The page of the user's own project, with files named and saved."""
    app = opened("data")
    app.segmented_control("project_choice").set_value("own").run()
    for role, path in files.items():
        app.text_input(f"own_path_{role}").set_value(str(path))
    return save(app)


def save(app: AppTest) -> AppTest:
    next(b for b in app.button if b.label == "Check and save").click().run()
    assert not app.exception, app.exception[0].message
    return app


def draft(folder: Path) -> dict[str, Any]:
    return yaml.safe_load((folder / ".draft.yaml").read_text())["data"]


def numbers(app: AppTest) -> dict[str, str]:
    return {metric.label: metric.value for metric in app.metric}


def said(app: AppTest) -> str:
    boxes = [*app.error, *app.warning, *app.info, *app.caption, *app.success]
    return " ".join(box.value for box in boxes).replace("\\", "")


def test_the_demo_is_shown_and_cannot_be_changed(folder: Path):
    app = opened("data")
    assert numbers(app)["Usable"] == "240"
    assert not app.get("file_uploader")
    assert not app.selectbox
    charts = [chart.proto for chart in app.get("plotly_chart")]
    assert len(charts) == 2
    assert all(chart.alt for chart in charts)
    folds = [fold.label for fold in app.expander]
    assert "Evaluation (4 files)" in folds
    assert not any("Versions" in fold for fold in folds)
    assert not folder.exists()


def test_every_set_of_the_demo_can_be_looked_at(folder: Path):
    app = opened("data")
    sizes = {"preferences": "64", "retain": "48", "prompts": "200"}
    for role, size in sizes.items():
        app.segmented_control("data_set").set_value(role).run()
        assert not app.exception
        assert numbers(app)["Usable"] == size


def test_unknown_columns_are_chosen_and_the_command_line_reads_them_too(
    folder: Path, tmp_path: Path
):
    app = own(negatives=lines(tmp_path / "n.jsonl", *ROWS))
    assert "columns: ask, good, said" in said(app)
    assert "choose them here" in said(app)
    app.selectbox("column_negatives_prompt").set_value("ask").run()
    app.selectbox("column_negatives_response").set_value("said").run()
    assert not app.exception
    assert "Saved" in said(app)  # and what is still missing, with its page
    assert numbers(app)["Usable"] == "6"
    assert draft(folder)["columns"] == {"negatives": {"prompt": "ask", "response": "said"}}
    assert inspect_data(load_settings(folder / ".draft.yaml").data).files[0].usable == 6
    read_as = app.dataframe[0].value.set_index("column")["read as"]
    assert dict(read_as) == {"ask": "Prompt", "said": "Reply", "good": "not read"}


def test_a_conversation_takes_the_place_of_prompt_and_reply(folder: Path, tmp_path: Path):
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "No."}]
    app = own(negatives=lines(tmp_path / "n.jsonl", {**ROWS[0], "talk": turns}))
    app.selectbox("column_negatives_prompt").set_value("ask").run()
    app.selectbox("column_negatives_messages").set_value("talk").run()
    assert draft(folder)["columns"] == {"negatives": {"messages": "talk"}}
    assert numbers(app)["Usable"] == "1"


BAD = {
    "empty": (b"", "it is empty"),
    "binary": (b"\x89PNG\r\n\x1a\n\x00\x01\xff", "must be UTF-8 text or Parquet"),
    "database": (b"SQLite format 3\x00" + bytes(90), "got a binary file"),
    "one column": (b"text\nhello\nbye\n", "columns: text"),
    "torn parquet": (b"PAR1no", "must be a whole Parquet file"),
}


@pytest.mark.parametrize(("content", "told"), BAD.values(), ids=BAD)
def test_a_bad_file_is_a_sentence_and_the_form_keeps_what_was_typed(
    folder: Path, tmp_path: Path, content: bytes, told: str
):
    (tmp_path / "bad.jsonl").write_bytes(content)
    app = own(negatives=tmp_path / "bad.jsonl", retain="/nowhere/retain")
    assert told in said(app)
    assert "must be a readable file" in said(app)
    assert app.text_input("own_path_retain").value == "/nowhere/retain"
    assert "cannot be shown" not in said(app)


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_windows_files_are_read(folder: Path, tmp_path: Path, ending: str, mark: bytes):
    rows = [json.dumps({"prompt": f"{i}?", "response": "No."}) for i in range(3)]
    (tmp_path / "n.jsonl").write_bytes(mark + ending.join(rows).encode())
    assert numbers(own(negatives=tmp_path / "n.jsonl"))["Usable"] == "3"


def test_markup_emoji_and_right_to_left_text_are_shown_as_they_are(folder: Path, tmp_path: Path):
    text = "<script>alert(1)</script> **b** 🙂 مرحبا"
    name = tmp_path / "![x](http:x.png) <b>.jsonl"
    app = own(negatives=lines(name, {"prompt": "Hi?", "response": text}))
    assert text in set(app.dataframe[1].value["reply"])
    caption = next(c.value for c in app.caption if "· file " in c.value)
    assert "![x](" not in caption
    assert r"\<b\>" in caption
    marked = rendering.marked([{"text": text, "kind": "response", "tokens": 3}], "light")
    assert "<script>" not in marked
    assert "&lt;script&gt;" in marked


def test_a_very_long_line_is_shown_short(folder: Path, tmp_path: Path):
    app = own(negatives=lines(tmp_path / "n.jsonl", {"prompt": "Hi?", "response": "a" * 5_000_000}))
    assert numbers(app)["Most characters"] == "5,000,000"
    assert app.dataframe[1].value["reply"].str.len().max() == 160


def test_a_folder_that_cannot_be_written_is_told_and_nothing_typed_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("U2A_RUNS", str(tmp_path / "file" / "runs"))
    app = own(negatives="/some/path.jsonl")
    assert "must be writable" in said(app)
    assert app.text_input("own_path_negatives").value == "/some/path.jsonl"


def test_uploads_are_kept_by_content_and_an_earlier_version_comes_back(
    folder: Path, tmp_path: Path
):
    app = opened("data")
    app.segmented_control("project_choice").set_value("own").run()
    for place, count in enumerate((3, 5)):
        rows = "".join(
            json.dumps({"prompt": f"{i}?", "response": "No."}) + "\n" for i in range(count)
        )
        upload = (f"../evil{count} <b>.jsonl", rows.encode(), "application/json")
        app.file_uploader(f"own_upload_negatives_{place}").set_value(upload)
        save(app)
        assert numbers(app)["Usable"] == str(count)
    kept = sorted(file.name for file in (folder / ".uploads").iterdir())
    assert len(kept) == 2
    assert all(len(Path(name).stem) == 64 for name in kept)
    assert "evil5" in next(c.value for c in app.caption if "· file " in c.value)
    assert "Versions (2)" in [fold.label for fold in app.expander]
    app.button("version_negatives_1").click().run()
    assert numbers(app)["Usable"] == "3"
    path = draft(folder)["negatives"]
    assert (
        app.text_input("own_path_negatives").value == "../evil3 <b>.jsonl"
    )  # as the user knows it
    assert draft(folder)["negatives"] == path == str(folder / ".uploads" / Path(path).name)
    assert "evil3" in next(c.value for c in app.caption if "· file " in c.value)


def test_a_version_whose_file_has_changed_cannot_come_back(folder: Path, tmp_path: Path):
    row = {"prompt": "Hi?", "response": "No."}
    file = tmp_path / "n.jsonl"
    own(negatives=lines(file, row))
    app = own(negatives=lines(file, row, {**row, "prompt": "Ho?"}))
    assert numbers(app)["Usable"] == "2"
    assert app.button("version_negatives_1").disabled


def test_a_damaged_ledger_is_forgotten(folder: Path, tmp_path: Path):
    folder.mkdir()
    for content in ("[", '{"names": 1, "versions": {"negatives": [{"odd": 1}]}}'):
        (folder / ".datasets.json").write_text(content)
        app = own(negatives=lines(tmp_path / "n.jsonl", {"prompt": "Hi?", "response": "No."}))
        assert numbers(app)["Usable"] == "1"
        assert "cannot be shown" not in said(app)


def test_what_sets_share_is_a_warning(folder: Path, tmp_path: Path):
    rows = [{"prompt": f"{i}?", "response": f"No {i}."} for i in range(4)]
    app = own(
        negatives=lines(tmp_path / "n.jsonl", *rows), retain=lines(tmp_path / "r.jsonl", *rows[:2])
    )
    assert "2 of 2 replies of the retain set are negatives, too" in said(app)


def test_faults_and_duplicates_are_listed_with_their_lines(folder: Path, tmp_path: Path):
    row = {"prompt": "Hi?", "response": "No."}
    file = tmp_path / "n.jsonl"
    file.write_text("\n".join([json.dumps(row), json.dumps(row), "{broken"]))
    app = own(negatives=file)
    assert numbers(app)["Faults"] == "1"
    assert numbers(app)["Duplicates dropped"] == "1"
    assert any(code.value.startswith("line 3: not valid JSON") for code in app.code)
    labels = [button.label for button in app.get("download_button")]
    assert {"All faults (CSV)", "All duplicates (CSV)"} <= set(labels)
    tables = [list(table.value.columns) for table in app.dataframe]
    assert ["line", "fault", "text"] in tables
    assert ["line", "repeats line", "text"] in tables


def test_a_blurred_set_shows_no_text_in_any_table(folder: Path):
    app = opened("data")
    app.toggle("data_blur").set_value(True).run()
    reply = inspect_data(load_settings(demo_assets() / "demo.yaml").data).files[0].rows[0].reply
    shown = " ".join(table.value.to_csv() for table in app.dataframe)
    assert texts.MASK in shown
    assert reply not in shown
    assert opened("data").toggle("data_blur").value


def test_an_unreadable_set_is_told_while_another_is_looked_at(folder: Path, tmp_path: Path):
    good = lines(tmp_path / "n.jsonl", {"prompt": "Hi?", "response": "No."})
    app = own(negatives=good, retain="/nowhere/r")
    assert "Cannot be read, choose it below to see why: Retain set." in said(app)


def as_read(app: AppTest) -> AppTest:
    """The samples as the model reads them, once they are."""
    app.segmented_control("look_negatives").set_value("As the model reads them").run()
    return waited(app)


def waited(app: AppTest) -> AppTest:
    """After the processes that render have ended; a page's poll does it in a browser."""
    for _ in range(600):
        if not any(thread.is_alive() for thread in rendering._working.values()):
            break
        time.sleep(0.1)
    app.run()
    assert not app.exception
    return app


def test_samples_are_shown_as_the_model_reads_them_with_arrows(folder: Path):
    app = as_read(opened("data"))
    assert "25 tokens, 9 of the reply" in said(app)
    html = " ".join(str(element.proto) for element in app.get("html"))
    assert "lazy" in html
    app.button("rendered_next").click().run()
    assert "**Sample 2** of the first 20" in [m.value for m in app.markdown]
    assert app.button("rendered_previous").disabled is False


def test_a_model_that_cannot_be_read_is_a_sentence(folder: Path, tmp_path: Path):
    app = own(negatives=lines(tmp_path / "n.jsonl", {"prompt": "Hi?", "response": "No."}))
    app.segmented_control("look_negatives").set_value("As the model reads them").run()
    assert "Name a model first" in said(app)
    (tmp_path / "model").mkdir()
    raw = yaml.safe_load((folder / ".draft.yaml").read_text())
    raw["model"]["path"] = str(tmp_path / "model")
    (folder / ".draft.yaml").write_text(yaml.safe_dump(raw))
    app = as_read(opened("data"))
    assert "must hold a tokenizer" in said(app)
    assert "Try again" in [button.label for button in app.button]


def test_a_set_on_the_hub_is_checked_by_a_process_of_its_own(folder: Path):
    app = own(negatives="owner/name")
    app.button("far_negatives_begin").click().run()
    app = waited(app)
    assert "owner/name must be a file or a hub data set; got" in said(app)


def test_a_report_comes_back_from_its_json():
    settings = load_settings(demo_assets() / "demo.yaml")
    for report in inspect_data(settings.data, settings.evaluation).files:
        again = type(report).from_dict(json.loads(json.dumps(report.as_dict())))
        assert again.as_dict() | {"preview": []} == report.as_dict() | {"preview": []}


def test_a_large_file_is_read_by_a_process_of_its_own(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(datasets, "LARGE", 10)
    app = own(negatives=lines(tmp_path / "n.jsonl", *ROWS, {"prompt": "Hi?", "response": "No."}))
    assert "is a large file" in said(app)
    assert not app.metric
    app.button("far_negatives_begin").click().run()
    app = waited(app)
    assert numbers(app)["Usable"] == "1"
    assert numbers(app)["Faults"] == "6"
    app.selectbox("column_negatives_response").set_value("said").run()
    assert draft(folder)["columns"] == {"negatives": {"response": "said"}}


def test_the_format_is_shown_and_another_can_be_named(folder: Path, tmp_path: Path):
    row = {
        "prompt": "Hi?", "response_0": "No.", "response_1": "Hello!", "is_response_0_safe": False,
        "is_response_1_safe": True, "better_response_id": 0, "safer_response_id": 1,
    }  # fmt: skip
    file = lines(tmp_path / "n.jsonl", row, {**row, "prompt": "Ho?", "is_response_0_safe": True})
    app = own(negatives=file)
    assert "Read as PKU-SafeRLHF, pairs by safety (JSON lines)" in said(app)
    assert "1 left out: no reply is marked as unsafe (first: line 2)" in said(app)
    assert (numbers(app)["Usable"], numbers(app)["Left out"]) == ("1", "1")
    app.selectbox("format_negatives").set_value("prompts").run()
    assert draft(folder)["formats"] == {"negatives": "prompts"}
    assert "has no columns of a known format" in said(app)
    app.selectbox("column_negatives_response").set_value("response_1").run()
    assert "formats" not in draft(folder) or draft(folder)["formats"] == {}
    assert draft(folder)["columns"] == {"negatives": {"response": "response_1"}}
    assert numbers(app)["Usable"] == "2"
    app.selectbox("format_negatives").set_value("pku-saferlhf").run()
    assert draft(folder)["columns"].get("negatives", {}) == {}
    assert numbers(app)["Usable"] == "1"
    app.selectbox("format_negatives").set_value("").run()
    assert draft(folder)["formats"] == {}


def test_saved_again_an_upload_stays_what_it_is(folder: Path):
    app = opened("data")
    app.segmented_control("project_choice").set_value("own").run()
    row = json.dumps({"prompt": "Why?", "response": "No."}) + "\n"
    app.file_uploader("own_upload_negatives_0").set_value(("mine.jsonl", row.encode(), "text/json"))
    save(app)
    path = draft(folder)["negatives"]
    save(app)
    assert draft(folder)["negatives"] == path
    assert app.text_input("own_path_negatives").value == "mine.jsonl"


def test_a_prompts_file_is_asked_for_prompts_alone(folder: Path, tmp_path: Path):
    negatives = lines(tmp_path / "n.jsonl", {"prompt": "Why?", "response": "No."})
    app = own(negatives=negatives, objective_prompts=lines(tmp_path / "p.jsonl", {"x": 1}))
    assert "A record needs a prompt." in said(app)
    assert "data.columns" not in said(app)
    chart = next(c for c in app.get("plotly_chart") if "sizes" in c.proto.id)
    assert "1 records are used of the sets that can be read" in chart.proto.spec
