"""A closed loop of clients over keep-alive connections: each sends its next request when it has its last answer.

It has to cost little beside the server it drives, so requests are bytes made beforehand and an answer is looked at no
further than its status and its length.
"""

import asyncio
import http.client
import re
import socket
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import uvloop
from numpy.typing import NDArray

HOST = "127.0.0.1"
CONNECT_TIMEOUT_S = 10.0
Meter = Callable[[], float]

_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How hard and how long.

    Attributes:
        clients: Connections, each with one request in flight.
        warm_up_s: Seconds under load that are not counted.
        measured_s: Seconds that are.
    """

    clients: int
    warm_up_s: float
    measured_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What came back in the measured seconds.

    Attributes:
        latencies_s: Of every request answered with 200, from its write to the last byte of its answer.
        failures: Everything else, counted: by status, or by what went wrong with the connection.
        seconds: Measured, by the clock.
        busy: Share of the measured seconds that the generator itself computed; near 1 it was the limit.
        metered: What the caller's meter rose by meanwhile.
    """

    latencies_s: NDArray[np.float64]
    failures: Counter[str]
    seconds: float
    busy: float
    metered: float

    @property
    def requests(self) -> int:
        """Requests answered with 200."""
        return len(self.latencies_s)

    @property
    def requests_per_s(self) -> float:
        """Requests answered with 200, each second."""
        return self.requests / self.seconds

    def percentile_ms(self, percent: float) -> float:
        """Return the latency that so many percent of the answers did not exceed; NaN where there was none."""
        return float(np.percentile(self.latencies_s, percent)) * 1e3 if self.requests else float("nan")


class _Tally:
    """What all clients of a run count into."""

    def __init__(self) -> None:
        self.latencies_s: list[float] = []
        self.failures: Counter[str] = Counter()
        self.is_over = False

    def reset(self) -> None:
        self.latencies_s.clear()
        self.failures.clear()


class _Client(asyncio.Protocol):
    """One connection. After a failure of the connection itself it stays closed, and the count tells."""

    def __init__(self, requests: Sequence[bytes], first: int, tally: _Tally) -> None:
        self._requests = requests
        self._next = first
        self._tally = tally
        self._transport: asyncio.Transport | None = None
        self._pending = b""
        self._sent_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one, and does not say so

    def send(self) -> None:
        """Send the next request."""
        assert self._transport is not None
        request = self._requests[self._next % len(self._requests)]
        self._next += 1
        self._sent_at = time.perf_counter()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        if self._pending:
            data = self._pending + data
        head_end = data.find(b"\r\n\r\n")
        if head_end < 0:
            self._pending = data
            return
        length = _CONTENT_LENGTH.search(data, 0, head_end)
        missing = head_end + 4 + int(length[1]) - len(data) if length else -1
        if missing > 0:
            self._pending = data
            return
        if missing < 0:  # of no stated length, or longer than stated: where the next one starts is anybody's guess
            self._tally.failures["unreadable answer"] += 1
            self.close()
            return
        self._pending = b""
        if data[9:12] == b"200":
            self._tally.latencies_s.append(time.perf_counter() - self._sent_at)
        else:
            self._tally.failures[data[9:12].decode("latin-1")] += 1
        if not self._tally.is_over:
            self.send()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is not None and not self._tally.is_over:
            self._tally.failures["connection lost"] += 1
        self._transport = None

    def waits_since(self, moment: float) -> bool:
        """Return whether its request is older than a moment of ``time.perf_counter``, and still not answered."""
        return self._transport is not None and self._sent_at < moment

    def close(self) -> None:
        """Hang up."""
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()


async def drive(port: int, requests: Sequence[bytes], load: Load, meter: Meter = lambda: 0.0) -> Result:
    """Put a server on the loopback under load.

    Args:
        port: Where it listens.
        requests: Whole HTTP/1.1 requests, sent in turn; every client starts with another one.
        load: How hard and how long.
        meter: Read at the begin and at the end of the measured seconds.

    Raises:
        OSError: It does not listen.
        TimeoutError: It does not accept the connections.
    """
    loop = asyncio.get_running_loop()
    tally = _Tally()
    clients = [_Client(requests, index, tally) for index in range(load.clients)]
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            for client in clients:
                await loop.create_connection(lambda client=client: client, HOST, port)  # type: ignore[misc]
        for client in clients:
            client.send()
        if load.warm_up_s > 0:
            await asyncio.sleep(load.warm_up_s)
            tally.reset()
        before = time.perf_counter(), time.process_time(), meter()
        await asyncio.sleep(load.measured_s)
        tally.is_over = True
        after = time.perf_counter(), time.process_time(), meter()
        if silent := sum(client.waits_since(before[0]) for client in clients):
            tally.failures["no answer"] += silent
        seconds, computed_s, metered = (late - early for early, late in zip(before, after, strict=True))
        return Result(
            latencies_s=np.array(tally.latencies_s),
            failures=tally.failures,
            seconds=seconds,
            busy=computed_s / seconds,
            metered=metered,
        )
    finally:
        tally.is_over = True
        for client in clients:
            client.close()


def run(port: int, requests: Sequence[bytes], load: Load, meter: Meter = lambda: 0.0) -> Result:
    """Do what :func:`drive` does, on an event loop of its own."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(drive(port, requests, load, meter))


def ask(port: int, request: bytes) -> tuple[int, bytes]:
    """Send one whole HTTP/1.1 request, over a connection of its own; return status and body.

    Raises:
        OSError: Nobody listens, or nothing came back in time.
    """
    with socket.create_connection((HOST, port), timeout=CONNECT_TIMEOUT_S) as connection:
        connection.sendall(request)
        response = http.client.HTTPResponse(connection)
        response.begin()
        return response.status, response.read()
