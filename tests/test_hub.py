"""A hub of our own on HF_ENDPOINT: revisions, refusals, the cache, half downloads, no network.

The library reads its environment once, so each way to the hub is a process of its own.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from families import FAMILIES, model_of, saved

from u2a_core import table
from u2a_core.config import ModelSettings
from u2a_core.data import write_records
from u2a_core.export.folder import run_card
from u2a_core.models import load_policy, save_policy
from u2a_core.report.sections import section
from u2a_core.runs import Run

_LOAD = """
import json, sys, time
time.sleep = lambda _: None  # the hub's library waits up to 8 s between its tries
from u2a_core.config import ModelSettings
from u2a_core.errors import U2AError
from u2a_core.models import load_policy
for path in sys.argv[1:]:
    try:
        policy = load_policy(ModelSettings(path=path, device="cpu", dtype="float32"))
        said = ["loaded", repr(float(sum(p.double().sum() for p in policy.model.parameters())))]
    except U2AError as error:
        said = [type(error).__name__, str(error)]
    print(json.dumps([path, *said]), flush=True)
"""


@dataclass
class Hub:
    """Repositories by name and revision, and what is refused."""

    repos: dict[str, dict[str, Path]] = field(default_factory=dict)
    refused: dict[str, tuple[int, str]] = field(default_factory=dict)
    cut: set[str] = field(default_factory=set)
    tokens: list[str] = field(default_factory=list)
    port: int = 0

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def commit(self, folder: Path) -> str:
        """What a folder of a repository is called for ever."""
        return hashlib.sha1(str(folder).encode()).hexdigest()


def handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "GET":
                return
            if Path(self.path).name in hub.cut:
                self.wfile.write(body[: len(body) // 2])
                self.close_connection = True
                self.connection.close()
            else:
                self.wfile.write(body)

        def do_GET(self) -> None:
            hub.tokens.append(self.headers.get("Authorization", ""))
            parts = self.path.partition("?")[0].strip("/").split("/")
            name = "/".join(parts[2:4] if parts[0] == "api" else parts[:2])
            if name in hub.refused:
                status, code = hub.refused[name]
                return self.answer(status, X_Error_Code=code, X_Error_Message="refused")
            if name not in hub.repos:
                return self.answer(404, X_Error_Code="RepoNotFound")
            if parts[0] == "api":
                return self.answer(404, X_Error_Code="EntryNotFound")
            revision, file = parts[3], "/".join(parts[4:])
            known = hub.repos[name] | {hub.commit(f): f for f in hub.repos[name].values()}
            if revision not in known:
                return self.answer(404, X_Error_Code="RevisionNotFound")
            place, commit = known[revision] / file, hub.commit(known[revision])
            if not place.is_file():
                return self.answer(404, X_Error_Code="EntryNotFound", X_Repo_Commit=commit)
            body = place.read_bytes()
            etag = hashlib.sha256(body).hexdigest()
            return self.answer(200, body, ETag=f'"{etag}"', X_Repo_Commit=commit)

        do_HEAD = do_GET

    return Handler


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    folder = tmp_path_factory.mktemp("hub")
    good = saved(FAMILIES["llama3"], folder / "good")
    model_of(FAMILIES["llama3"], seed=1).save_pretrained(folder / "other")
    for file in good.glob("*token*"):
        (folder / "other" / file.name).write_bytes(file.read_bytes())
    (folder / "other" / "chat_template.jinja").write_text(FAMILIES["llama3"].template)
    pickle = saved(FAMILIES["llama3"], folder / "pickle")
    (pickle / "model.safetensors").rename(pickle / "pytorch_model.bin")
    shards = saved(FAMILIES["llama3"], folder / "shards")
    (shards / "model.safetensors").unlink()
    model_of(FAMILIES["llama3"]).save_pretrained(shards, max_shard_size="20KB")
    lora = ModelSettings(path=str(good), parameters="lora", device="cpu", dtype="float32")
    save_policy(load_policy(lora), folder / "adapter", provenance={})
    config = json.loads((folder / "adapter" / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = "owner/good"
    (folder / "adapter" / "adapter_config.json").write_text(json.dumps(config))
    for file in [*folder.glob("adapter/*token*"), *folder.glob("adapter/*.jinja")]:
        file.unlink()  # as many adapters are: the base's tokenizer is meant
    served = Hub(
        repos={
            "owner/good": {"main": good, "v1": folder / "other"},
            "owner/pickle": {"main": pickle},
            "owner/cut": {"main": shards},
            "owner/moving": {"main": good, "before": good},
            "owner/adapter": {"main": folder / "adapter"},
            "owner/empty": {"main": folder / "nothing"},
        },
        refused={
            "owner/terms": (403, "GatedRepo"),
            "owner/private": (401, "GatedRepo"),
            "owner/broken": (500, ""),
        },
        cut={max(shards.glob("model-*")).name},
    )
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(served))
    served.port = server.server_port
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield served
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


def environment(home: Path, **ways: str) -> dict[str, str]:
    """That of a process whose cache is in `home`."""
    known = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    return known | {"HF_HOME": str(home), "HF_HUB_ETAG_TIMEOUT": "2"} | ways


def loaded(home: Path, *paths: str, **ways: str) -> dict[str, tuple[str, str]]:
    """What loading each path gives, in a process with this environment."""
    call = [sys.executable, "-c", _LOAD, *paths]
    env = environment(home, **ways)
    done = subprocess.run(call, env=env, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines: list[Any] = [json.loads(line) for line in done.stdout.splitlines()]
    return {path: (kind, said) for path, kind, said in lines}


@pytest.fixture(scope="module")
def online(hub: Hub, home: Path) -> dict[str, tuple[str, str]]:
    paths = ["owner/good", "owner/good@v1", "owner/good@v9", "owner/terms", "owner/private"]
    paths += ["owner/nobody", "owner/broken", "owner/pickle", "owner/adapter", "owner/empty"]
    paths += ["owner/cut", "a name/that/is none"]
    return loaded(home, *paths, HF_ENDPOINT=hub.address, HF_TOKEN="hf_of_the_test")


def test_a_mirror_gives_a_model_its_revision_and_an_adapter(online, hub: Hub):
    assert online["owner/good"][0] == online["owner/good@v1"][0] == "loaded"
    assert online["owner/good"][1] != online["owner/good@v1"][1]
    assert online["owner/adapter"] == online["owner/good"]  # B = 0: the base's weights
    assert "Bearer hf_of_the_test" in hub.tokens


@pytest.mark.parametrize(
    ("path", "kind", "words"),
    [
        ("owner/good@v9", "ModelError", "must have the revision 'v9' of owner/good"),
        ("owner/terms", "AccessError", "says 403: its terms are not accepted. Open http://127.0."),
        ("owner/private", "TokenError", "says 401: none was given, or it is not valid"),
        ("owner/nobody", "TokenError", "it has none of this name"),
        ("owner/broken", "ModelError", "it says 500, a fault of its own"),
        ("owner/pickle", "ModelError", "must be safetensors; got none, and pickle can run code"),
        ("owner/empty", "ModelError", "owner/empty must"),
        ("a name/that/is none", "ModelError", "which is neither"),
    ],
)
def test_each_refusal_has_its_sentence(online, path: str, kind: str, words: str):
    assert online[path][0] == kind
    assert words in online[path][1]


def test_a_download_that_breaks_off_is_a_sentence(online):
    kind, said = online["owner/cut"]
    assert kind == "ModelError"
    assert "owner/cut" in said
    assert "half downloaded" in said


@pytest.fixture(scope="module")
def offline(online, home: Path) -> dict[str, tuple[str, str]]:
    paths = ["owner/good", "owner/nowhere", "owner/cut"]
    return loaded(home, *paths, HF_HUB_OFFLINE="1")


def test_offline_the_cache_gives_the_same_model(online, offline):
    assert offline["owner/good"] == online["owner/good"]


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("owner/nowhere", "got the offline mode (HF_HUB_OFFLINE), and nothing of it in the cache"),
        ("owner/cut", "must be in the cache as a whole"),
    ],
)
def test_offline_what_is_not_in_the_cache_is_a_sentence(offline, path: str, words: str):
    assert offline[path][0] == "ModelError"
    assert words in offline[path][1]


def test_no_network_is_a_sentence_that_names_the_address(home: Path):
    dead = "http://127.0.0.1:9"
    kind, said = loaded(home, "owner/nowhere", HF_ENDPOINT=dead)["owner/nowhere"]
    assert kind == "ModelError"
    assert "got no connection, and nothing of it in the cache" in said
    assert dead in said


@dataclass
class Moving:
    """An adapter that was trained on `owner/moving`, and the settings of its run."""

    config: Path
    run: Run
    then: str

    def u2a(self, hub: Hub, home: Path, *words: object) -> subprocess.CompletedProcess[str]:
        """`u2a WORDS` with the hub, in a process of its own."""
        call = [sys.executable, "-m", "u2a_core.cli", *map(str, words)]
        env = environment(home, HF_ENDPOINT=hub.address)
        return subprocess.run(call, env=env, check=False, capture_output=True, text=True)


@pytest.fixture(scope="module")
def moving(hub: Hub, home: Path, tmp_path_factory: pytest.TempPathFactory) -> Moving:
    """A run on `owner/moving`, of which main is another commit afterwards."""
    folder = tmp_path_factory.mktemp("moving")
    rows = [{"prompt": f"{i}?", "chosen": f"yes {i}", "rejected": f"no {i}"} for i in range(4)]
    write_records(folder / "pairs.jsonl", rows)
    file = str(folder / "pairs.jsonl")
    settings = {
        "model": {"path": "owner/moving", "parameters": "lora", "lora_rank": 2, "device": "cpu"},
        "data": {"negatives": file, "preferences": file, "prompts": file},
        "objective": {"kind": "preference", "max_new_tokens": 2},
        "inner": {"method": "ga", "steps": 1},
    }
    made = Moving(folder / "c.yaml", Run(folder / "runs" / "run"), hub.commit(folder))
    made.config.write_text(json.dumps(settings))
    made.then = hub.commit(hub.repos["owner/moving"]["main"])
    done = made.u2a(hub, home, "unlearn", made.config, "--out", made.run.path)
    assert done.returncode == 0, done.stderr
    hub.repos["owner/moving"]["main"] = hub.repos["owner/good"]["v1"]
    return made


def test_a_run_tells_the_commit_of_its_model_of_the_hub(moving: Moving):
    run = moving.run
    assert run.commits() == run.report()["commits"] == {"owner/moving": moving.then}
    adapter = json.loads((run.model_folder / "adapter_config.json").read_text())
    assert (adapter["base_model_name_or_path"], adapter["revision"]) == (
        "owner/moving",
        moving.then,
    )
    told = run_card(run)
    assert f"| owner/moving | `{moving.then}` |" in told
    assert f'from_pretrained("owner/moving", revision="{moving.then}")' in told
    settings = table.settings_table({"run": run}).set_index("setting")["run"]
    assert settings["commit of owner/moving"] == moving.then[:12]
    assert f"owner/moving at commit {moving.then}" in section(run, "run", "omitted")


def test_a_run_is_not_resumed_on_a_model_that_has_moved(
    moving: Moving, hub: Hub, home: Path, tmp_path: Path
):
    again = Run(tmp_path / "again")
    shutil.copytree(moving.run.path, again.path)
    (again.path / "report.json").unlink()
    before = sorted(file.name for file in (again.path / "tables").iterdir())
    call = ["unlearn", moving.config, "--out", again.path, "--resume"]
    done = moving.u2a(hub, home, *call)
    now = hub.commit(hub.repos["owner/moving"]["main"])
    assert done.returncode == 2, done.stderr
    assert f"was at commit {moving.then} and is at {now} now" in done.stderr
    assert f"owner/moving@{moving.then} names it as it was" in done.stderr
    assert not again.finished
    assert sorted(file.name for file in (again.path / "tables").iterdir()) == before
    assert moving.u2a(hub, home, "unlearn", moving.config, "--resume", "--out", again.path,
                      "--model.path", "owner/moving@before").returncode == 2  # fmt: skip


def test_an_adapter_is_evaluated_on_the_commit_that_it_was_trained_on(
    moving: Moving, hub: Hub, home: Path
):
    run = Run(moving.run.path.parent / "evaluated")
    done = moving.u2a(hub, home, "evaluate", moving.config, "--evaluation.target",
                      moving.run.path, "--out", run.path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    now = hub.commit(hub.repos["owner/moving"]["main"])
    fixed = f"owner/moving@{moving.then}"
    assert run.commits() == {fixed: moving.then, "owner/moving": now}
    (warning,) = run.report()["warnings"]
    assert f"owner/moving was at commit {moving.then} for" in warning
    asked = loaded(home, str(moving.run.model_folder), fixed, HF_ENDPOINT=hub.address)
    assert asked[fixed][1] == loaded(home, "owner/good", HF_ENDPOINT=hub.address)["owner/good"][1]
    assert asked[str(moving.run.model_folder)][0] == "loaded"
    after = run.table("generations")
    theirs = moving.run.table("generations")["reply_after"].tolist()
    assert after[after["set"] == "test"]["reply"].tolist() == theirs


def test_doctor_tells_the_hub_and_never_the_token(hub: Hub, home: Path):
    told = examined(home, HF_ENDPOINT=hub.address, HF_TOKEN="hf_of_the_test")
    found = json.loads(told)["hub"]
    assert (found["reachable"], found["token"], found["offline"]) == (True, True, False)
    assert found["address"] == hub.address
    assert "hf_of_the_test" not in told


def test_doctor_needs_no_network(home: Path):
    found = json.loads(examined(home, HF_ENDPOINT="http://127.0.0.1:9"))
    assert not found["hub"]["reachable"]
    assert not found["hub"]["token"]
    assert any("http://127.0.0.1:9 does not answer" in text for text in found["warnings"])


def examined(home: Path, **ways: str) -> str:
    call = [sys.executable, "-m", "u2a_core.cli", "doctor", "--json"]
    env = environment(home, **ways)
    done = subprocess.run(call, env=env, check=True, capture_output=True, text=True)
    return done.stdout
