"""HTTP/1.1 by hand: requests as bytes, and one answer at a time."""

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPResponse
from typing import Any

import httpx

from tests.support.server import RunningService

# of the bundle that `tests.support.bundles` writes
PICTURE = [[1, 2, 3], [4, 5, 6]]
BODY = json.dumps({"instances": [{"image": PICTURE}]}).encode()
MODEL = "/predict/dummy"
PATIENCE_S = 60.0


@contextmanager
def connected(service: RunningService, address: str = "127.0.0.1") -> Iterator[socket.socket]:
    """Yield a connection, from an address of the loopback, that sends each piece by itself."""
    url = httpx.URL(service.url)
    with socket.create_connection((url.host, url.port or 80), PATIENCE_S, (address, 0)) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield sock


def request(body: bytes = BODY, *, path: str = MODEL, headers: bytes = b"", version: bytes = b"1.1") -> bytes:
    head = b"POST %b HTTP/%b\r\nHost: x\r\nContent-Type: application/json\r\n" % (path.encode(), version)
    return head + headers + b"Content-Length: %d\r\n\r\n" % len(body) + body


def chunked(*chunks: bytes, headers: bytes = b"", path: str = MODEL, last: bytes = b"0\r\n\r\n") -> bytes:
    """A request of chunks that are written as they are given, with their sizes."""
    head = b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n" % path.encode()
    return head + headers + b"Transfer-Encoding: chunked\r\n\r\n" + b"".join(chunks) + last


def chunk(data: bytes, extension: bytes = b"") -> bytes:
    return b"%x%b\r\n%b\r\n" % (len(data), extension, data)


def read_answer(sock: socket.socket) -> tuple[HTTPResponse, Any]:
    """Read one answer, and nothing beyond it; return it with its document."""
    response = HTTPResponse(sock)
    response.fp = sock.makefile("rb", buffering=0)  # reads no byte of the next answer
    response.begin()
    return response, json.loads(response.read())
