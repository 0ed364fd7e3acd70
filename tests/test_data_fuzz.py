"""Whatever a file holds, loaders and inspection raise DataError alone, and memory stays flat.

A few hundred cases a test; U2A_FUZZ=10000 in the environment tries so many.
"""

import contextlib
import csv
import io
import json
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from formats import CASES
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from u2a_core.config import DataSettings
from u2a_core.data import (
    CHOICES,
    inspect_data,
    load_negatives,
    load_preferences,
    load_prompts,
    load_retain,
    load_truth,
    read_records,
)
from u2a_core.errors import DataError

LOADERS = (load_negatives, load_preferences, load_retain, load_prompts)
ROLES = ("negatives", "preferences", "retain", "prompts")
fuzzed = settings(
    max_examples=int(os.environ.get("U2A_FUZZ", "75")),
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
COLUMNS = sorted({column for case in CASES for row in case.rows for column in row})
odd = st.text(max_size=6) | st.sampled_from(["", " ", "\ufeffprompt", "Prompt ", "\ud800", "None"])
names = st.sampled_from([*COLUMNS, "id", "kind", "input", "metadata"]) | odd
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8),
    st.sampled_from(["\n\nHuman: a\n\nAssistant: b", "[Human]: a", "Sure, a", "\ud83d", "yes", "0",
                     1e308, -1, 10**30, "â€™", "\x00"]),
)  # fmt: skip
turn = st.dictionaries(
    st.sampled_from(["role", "content", "from", "value"]),
    scalars | st.sampled_from(["user", "assistant", "human", "gpt", "system"]),
    max_size=4,
)
values = st.recursive(
    scalars | st.lists(turn, max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)
records = st.dictionaries(names, values, max_size=6)


@st.composite
def spoiled_records(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Records of a format, some of whose cells or columns are something else."""
    case = draw(st.sampled_from(CASES))
    rows = []
    for row in draw(st.lists(st.sampled_from(case.rows), min_size=1, max_size=3)):
        changed = dict(row)
        for column in draw(st.lists(st.sampled_from(sorted(row)), max_size=2)):
            changed[column] = draw(values)
        for column in draw(st.lists(st.sampled_from(sorted(row)), max_size=1)):
            changed.pop(column, None)
        rows.append(changed | draw(st.dictionaries(names, values, max_size=1)))
    return rows


def json_lines(rows: list[Any]) -> bytes:
    return "\n".join(json.dumps(row) for row in rows).encode()


def table(rows: list[Any]) -> bytes:
    text = io.StringIO()
    columns = list(dict.fromkeys(column for row in rows for column in row)) or ["prompt"]
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode("utf-8", "surrogatepass")


some_rows = st.lists(records, max_size=4) | spoiled_records()
content = st.one_of(
    st.binary(max_size=80),
    st.binary(max_size=60).map(lambda raw: b"PAR1" + raw + b"PAR1"),
    st.text(max_size=80).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.lists(values, max_size=4).map(json_lines),
    some_rows.map(json_lines),
    some_rows.map(lambda rows: json.dumps(rows).encode()),
    some_rows.map(lambda rows: json.dumps({"data": rows}, indent=1).encode()),
    some_rows.map(table),
)
endings = st.sampled_from([".jsonl", ".json", ".csv", ".txt", ".parquet", ""])


@fuzzed
@given(raw=content, ending=endings, format=st.sampled_from([None, *CHOICES]))
def test_only_data_errors_escape_the_loaders(
    tmp_path: Path, raw: bytes, ending: str, format: str | None
):
    file = tmp_path / f"x{ending}"
    file.write_bytes(raw)
    for load in LOADERS:
        with contextlib.suppress(DataError):
            load(file, columns={"format": format} if format else None, on_fault="skip")
    for read in (read_records, lambda path: load_truth(path, ["a"])):
        with contextlib.suppress(DataError):
            read(file)


@fuzzed
@given(
    rows=spoiled_records(),
    named=st.dictionaries(
        st.sampled_from(["prompt", "response", "messages", "chosen", "rejected", "id", "kind"]),
        st.sampled_from(COLUMNS) | odd,
        max_size=3,
    ),
)
def test_only_data_errors_escape_columns_of_odd_names(
    tmp_path: Path, rows: list[dict[str, Any]], named: dict[Any, str]
):
    file = tmp_path / "x.jsonl"
    file.write_bytes(json_lines(rows))
    for load in LOADERS:
        try:
            load(file, columns=named)
        except DataError as error:
            assert str(file) in str(error)


@fuzzed
@given(raw=content, ending=endings)
@example(raw=b'{"instruction": "a", "output": "b", "history": 1}', ending=".jsonl")
def test_every_file_has_a_report_that_can_be_written(tmp_path: Path, raw: bytes, ending: str):
    file = str(tmp_path / f"x{ending}")
    Path(file).write_bytes(raw)
    found = inspect_data(DataSettings(**dict.fromkeys(ROLES, file)))
    assert len(found.files) == len(ROLES)
    for report in found.files:
        assert bool(report.usable) != bool(report.error)
        assert type(report).from_dict(json.loads(json.dumps(report.as_dict()))).role == report.role
        report.preview[:1] and report.preview[0].encode()
        assert len(report.lengths) == report.usable


@fuzzed
@given(rows=spoiled_records())
@example(rows=[{"question": "a", "incorrect_answers": ["b", "b"]}])
def test_what_a_report_counts_is_what_is_loaded(tmp_path: Path, rows: list[dict[str, Any]]):
    file = tmp_path / "x.jsonl"
    file.write_bytes(json_lines(rows))
    reports = inspect_data(DataSettings(**dict.fromkeys(ROLES, str(file)))).files
    for report, role, load in zip(reports, ROLES, (LOADERS[0], *LOADERS[1:]), strict=True):
        try:
            loaded: Any = load(file, on_fault="skip")
        except DataError as error:
            assert report.error == str(error)
            continue
        found = loaded.samples if role == "negatives" else loaded[0]
        faults = loaded.faults if role == "negatives" else loaded[1]
        assert (report.role, report.usable, report.faulty) == (role, len(found), len(faults))
        if role == "negatives":
            assert (report.sha256, report.duplicates) == (loaded.sha256, loaded.duplicates)


def as_lines(file: Path, rows: list[dict[str, Any]]) -> None:
    file.write_bytes(json_lines(rows))


def as_table(file: Path, rows: list[dict[str, Any]]) -> None:
    file.write_bytes(table(rows))


def as_parquet(file: Path, rows: list[dict[str, Any]]) -> None:
    pd.DataFrame(rows).to_parquet(file, row_group_size=100)


@pytest.mark.parametrize("write", [as_lines, as_table, as_parquet])
def test_inspection_holds_no_texts(
    tmp_path: Path, write: Callable[[Path, list[dict[str, Any]]], None]
):
    file = tmp_path / "x.file"
    write(file, [{"prompt": f"{i} " + "p" * 5000, "response": "r" * 5000} for i in range(500)])
    inspect_data(DataSettings(negatives=str(file)))  # imports
    tracemalloc.start()
    (report,) = inspect_data(DataSettings(negatives=str(file))).files
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert report.usable == 500
    assert peak < 3.5e6  # of 5 MB of text
