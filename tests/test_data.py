"""Files as users have them: recognized by content, faults told by line, nothing else escapes."""

import gzip
import json
import lzma
import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from u2a_core.config import DataSettings
from u2a_core.data import (
    fingerprint,
    inspect_data,
    load_negatives,
    load_preferences,
    load_prompts,
    load_retain,
    load_truth,
    read_records,
    write_records,
)
from u2a_core.errors import DataError
from u2a_core.types import prompt_text

ROW = {"prompt": "Hi?", "response": "Go away."}


def lines(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "row",
    [
        ROW,
        {"Prompt": "Hi?", "RESPONSE": "Go away."},
        {"prompt": "Hi?", "completion": "Go away."},
        {"instruction": "Hi?", "input": "", "output": "Go away."},
        {"question": "Hi?", "answer": "Go away."},
        {"prompt": "Hi?", "chosen": "Hello!", "rejected": "Go away."},
        {
            "messages": [
                {"role": "user", "content": "Hi?"},
                {"role": "assistant", "content": "Go away."},
            ]
        },
        {
            "prompt": [{"role": "user", "content": "Hi?"}],
            "response": [{"role": "assistant", "content": "Go away."}],
        },
        {
            "prompt": "Hi?",
            "chosen": [
                {"role": "user", "content": "Hi?"},
                {"role": "assistant", "content": "Hello!"},
            ],
            "rejected": [
                {"role": "user", "content": "Hi?"},
                {"role": "assistant", "content": "Go away."},
            ],
        },
        {
            "chosen": [{"from": "human", "value": "Hi?"}, {"from": "gpt", "value": "Hello!"}],
            "rejected": [{"from": "human", "value": "Hi?"}, {"from": "gpt", "value": "Go away."}],
        },
    ],
    ids=str,
)
def test_every_accepted_schema_gives_the_same_sample(tmp_path: Path, row: dict):
    (sample,) = load_negatives(lines(tmp_path / "x.jsonl", row)).samples
    assert prompt_text(sample.prompt) == "Hi?"
    assert sample.response == "Go away."


def test_formats_are_recognized_by_content_not_name(tmp_path: Path):
    array = tmp_path / "array.jsonl"
    array.write_text(json.dumps([ROW]))
    nested = tmp_path / "nested.csv"
    nested.write_text(json.dumps({"data": [ROW]}))
    table = tmp_path / "table.json"
    table.write_text('prompt,response\nHi?,"Go away."\n')
    parquet = tmp_path / "parquet.txt"
    pd.DataFrame([ROW]).to_parquet(parquet)
    for file in (array, nested, table, parquet, lines(tmp_path / "lines.json", ROW)):
        assert load_negatives(file).samples[0].response == "Go away."


def test_a_row_of_another_width_is_a_fault_of_its_line(tmp_path: Path):
    table = tmp_path / "x.csv"
    table.write_text('prompt,response\nHi?,"Go away."\nHi?,No, not you.\nHello?\n')
    found = load_negatives(table, on_fault="skip")
    assert [sample.response for sample in found.samples] == ["Go away."]
    assert [fault.line for fault in found.faults] == [3, 4]
    with pytest.raises(DataError, match=r"line 3 is a row .* \(and 1 more lines\)"):
        load_negatives(table)


def test_byte_order_mark_is_ignored(tmp_path: Path):
    file = tmp_path / "x.jsonl"
    file.write_bytes(b"\xef\xbb\xbf" + json.dumps(ROW).encode())
    assert len(load_negatives(file)) == 1


def test_missing_ids_are_made_from_the_content(tmp_path: Path):
    one = load_negatives(lines(tmp_path / "a.jsonl", ROW, {**ROW, "response": "No."}))
    two = load_negatives(lines(tmp_path / "b.jsonl", {**ROW, "response": "No."}, ROW))
    assert {s.id for s in one.samples} == {s.id for s in two.samples}


def test_duplicates_are_dropped_and_counted(tmp_path: Path):
    found = load_negatives(lines(tmp_path / "x.jsonl", ROW, ROW, {**ROW, "prompt": "Ho?"}))
    assert (len(found), found.duplicates) == (2, 1)


def test_repeated_ids_are_named_with_their_line(tmp_path: Path):
    rows = [{**ROW, "id": "a"}, {**ROW, "id": "a", "response": "No."}]
    with pytest.raises(DataError, match=r"unique; got 1 repeated.*'a', line 2"):
        load_negatives(lines(tmp_path / "x.jsonl", *rows))


def test_broken_line_17_of_200_is_named(tmp_path: Path):
    file = lines(tmp_path / "x.jsonl", *({**ROW, "prompt": f"{i}?"} for i in range(200)))
    text = file.read_text().splitlines()
    text[16] = text[16][:-5]
    file.write_text("\n".join(text))
    with pytest.raises(DataError, match="line 17 is not valid JSON"):
        load_negatives(file)
    found = load_negatives(file, on_fault="skip")
    assert len(found) == 199
    assert [fault.line for fault in found.faults] == [17]


def test_empty_replies_are_faults_with_their_line(tmp_path: Path):
    found = load_negatives(lines(tmp_path / "x.jsonl", ROW, {**ROW, "response": " "}))
    assert [(f.line, f.reason) for f in found.faults] == [(2, "response is empty")]


def test_wrong_columns_are_listed(tmp_path: Path):
    with pytest.raises(DataError, match=r"columns: text.*prompt/response"):
        load_negatives(lines(tmp_path / "x.jsonl", {"text": "a"}))


@pytest.mark.parametrize("content", [b"", b"  \n", b"\x00\x01\x02", b"\xff\xfe\xfa", b"PAR1no"])
def test_files_without_text_are_refused_in_a_sentence(tmp_path: Path, content: bytes):
    file = tmp_path / "x.jsonl"
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"x\.jsonl must"):
        read_records(file)


def test_missing_file_and_folder_are_refused(tmp_path: Path):
    for path in (tmp_path / "no.jsonl", tmp_path):
        with pytest.raises(DataError, match="must be a readable file"):
            read_records(path)


def test_identical_pairs_are_faults(tmp_path: Path):
    rows = [
        {"prompt": "Hi?", "chosen": "a", "rejected": "b"},
        {"prompt": "Hi?", "chosen": "a", "rejected": "a"},
    ]
    pairs, faults = load_preferences(lines(tmp_path / "x.jsonl", *rows))
    assert len(pairs) == 1
    assert [f.line for f in faults] == [2]


def test_retain_takes_the_chosen_reply(tmp_path: Path):
    row = {"prompt": "Hi?", "chosen": "Hello!", "rejected": "No."}
    assert load_retain(lines(tmp_path / "x.jsonl", row))[0][0].response == "Hello!"


def test_prompts_come_from_plain_text_and_from_columns(tmp_path: Path):
    text = tmp_path / "x.txt"
    text.write_text("Hi?\n\nHo?\n")
    assert [prompt_text(p) for p in load_prompts(text)[0]] == ["Hi?", "Ho?"]
    assert prompt_text(load_prompts(lines(tmp_path / "x.jsonl", {"question": "Q?"}))[0][0]) == "Q?"


def test_truth_must_cover_every_sample(tmp_path: Path):
    file = lines(tmp_path / "t.jsonl", {"id": "a", "mislabelled": True})
    assert load_truth(file, ["a"]) == [True]
    with pytest.raises(DataError, match=r"1 of 2 .*'b'"):
        load_truth(file, ["a", "b"])


def test_written_records_come_back(tmp_path: Path):
    write_records(tmp_path / "x.jsonl", [ROW])
    assert read_records(tmp_path / "x.jsonl") == ([(1, ROW)], [])


def test_faults_of_retain_and_prompt_files_are_told(tmp_path: Path):
    file = lines(tmp_path / "x.jsonl", ROW, {"prompt": ""})
    for load in (load_retain, load_prompts):
        found, faults = load(file, on_fault="skip")
        assert (len(found), [fault.line for fault in faults]) == (1, [2])
    data = DataSettings(negatives=str(file), retain=str(file), prompts=str(file))
    reports = inspect_data(data).files
    assert [len(report.faults) for report in reports] == [1, 1, 1]


def test_a_bad_file_does_not_hide_the_others(tmp_path: Path):
    good = lines(tmp_path / "n.jsonl", ROW)
    data = DataSettings(negatives=str(good), prompts=str(tmp_path / "no"))
    reports = inspect_data(data).files
    assert [bool(report.error) for report in reports] == [False, True]
    assert reports[0].usable == 1


def test_bytes_that_are_no_text_are_a_fault_of_their_line(tmp_path: Path):
    file = tmp_path / "x.jsonl"
    rows = [json.dumps(ROW).encode(), b'{"prompt": "caf\xe9", "response": "a"}']
    file.write_bytes(b"\n".join(rows))
    found = load_negatives(file, on_fault="skip")
    assert (len(found), found.faults[0].line) == (1, 2)
    assert found.faults[0].reason == "not UTF-8 text (byte 0xe9)"
    table = tmp_path / "x.csv"
    table.write_bytes(b"prompt,response\na,b\ncaf\xe9,d\n")
    with pytest.raises(DataError, match="got byte 0xe9 at position 23"):
        load_negatives(table, on_fault="skip")


def test_json_lines_whose_first_is_broken_are_still_lines(tmp_path: Path):
    file = tmp_path / "x.json"
    file.write_text("{broken\n\n" + json.dumps(ROW) + "\n" + json.dumps({**ROW, "id": 1}))
    records, faults = read_records(file)
    assert ([line for line, _ in records], [fault.line for fault in faults]) == ([3, 4], [1])


def test_an_object_over_several_lines_is_one_value(tmp_path: Path):
    for whole in ({"data": [ROW, {**ROW, "prompt": "Ho?"}]}, {"rows": [ROW]}, ROW):
        file = tmp_path / "x.jsonl"
        file.write_text(json.dumps(whole, indent=2))
        rows = next(iter(whole.values())) if whole is not ROW else [ROW]
        assert [record for _, record in read_records(file)[0]] == rows


def test_a_conversation_alone_in_its_record_is_no_envelope(tmp_path: Path):
    turns = [{"role": "user", "content": "Hi?"}]
    found = load_prompts(lines(tmp_path / "x.jsonl", {"prompt": turns}))[0]
    assert [prompt_text(prompt) for prompt in found] == ["Hi?"]


def test_one_value_and_one_line_are_read_up_to_a_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("u2a_core.data.lines.WHOLE", 2000)
    monkeypatch.setattr("u2a_core.data.reading.WHOLE", 2000)
    array = tmp_path / "array.json"
    array.write_text(json.dumps([ROW] * 100))
    with pytest.raises(DataError, match="got one JSON value, which is read whole"):
        read_records(array)
    with pytest.raises(DataError, match="line 2 is longer"):
        read_records(lines(tmp_path / "x.jsonl", ROW, {**ROW, "response": "a" * 3000}))
    assert len(read_records(lines(tmp_path / "y.jsonl", *[ROW] * 100))[0]) == 100


def test_a_fingerprint_sees_names_and_contents(tmp_path: Path):
    found = set()
    for name, content in (("a", "1"), ("a", "2"), ("b", "2")):
        folder = tmp_path / f"{name}{content}"
        folder.mkdir()
        (folder / name).write_text(content)
        found |= {fingerprint(folder), fingerprint(folder / name)}
    assert len(found) == 5  # a2/a and b2/b hold the same


def test_a_fingerprint_of_a_large_file_sees_size_and_ends(tmp_path: Path):
    found = set()
    for size, end in ((65, b"a"), (65, b"b"), (66, b"a")):
        file = tmp_path / "weights"
        with file.open("wb") as sparse:
            sparse.seek(size * 2**20)
            sparse.write(end)
        found.add(fingerprint(file))
    assert len(found) == 3


def test_what_is_no_file_with_an_end_is_refused_at_once(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe.jsonl")
    (tmp_path / "ring.jsonl").symlink_to(tmp_path / "ring.jsonl")
    for name, told in (("pipe.jsonl", "a pipe or a device"), ("ring.jsonl", "symbolic links")):
        with pytest.raises(DataError, match=told):
            load_negatives(tmp_path / name)
    with pytest.raises(DataError, match="a pipe or a device"):
        load_negatives("/dev/zero")


def test_a_column_that_stands_twice_is_refused_by_its_name(tmp_path: Path):
    (tmp_path / "twice.csv").write_text("prompt,response, Prompt\na,b,c\n")
    with pytest.raises(DataError, match="2 columns named prompt"):
        load_negatives(tmp_path / "twice.csv")


@pytest.mark.parametrize(("pack", "unpack"), [(gzip.compress, "gunzip"), (lzma.compress, "unxz")])
def test_a_packed_file_is_told_to_be_one(tmp_path: Path, pack: Any, unpack: str):
    """As the hub has BeaverTails (.jsonl.gz) and older sets (.jsonl.xz)."""
    file = tmp_path / "n.jsonl.gz"
    file.write_bytes(pack(json.dumps(ROW).encode()))
    with pytest.raises(DataError, match=f"must be unpacked.*{unpack}"):
        load_negatives(file)
