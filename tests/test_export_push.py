"""Pushing an export to the hub, against a server of our own that answers as the hub does."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from workbench import finished_run

from u2a_core.cli import main
from u2a_core.runs import demo_assets

GAINS = demo_assets() / "runs" / "demo-gains"


class Hub(ThreadingHTTPServer):
    """Takes repositories and commits.

    Attributes:
        status: of every answer.
        private: whether the repository is.
        asked: path → body of every request.
    """

    status = 200
    private = True

    def __init__(self) -> None:
        self.asked: dict[str, str] = {}
        self.tokens: set[str | None] = set()
        super().__init__(("127.0.0.1", 0), Answer)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Answer(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        self._answer(
            self.server.status, {"id": "me/mine", "private": self.server.private, "siblings": []}
        )

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        self.server.asked[self.path] = body
        self.server.tokens.add(self.headers.get("Authorization"))
        if self.server.status != 200:
            self._answer(self.server.status, {"error": "refused"})
        elif self.path == "/api/repos/create":
            self._answer(200, {"url": f"{self.server.url}/me/mine"})
        elif "/preupload/" in self.path:
            files = [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False}
                     for f in json.loads(body)["files"]]  # fmt: skip
            self._answer(200, {"files": files})
        else:
            url = f"{self.server.url}/me/mine/commit/abc"
            told = {"commitUrl": url, "commitOid": "abc", "errors": [], "warnings": []}
            self._answer(200, told)

    def _answer(self, status: int, content: dict) -> None:
        raw = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The hub's library, online, with a token, and another address."""
    from huggingface_hub import constants

    made = Hub()
    threading.Thread(target=made.serve_forever, daemon=True).start()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", made.url)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    yield made
    made.shutdown()
    made.server_close()


def pushed(folder: Path, *words: str, run: Path = GAINS) -> int:
    return main(["export", str(run), "--to", str(folder), *words, "--push", "me/mine"])


def test_a_model_is_pushed_as_a_private_repository(hub: Hub, tmp_path: Path, capsys):
    run = finished_run(tmp_path / "runs", "mine", model=True)
    assert pushed(tmp_path / "out", run=run.path) == 0
    made = json.loads(hub.asked["/api/repos/create"])
    assert (made["name"], made["organization"], made["visibility"]) == ("mine", "me", "private")
    commit = hub.asked["/api/models/me/mine/commit/main"]
    sent = [json.loads(line)["value"].get("path") for line in commit.splitlines()]
    assert {"README.md", "settings.yaml", "model.safetensors", "config.json"} <= set(sent)
    assert hub.tokens == {"Bearer hf_secret"}
    told = capsys.readouterr().out
    assert f"On the hub: {hub.url}/me/mine" in told
    assert "hf_secret" not in told


def test_samples_alone_are_pushed_as_a_data_set(hub: Hub, tmp_path: Path):
    assert pushed(tmp_path / "out", "--samples", "--public") == 0
    made = json.loads(hub.asked["/api/repos/create"])
    assert (made["type"], made["visibility"]) == ("dataset", "public")
    assert "/api/datasets/me/mine/commit/main" in hub.asked


@pytest.mark.parametrize(
    ("status", "said"), [(401, "says 401"), (403, "says 403: it may not write"), (500, "says 500")]
)
def test_a_refusal_is_a_sentence_and_the_export_stays(
    hub: Hub, tmp_path: Path, capsys, status: int, said: str
):
    hub.status = status
    assert pushed(tmp_path / "out", "--samples") == 2
    told = capsys.readouterr().err
    assert said in told
    assert "Traceback" not in told
    assert f"hf upload me/mine {tmp_path / 'out'} --repo-type dataset" in told
    assert (tmp_path / "out" / "samples" / "negatives.jsonl").is_file()


def test_what_is_private_is_not_sent_to_a_public_repository(hub: Hub, tmp_path: Path, capsys):
    hub.private = False
    assert pushed(tmp_path / "out", "--samples") == 2
    assert "everyone can read it" in capsys.readouterr().err
    assert not any("commit" in path for path in hub.asked)


def test_no_network_is_told(hub: Hub, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert pushed(tmp_path / "out", "--samples") == 2
    assert "within reach to push me/mine; got no connection" in capsys.readouterr().err


@pytest.mark.parametrize("fault", ["no token", "offline", "a bad name"])
def test_what_could_not_be_sent_is_refused_before_anything_is_made(
    hub: Hub, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch, fault: str
):
    from huggingface_hub import constants

    name, said = "me/mine", {"no token": "HF_TOKEN is not set", "offline": "offline mode is on",
                             "a bad name": "must be given owner/name"}[fault]  # fmt: skip
    if fault == "no token":
        monkeypatch.delenv("HF_TOKEN")
    elif fault == "offline":
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    else:
        name = "mine"
    assert main(["export", str(GAINS), "--to", str(tmp_path / "out"), "--samples",
                 "--push", name]) == 2  # fmt: skip
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert not hub.asked
