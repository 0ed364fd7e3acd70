"""A real HTTP server that plays an OpenAI-compatible endpoint."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = tuple[int, str, dict[str, str]]


def ok(text: str) -> Reply:
    choice = {"message": {"role": "assistant", "content": text}}
    usage = {"prompt_tokens": 100, "completion_tokens": 10}
    return 200, json.dumps({"choices": [choice], "usage": usage}), {}


@dataclass
class Fake:
    """An endpoint that answers as `script` says: (body, number of the request) → reply."""

    script: Callable[[dict[str, Any], int], Reply]
    address: str = ""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[Any] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


class Server(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """A client that gave up is meant."""


@contextmanager
def endpoint(script: Callable[[dict[str, Any], int], Reply]) -> Iterator[Fake]:
    """A server that answers so until the end of the block."""
    state = Fake(script)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with state.lock:
                state.bodies.append(body)
                state.headers.append(self.headers)
                number = len(state.bodies) - 1
                state.at_once += 1
                state.most_at_once = max(state.most_at_once, state.at_once)
            try:
                status, text, headers = state.script(body, number)
            finally:
                with state.lock:
                    state.at_once -= 1
            content = text.encode()
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    state.address = f"http://127.0.0.1:{server.server_port}/v1"
    yield state
    server.shutdown()
    server.server_close()
    thread.join()
