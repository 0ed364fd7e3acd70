"""Data sets of the hub: their names, what is read of them, refusals, no network.

The library reads sets from folders here, as it reads those of the hub once they are downloaded;
and from a hub of our own.
"""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import datasets
import pytest

from u2a_core.config import DataSettings
from u2a_core.data import hub, inspect_data, is_hub_id, load_negatives
from u2a_core.data.hub import Named, named
from u2a_core.errors import DataError
from u2a_core.report.sections import section
from u2a_core.runs import Run

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


SERVED = {
    revision: {
        f"{split}.jsonl": json.dumps(row(f"{revision} {split}")).encode() for split in splits
    }
    for revision, splits in (("main", ("train", "test")), ("v1", ("train",)))
}
COMMITS = {revision: hashlib.sha1(revision.encode()).hexdigest() for revision in SERVED}
KNOWN = {**{r: r for r in SERVED}, **{commit: r for r, commit in COMMITS.items()}}


class Handler(BaseHTTPRequestHandler):
    """As much of the hub as the library asks for one public set, owner/name."""

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, status: int, body: Any = b"", **headers: str) -> None:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(raw))}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(raw)

    def do_POST(self) -> None:
        files = SERVED[KNOWN[self.path.split("/")[-1]]]
        raw = self.rfile.read(int(self.headers["Content-Length"])).decode()
        asked = json.loads(raw)["paths"] if raw[:1] == "{" else parse_qs(raw).get("paths", [])
        self.answer(200, entries({name: files[name] for name in asked if name in files}))

    def do_GET(self) -> None:
        parts = self.path.partition("?")[0].strip("/").split("/")
        api = parts[0] == "api"
        name = "/".join(parts[2:4] if api else parts[1:3])
        if name != "owner/name":
            closed = name == "owner/terms"
            code = "GatedRepo" if closed else "RepoNotFound"
            return self.answer(403 if closed else 404, X_Error_Code=code)
        revision = KNOWN.get((parts[5:6] or ["main"])[0] if api else parts[4])
        if revision is None:
            return self.answer(404, X_Error_Code="RevisionNotFound")
        files, commit = SERVED[revision], COMMITS[revision]
        if api and parts[4:5] == ["tree"]:
            return self.answer(200, entries(files) if len(parts) == 6 else [])
        if api and parts[4:5] in ([], ["revision"]):
            siblings = [{"rfilename": file} for file in files]
            return self.answer(200, {"id": name, "sha": commit, "siblings": siblings, "tags": []})
        body = files.get("/".join(parts[5:]))
        if api or body is None:
            return self.answer(404, X_Error_Code="EntryNotFound", X_Repo_Commit=commit)
        etag = f'"{hashlib.sha256(body).hexdigest()}"'
        return self.answer(200, body, ETag=etag, X_Repo_Commit=commit)

    do_HEAD = do_GET


def entries(files: dict[str, bytes]) -> list[dict[str, Any]]:
    return [
        {"type": "file", "path": name, "size": len(raw), "oid": hashlib.sha1(raw).hexdigest()}
        for name, raw in files.items()
    ]


_READ = """
import json, sys
from u2a_core.data.reading import stream_records
from u2a_core.errors import DataError
for name in sys.argv[1:]:
    try:
        stream = stream_records(name)
        said = [stream.container, *(record["response"] for _, record in stream.events)]
    except DataError as error:
        said = [str(error)]
    print(json.dumps(said))
"""


def told(home: Path, *names: str, **environment: str) -> list[list[str]]:
    """What each name gives, in a process with this environment."""
    known = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    env = {**known, "HF_HOME": str(home), **environment}
    call = [sys.executable, "-c", _READ, *names]
    done = subprocess.run(call, env=env, check=True, capture_output=True, text=True, timeout=120)
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_hub_gives_revisions_and_splits_and_the_cache_never_another_one(
    tmp_path: Path, address: str
):
    names = ["owner/name", "owner/name:test", "owner/name@v1", "owner/name@v9", "owner/terms",
             "owner/none"]  # fmt: skip
    first, test, v1, *refused = told(tmp_path, *names, HF_ENDPOINT=address)
    kinds = [f"commit {COMMITS[revision][:12]}" for revision in ("main", "v1")]
    assert first == [f"hub data set, split train (the first of train, test), {kinds[0]}",
                     "main train"]  # fmt: skip
    assert test[1:] == ["main test"]
    assert v1 == [f"hub data set, split train, revision v1, {kinds[1]}", "v1 train"]
    for (said,), words in zip(
        refused, ("Check what follows the @", "Accept its terms at", "Check the name"), strict=True
    ):
        assert words in said
    # out of reach the library offers what it has made last, whatever is asked for
    names = ["owner/name@v1", f"owner/name@{COMMITS['v1']}", "owner/name", "owner/name@v9"]
    v1, same, *others = told(tmp_path, *names, HF_HUB_OFFLINE="1")
    assert v1[1:] == same[1:] == ["v1 train"]
    for (said,), revision in zip(others, ("main", "v9"), strict=True):
        assert f"must be in the cache at the revision {revision}; got the offline mode" in said


def test_a_run_keeps_the_commit_of_its_data_and_is_not_resumed_on_another(
    tmp_path: Path, address: str, scenario: Path, monkeypatch: pytest.MonkeyPatch
):
    known = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    env = {**known, "HF_HOME": str(tmp_path / "home"), "HF_ENDPOINT": address}
    run = Run(tmp_path / "run")
    call = [sys.executable, "-m", "u2a_core.cli", "gains", str(scenario), "--out", str(run.path)]
    call += ["--data.retain", "owner/name:train"]
    subprocess.run(call, env=env, check=True, capture_output=True, timeout=120)
    kept = {"datasets/owner/name": COMMITS["main"]}
    assert run.commits() == run.report()["commits"] == kept
    assert f"datasets/owner/name at commit {COMMITS['main']}" in section(run, "run", "omitted")
    (run.path / "report.json").unlink()
    monkeypatch.setitem(KNOWN, "main", "v1")
    done = subprocess.run(
        [*call, "--resume"], env=env, check=False, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2, done.stderr
    assert f"was at commit {COMMITS['main']} and is at {COMMITS['v1']} now" in done.stderr
    assert f"owner/name@{COMMITS['main']} names it as it was" in done.stderr
    assert run.commits() == kept
