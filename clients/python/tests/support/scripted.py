"""A server that answers what a test tells it to, over real sockets: for what a good service says too seldom."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

CARD: dict[str, Any] = {
    "name": "echo",
    "version": "1",
    "state": "ready",
    "reason": None,
    "task": "tabular_regression",
    "description": None,
    "license": None,
    "task_settings": {
        "features": [{"name": "x", "minimum": None, "maximum": None, "unit": None, "description": "", "example": 0.0}],
        "target": {"name": "x", "unit": None, "description": ""},
    },
    "inputs": [{"name": "features", "dtype": "float32", "shape": ["batch", 1]}],
    "outputs": [{"name": "value", "dtype": "float32", "shape": ["batch"]}],
    "media_types": ["application/json", "application/octet-stream"],
    "bytes_layout": "rows of 4 bytes each: float32, little-endian, 1",
    "limits": {
        "max_body_bytes": 8388608, "max_instances": 1024, "max_image_pixels": 1, "default_timeout_ms": 30000,
    },
    "versions": [],
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A request as it came."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, kw_only=True)
class Reply:
    """An answer; of status 0 none at all: the connection is closed."""

    status: int = 200
    document: Any = None
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


HANG_UP = Reply(status=0)
Answering = Callable[[Asked], Reply]


def echo(asked: Asked) -> Reply:
    """Answer every row of one feature with it."""
    rows = json.loads(asked.body)["instances"]
    predictions = [{"value": row["features"]["x"]} for row in rows]
    headers = {"x-request-id": "id-1", "x-model-version": "7"}
    return Reply(document={"model": "echo", "version": "7", "predictions": predictions}, headers=headers)


@dataclass
class Scripted:
    """A running server.

    Attributes:
        url: Where it is.
        asked: All that it was asked but for cards, in the order of its coming.
        connections: One entry for each that was made.
    """

    url: str
    asked: list[Asked]
    connections: list[object]


@contextmanager
def scripted(answer: Answering, card: Mapping[str, Any] = CARD) -> Iterator[Scripted]:
    """Run a server whose one model has a card, and whose other answers are those of a function."""
    asked: list[Asked] = []
    connections: list[object] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            connections.append(self.client_address)
            super().setup()

        def do_GET(self) -> None:
            if self.path.startswith("/models/"):
                self._say(Reply(document=card))
            else:
                self._answer(b"")

        def do_POST(self) -> None:
            self._answer(self.rfile.read(int(self.headers["content-length"])))

        def _answer(self, body: bytes) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            question = Asked(method=self.command, path=self.path, headers=headers, body=body)
            asked.append(question)
            self._say(answer(question))

        def _say(self, reply: Reply) -> None:
            if not reply.status:
                self.close_connection = True
                return
            body = reply.body if reply.document is None else json.dumps(reply.document).encode()
            self.send_response(reply.status)
            for name, value in {"content-type": "application/json", **reply.headers}.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield Scripted(url=f"http://127.0.0.1:{server.server_port}", asked=asked, connections=connections)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def in_turn(*replies: Reply | Answering) -> Answering:
    """Return a function that gives one reply after the other, and the last for ever."""
    left = list(replies)

    def answer(asked: Asked) -> Reply:
        reply = left.pop(0) if len(left) > 1 else left[0]
        return reply if isinstance(reply, Reply) else reply(asked)

    return answer


def problem(status: int, code: str, *, retry_after: str | None = None, **more: Any) -> Reply:
    """Return an error as the service writes it."""
    headers = {"content-type": "application/problem+json"} | (
        {} if retry_after is None else {"retry-after": retry_after}
    )
    told = {"type": f"urn:zero-to-one:problem:{code}", "title": code, "status": status, "detail": f"it is {code}"}
    return Reply(status=status, headers=headers, document=told | {"code": code, "request_id": "id-2"} | more)
