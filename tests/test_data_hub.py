"""Data sets of the hub: their names, what is read of them, refusals, no network.

The library reads sets from folders here, as it reads those of the hub once they are downloaded.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import pytest

from u2a_core.config import DataSettings
from u2a_core.data import hub, inspect_data, is_hub_id, load_negatives
from u2a_core.data.hub import Named, named
from u2a_core.errors import DataError

_CONFIGURATIONS = """---
configs:
- config_name: forget10
  data_files: [{split: train, path: f.jsonl}]
- config_name: retain90
  data_files: [{split: train, path: r.jsonl}, {split: test, path: t.jsonl}]
---
"""


def put(folder: Path, **files: dict[str, Any]) -> None:
    folder.mkdir(parents=True)
    for name, row in files.items():
        (folder / f"{name}.jsonl").write_text(json.dumps(row) + "\n")


def row(reply: str) -> dict[str, str]:
    return {"prompt": "Hi?", "response": reply}


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """The revisions that the library is asked for; its sets are folders of ours."""
    put(tmp_path / "owner" / "plain", train=row("train"), test=row("test"))
    put(tmp_path / "owner" / "parts", f=row("forget"), r=row("retain"), t=row("test"))
    (tmp_path / "owner" / "parts" / "README.md").write_text(_CONFIGURATIONS)
    put(tmp_path / "owner" / "apart", a=row("a"), b={"question": "Hi?", "answer": "b"})
    (tmp_path / "owner" / "nothing").mkdir()
    load, revisions = datasets.load_dataset, list[str | None]()

    def loaded(path: str, revision: str | None, **which: Any) -> Any:
        revisions.append(revision)
        return load(str(tmp_path / path), cache_dir=str(tmp_path / "cache"), **which)

    monkeypatch.setattr(datasets, "load_dataset", loaded)
    monkeypatch.setattr(hub, "_check_reach", lambda *_: None)
    return revisions


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("o/n", Named("o/n", "", "", "")),
        ("o/n:train", Named("o/n", "", "", "train")),
        ("o/n:all:train", Named("o/n", "", "all", "train")),
        ("o/n:all:", Named("o/n", "", "all", "")),
        ("o/n@v1.0", Named("o/n", "v1.0", "", "")),
        ("o/n@refs/convert/parquet:en-de:test", Named("o/n", "refs/convert/parquet", "en-de",
                                                      "test")),
    ],
)  # fmt: skip
def test_a_name_has_revision_configuration_and_split(name: str, parts: Named):
    assert is_hub_id(name)
    assert named(name) == parts


@pytest.mark.parametrize(
    "name", ["n", "o/n/m", "o/n:", "o/n@", "o/n:a:b:c", "o/n@a//b", "o/n.tsv", "o/n.jsonl", "/o/n"]
)
def test_what_is_no_name_of_a_hub_set(name: str):
    assert not is_hub_id(name)


@pytest.mark.parametrize(
    ("name", "reply", "told"),
    [
        ("owner/plain", "train", "hub data set, split train (the first of train, test)"),
        ("owner/plain:test", "test", "hub data set, split test"),
        ("owner/parts:forget10:", "forget", "hub data set, configuration forget10, split train"),
        ("owner/parts@v2:retain90:test", "test",
         "hub data set, configuration retain90, split test, revision v2"),
    ],
)  # fmt: skip
def test_the_split_and_configuration_that_are_named_are_read(
    asked: list[str | None], name: str, reply: str, told: str
):
    assert [sample.response for sample in load_negatives(name).samples] == [reply]
    (report,) = inspect_data(DataSettings(negatives=name)).files
    assert report.container == told
    assert asked == ["v2" if "@" in name else None] * 2


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("owner/parts:forget10", r"available configs: \['forget10', 'retain90'\]. Name one of "
         "them, and a split: owner/parts:CONFIGURATION:SPLIT"),
        ("owner/parts@v2:no:train", r"Available: \['forget10', 'retain90'\]. Name one of them, "
         "and a split: owner/parts@v2:CONFIGURATION:SPLIT"),
        ("owner/plain:no", r"Should be one of \['train', 'test'\]. Name one of them after the "
         "last colon"),
        ("owner/apart", "Its files hold other columns each: name a configuration"),
        ("owner/nothing", "owner/nothing must be a file or a hub data set; got: .* See http"),
    ],
)  # fmt: skip
def test_what_does_not_load_is_a_sentence(asked: list[str | None], name: str, said: str):
    with pytest.raises(DataError, match=said):
        load_negatives(name)
    (report,) = inspect_data(DataSettings(negatives=name)).files
    assert report.error.startswith(f"{name} must be a file or a hub data set; got: ")


def test_a_column_that_cannot_be_decoded_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, asked: list[str | None]
):
    def rows() -> Any:
        yield row("a")
        raise ImportError("To support decoding images, please install 'Pillow'.")

    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: rows())
    with pytest.raises(DataError, match="please install 'Pillow'"):
        load_negatives("owner/plain:train")


@pytest.mark.parametrize("environment", [{"HF_ENDPOINT": "http://127.0.0.1:9"},
                                         {"HF_HUB_OFFLINE": "1"}])  # fmt: skip
def test_without_a_network_it_is_refused_at_once(tmp_path: Path, environment: dict[str, str]):
    code = "from u2a_core.data import load_negatives; load_negatives('owner/name@v1:a:b')"
    env = {"PATH": "", "HF_HOME": str(tmp_path), **environment}
    env["PYTHONPATH"] = str(Path(__file__).parent.parent)
    call = [sys.executable, "-c", code]
    done = subprocess.run(call, env=env, check=False, capture_output=True, text=True, timeout=60)
    (last, *others) = reversed(done.stderr.strip().splitlines())
    assert "owner/name@v1:a:b must be a file or a hub data set; got" in last
    assert "nothing of it in the cache" in last
    assert not [line for line in others if "Retrying" in line]


def test_names_with_colons_are_no_pictures_in_the_terminal(tmp_path: Path, u2a):
    config = tmp_path / "c.yaml"
    config.write_text(json.dumps({"data": {"negatives": "nothing/here:a:b/c"}}))
    _, out, _ = u2a("data", config=config)
    assert "nothing/here:a:b/c" in out
