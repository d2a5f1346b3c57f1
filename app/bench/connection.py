"""One keep-alive connection, with one request in flight.

Bytes made beforehand go out; of the answer no more is read than where it ends, its status, and when to come again.
"""

import asyncio
import time
from dataclasses import dataclass
from typing import Protocol, cast

UNREADABLE = b"unreadable answer"
LOST = b"connection lost"


@dataclass(slots=True)
class Request:
    """One request on its way.

    Attributes:
        data: Head and body.
        intended_ns: When it was due.
        sent_ns: When it was written; 0 where it was not.
    """

    data: bytes
    intended_ns: int
    sent_ns: int = 0


class Owner(Protocol):
    """Who is told what becomes of a request."""

    def answered(
        self, connection: "Connection", request: Request, status: bytes, size_bytes: int, retry_after_s: int | None
    ) -> None:
        """Take a whole answer; the connection is idle, or is closed by the server."""
        ...

    def failed(self, connection: "Connection", request: Request | None, why: bytes) -> None:
        """Take the end of the connection, with the request that it had in flight."""
        ...


class Connection(asyncio.Protocol):
    """Sends requests, one after the other, and tells its owner what came back.

    Attributes:
        request: In flight.
        is_open: Whether it can take a request.
    """

    __slots__ = ("_owner", "_pending", "_transport", "request")

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._transport: asyncio.Transport | None = None
        self._pending = b""
        self.request: Request | None = None

    @property
    def is_open(self) -> bool:
        """Whether it can take a request."""
        return self._transport is not None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one, and does not say so

    def send(self, request: Request) -> None:
        """Write a request; none may be in flight."""
        assert self._transport is not None
        self.request = request
        request.sent_ns = time.perf_counter_ns()
        self._transport.write(request.data)

    def data_received(self, data: bytes) -> None:
        """Find the end of the answer."""
        if self._pending:
            data = self._pending + data
        head_end = data.find(b"\r\n\r\n")
        if head_end < 0:
            self._pending = data
            return
        head = data[:head_end].lower()  # and find: an expression that ignores case takes ten times as long
        length = _header(head, b"content-length")
        end = head_end + 4 + int(length) if length.isdigit() else _end_without_length(data, head_end, head)
        if end is None or end > len(data):
            self._pending = data
            return
        self._pending = b""
        request, self.request = self.request, None
        if end < len(data) or request is None:  # of no stated length, or more than was asked for
            self.close()
            self._owner.failed(self, request, UNREADABLE)
            return
        status, retry_after_s = data[9:12], None
        if status != b"200":
            after = _header(head, b"retry-after")
            retry_after_s = int(after) if after.isdigit() else None
        if b"\r\nconnection: close" in head:
            self.close()
        self._owner.answered(self, request, status, len(data), retry_after_s)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the owner, unless it was closed from here."""
        if self._transport is not None:
            self._transport = None
            request, self.request = self.request, None
            self._owner.failed(self, request, LOST)

    def close(self) -> None:
        """Hang up; the owner hears nothing more."""
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()


def _header(head: bytes, name: bytes) -> bytes:
    """Return the value of a header, empty where there is none, from a head in small letters."""
    start = head.find(b"\r\n" + name + b":")
    if start < 0:
        return b""
    start += len(name) + 3
    end = head.find(b"\r\n", start)
    return head[start : end if end >= 0 else None].strip()


def _end_without_length(data: bytes, head_end: int, head: bytes) -> int | None:
    """Return where an answer in chunks ends, None where that has not come, -1 where nobody can tell."""
    if _header(head, b"transfer-encoding") != b"chunked":
        return head_end + 4 if data[9:12] in (b"204", b"304") else -1
    start = head_end + 4
    while (line_end := data.find(b"\r\n", start)) >= 0:
        try:
            size = int(data[start:line_end].partition(b";")[0], 16)
        except ValueError:
            return -1
        start = line_end + 2 + size + 2
        if not size:
            return start  # trailers are nobody's habit; with them it is unreadable
    return None
