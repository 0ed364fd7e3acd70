"""A hub of our own on HF_ENDPOINT: revisions, refusals, the cache, half downloads, no network.

The library reads its environment once, so each way to the hub is a process of its own.
"""

import hashlib
import json
import os
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

from u2a_core.config import ModelSettings
from u2a_core.models import load_policy, save_policy

_LOAD = """
import json, sys
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
            if revision not in hub.repos[name]:
                return self.answer(404, X_Error_Code="RevisionNotFound")
            place = hub.repos[name][revision] / file
            commit = hashlib.sha1(f"{name}@{revision}".encode()).hexdigest()
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


def loaded(home: Path, *paths: str, **environment: str) -> dict[str, tuple[str, str]]:
    """What loading each path gives, in a process with this environment."""
    known = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    env = known | {"HF_HOME": str(home), "HF_HUB_ETAG_TIMEOUT": "2"} | environment
    call = [sys.executable, "-c", _LOAD, *paths]
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


def examined(home: Path, **environment: str) -> str:
    known = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    env = known | {"HF_HOME": str(home)} | environment
    call = [sys.executable, "-m", "u2a_core.cli", "doctor", "--json"]
    done = subprocess.run(call, env=env, check=True, capture_output=True, text=True)
    return done.stdout
