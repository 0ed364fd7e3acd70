"""Columns of other names are mapped by a setting; sets that should be apart are compared."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from u2a_core.config import EvaluationSettings, load_settings, override, parse_settings
from u2a_core.data import (
    inspect_data,
    load_negatives,
    load_preferences,
    load_prompts,
    load_retain,
    read_records,
)
from u2a_core.errors import ConfigError, DataError
from u2a_core.estimate.workload import read_workload
from u2a_core.models import render
from u2a_core.models.loading import load_tokenizer
from u2a_core.runs import demo_assets
from u2a_core.types import prompt_text

TURNS = [{"role": "user", "content": "Hi?"}, {"role": "assistant", "content": "Go away."}]


def lines(path: Path, *rows: Any) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("row", "columns"),
    [
        ({"asked": "Hi?", "said": "Go away."}, {"prompt": "asked", "response": "said"}),
        ({"question": "Hi?", "Bad": "Go away."}, {"response": "bad"}),
        ({"asked": "Hi?", "output": "Go away."}, {"prompt": "asked"}),
        ({"turns": TURNS, "response": "Not this."}, {"messages": "turns"}),
        ({"conversations": TURNS}, {}),
        ({"prompt": "Hi?", "response": "Not this.", "bad": "Go away."}, {"response": "bad"}),
        (
            {"prompt": "Hi?", "chosen": "Hello!", "rejected": "No.", "worst": "Go away."},
            {"response": "worst"},
        ),
        ({"instruction": "Hi?", "input": "", "bad": "Go away."}, {"response": "bad"}),
        ({"dialogue": TURNS, "bad": TURNS}, {"response": "bad"}),
        ({"question": "Hi?", "chosen": "Hello!", "rejected": "Go away."}, {}),
    ],
    ids=str,
)
def test_a_named_column_comes_before_those_recognized(tmp_path: Path, row: dict, columns: Any):
    (sample,) = load_negatives(lines(tmp_path / "x.jsonl", row), columns=columns).samples
    assert (prompt_text(sample.prompt), sample.response) == ("Hi?", "Go away.")


def test_ids_and_kinds_are_mapped_and_the_set_is_the_same_as_under_usual_names(tmp_path: Path):
    usual = {"id": "a", "kind": "rude", "prompt": "Hi?", "response": "Go away."}
    names = {"id": "key", "kind": "family", "prompt": "asked", "response": "said"}
    other = {names[part]: value for part, value in usual.items()}
    one = load_negatives(lines(tmp_path / "a.jsonl", usual))
    two = load_negatives(lines(tmp_path / "b.jsonl", other), columns=names)
    assert one == two


def test_pairs_retain_and_prompts_are_mapped_too(tmp_path: Path):
    file = lines(tmp_path / "x.jsonl", {"ask": "Hi?", "good": "Hello!", "bad": "Go away."})
    (pair,), _ = load_preferences(
        file, columns={"prompt": "ask", "chosen": "good", "rejected": "bad"}
    )
    (kept,), _ = load_retain(file, columns={"prompt": "ask", "response": "good"})
    (asked,), _ = load_prompts(file, columns={"prompt": "ask"})
    assert (pair.chosen, pair.rejected, kept.response) == ("Hello!", "Go away.", "Hello!")
    assert pair.prompt == kept.prompt == asked


def test_a_named_column_that_is_not_there_is_told(tmp_path: Path):
    file = lines(tmp_path / "x.jsonl", {"prompt": "Hi?", "response": "No."})
    with pytest.raises(DataError, match="has no column reply, which is named for the response"):
        load_negatives(file, columns={"response": "reply"})


def test_the_setting_stands_in_yaml_and_on_the_command_line(tmp_path: Path, u2a):
    file = lines(tmp_path / "x.jsonl", {"asked": "Hi?", "said": "Go away."})
    columns = {"negatives": {"prompt": "asked", "response": "said"}}
    config = tmp_path / "c.yaml"
    config.write_text(yaml.safe_dump({"data": {"negatives": file, "columns": columns}}))
    assert u2a("data", config=config)[0] == 0
    config.write_text(yaml.safe_dump({"data": {"negatives": file}}))
    assert u2a("data", config=config)[0] == 2
    words = ["--data.columns.negatives.prompt", "asked"]
    words += ["--data.columns.negatives.response", "said"]
    assert u2a("data", *words, config=config)[0] == 0
    assert override(load_settings(config), words).data.columns == columns


def test_a_column_named_as_the_file_spells_it_is_not_called_odd(tmp_path: Path):
    file = lines(tmp_path / "x.jsonl", {"User asked": "Hi?", "Bot": "Go away."})
    notes = {}
    for reply in ("Bot", "bot"):
        raw = {"columns": {"negatives": {"prompt": "User asked", "response": reply}}}
        settings = parse_settings({"data": {"negatives": file, **raw}}, source="x.yaml")
        report = inspect_data(settings.data, EvaluationSettings()).files[0]
        notes[reply] = report.notes
    assert notes == {"Bot": (), "bot": ("has columns in another case: Bot",)}


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"negatives": {"chosen": "a"}}, "negatives must name columns for some of prompt, resp"),
        ({"negatives": {"messages": "a", "prompt": "b"}}, "of messages, or of prompt and response"),
        ({"negativs": {"prompt": "a"}}, "negatives"),
        ("prompt", "dictionary"),
    ],
)
def test_a_wrong_mapping_is_a_sentence(columns: Any, told: str):
    with pytest.raises(ConfigError, match=told):
        parse_settings({"data": {"columns": columns}}, source="x.yaml")


def test_a_run_on_mapped_columns_gives_the_gains_of_usual_ones(u2a, scenario: Path, tmp_path: Path):
    own = tmp_path / "mapped.jsonl"
    rows = [row for _, row in read_records(scenario.parent / "data" / "negatives.jsonl")[0]]
    lines(own, *({"id": r["id"], "q": r["prompt"], "bad": r["response"]} for r in rows))
    words = ["--data.negatives", own, "--data.columns.negatives.prompt", "q"]
    words += ["--data.columns.negatives.response", "bad"]
    reports = []
    for name, more in (("one", []), ("two", words)):
        code, out, err = u2a("gains", "--out", tmp_path / name, "--json", *more)
        assert code == 0, err
        reports.append(json.loads(out))
    for key in ("negatives_sha256", "negatives"):
        assert reports[0]["data"][key] == reports[1]["data"][key]
    assert reports[0]["gains"] == reports[1]["gains"]


def test_an_estimate_reads_mapped_columns_too(scenario: Path, tmp_path: Path):
    own = tmp_path / "mapped.jsonl"
    rows = [row for _, row in read_records(scenario.parent / "data" / "negatives.jsonl")[0]]
    lines(own, *({"q": r["prompt"], "bad": r["response"]} for r in rows))
    usual = load_settings(scenario)
    words = ["--data.negatives", str(own), "--data.columns.negatives.prompt", "q"]
    mapped = override(usual, [*words, "--data.columns.negatives.response", "bad"])
    tokenizer = load_tokenizer(usual.model.path)
    one, two = (read_workload(s, tokenizer, 96, None).negatives for s in (usual, mapped))
    assert one == two


def test_what_sets_share_is_counted(tmp_path: Path):
    rows = [{"prompt": f"{i}?", "response": f"No {i}."} for i in range(5)]
    pairs = [{"prompt": f"{i}?", "chosen": f"No {i}.", "rejected": f"Bad {i}."} for i in range(3)]
    settings = parse_settings(
        {
            "data": {
                "negatives": lines(tmp_path / "n.jsonl", *rows),
                "retain": lines(tmp_path / "r.jsonl", *rows[:2], {**rows[0], "response": "Yes."}),
                "preferences": lines(tmp_path / "p.jsonl", *pairs),
                "prompts": lines(tmp_path / "t.jsonl", {"prompt": "4?"}, {"prompt": "new?"}),
            },
            "evaluation": {"outsiders": lines(tmp_path / "o.jsonl", rows[4])},
        },
        source="here",
    )
    found = inspect_data(settings.data, settings.evaluation).overlaps
    assert [(o.name, o.other, o.shared, o.of) for o in found] == [
        ("retain", "negatives", 2, 3),
        ("retain", "preferences", 2, 3),
        ("preferences", "negatives", 3, 3),
        ("prompts", "negatives", 1, 2),
        ("outsiders", "negatives", 1, 1),
    ]


def test_the_demos_sets_are_apart():
    settings = load_settings(demo_assets() / "demo.yaml")
    assert inspect_data(settings.data, settings.evaluation).overlaps == ()


def test_files_of_an_evaluation_are_inspected_and_a_run_as_reference_is_left(tmp_path: Path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")
    good = lines(tmp_path / "n.jsonl", {"prompt": "Hi?", "response": "No."})
    settings = parse_settings({"data": {"negatives": good}}, source="here").data
    own = EvaluationSettings(harmful=good, reference=str(tmp_path / "run"), benign="/no/file")
    reports = inspect_data(settings, own).files
    assert [(r.role, r.usable, bool(r.error)) for r in reports] == [
        ("negatives", 1, False),
        ("harmful", 1, False),
        ("benign", 0, True),
    ]


def test_faults_and_duplicates_are_told_with_their_text(tmp_path: Path):
    row = {"prompt": "Hi?", "response": "No."}
    file = tmp_path / "x.jsonl"
    broken = "{broken " + "x" * 500
    empty = json.dumps({**row, "response": ""})
    file.write_text("\r\n".join([json.dumps(row), broken, empty, json.dumps(row)]))
    (report,) = inspect_data(
        parse_settings({"data": {"negatives": str(file)}}, source="x").data
    ).files
    assert [(f.line, len(f.text)) for f in report.faults] == [(2, 160), (3, len(empty))]
    assert [(r.line, r.first, r.text) for r in report.repeated] == [(4, 1, "Hi? → No.")]
    assert (report.usable, report.recognized) == (1, {"prompt": "prompt", "response": "response"})


def test_a_line_of_five_million_characters_is_read_and_shown_short(tmp_path: Path):
    file = lines(tmp_path / "x.jsonl", {"prompt": "Hi?", "response": "a" * 5_000_000})
    (report,) = inspect_data(parse_settings({"data": {"negatives": file}}, source="x").data).files
    assert (report.usable, report.longest) == (1, 5_000_000)
    assert max(len(text) for text in (*report.rows[0][1:], *report.head[0].values())) <= 160
    table = tmp_path / "x.csv"
    table.write_text("prompt,response\nHi?," + "a" * 5_000_000)
    assert len(load_negatives(table)) == 1


def test_separators_inside_a_prompt_do_not_end_its_line(tmp_path: Path):
    file = tmp_path / "x.txt"
    file.write_bytes("one\u2028still one\r\n\x0btwo\n".encode())
    assert [prompt_text(p) for p in load_prompts(file)[0]] == ["one\u2028still one", "\x0btwo"]


def test_a_sample_is_rendered_as_it_is_encoded(scenario: Path):
    settings = override(load_settings(scenario), ["--model.max_length", "20"])
    shown = [s for s in render(settings, 2) if s.set == "negatives"]
    assert [(s.number, s.reply) for s in shown] == [(1, "response"), (2, "response")]
    first, negatives = shown[0], load_negatives(settings.data.negatives).samples
    text = {kind: "".join(p.text for p in first.pieces if p.kind == kind) for kind in
            ("prompt", "response", "cut")}  # fmt: skip
    prompt = prompt_text(negatives[0].prompt)
    assert text["prompt"] == f"<|bos|><|user|>{prompt}<|end|><|assistant|>"
    assert text["response"] + text["cut"] == f"{negatives[0].response}<|end|>"
    assert (first.tokens - first.cut, sum(p.tokens for p in first.pieces)) == (20, first.tokens)


def test_a_pair_is_rendered_with_both_replies_and_a_prompt_with_none(scenario: Path):
    shown = render(load_settings(scenario), 1)
    assert [(s.set, s.reply) for s in shown] == [
        ("negatives", "response"), ("preferences", "chosen"), ("preferences", "rejected"),
        ("retain", "response"), ("prompts", ""),
    ]  # fmt: skip
    assert shown[-1].response == 0


def test_a_character_of_several_tokens_is_shown_whole(scenario: Path, tmp_path: Path):
    file = lines(tmp_path / "x.jsonl", {"prompt": "🙂 مرحبا", "response": "née 🙂"})
    (shown, *_) = render(override(load_settings(scenario), ["--data.negatives", file]), 1)
    text = "".join(piece.text for piece in shown.pieces)
    assert "🙂 مرحبا" in text
    assert "née 🙂" in text
    assert "\ufffd" not in text


def test_a_prompt_that_leaves_no_room_is_told_by_its_sample(scenario: Path):
    (shown, *_) = render(override(load_settings(scenario), ["--model.max_length", "4"]), 1)
    assert "leaves no room for a reply in 4" in shown.problem


def test_the_command_prints_the_preview(u2a):
    code, out, _ = u2a("data", "--preview", 1, "--json")
    shown = json.loads(out)["preview"]
    assert code == 0
    assert {piece["kind"] for piece in shown[0]["pieces"]} == {"prompt", "response"}
