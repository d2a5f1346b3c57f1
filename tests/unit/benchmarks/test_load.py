"""The load generator against real servers: what it counts is what was answered."""

import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvicorn

from benchmarks import load, pictures
from benchmarks.peers import floor_read

CLIENTS = 4
BRIEFLY = load.Load(clients=CLIENTS, warm_up_s=0, measured_s=0.2)
REQUESTS = pictures.http_requests("/predict", pictures.bodies(3))

App = Callable[[dict[str, Any], Any, Any], Awaitable[None]]


class Counted:
    """Counts the requests that an app answers."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.answered = 0

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)
        self.answered += 1


@contextmanager
def served(app: Any) -> Iterator[int]:
    """Serve an app on a free port of the loopback, on a thread."""
    with socket.socket() as listener:
        listener.bind((load.HOST, 0))
        config = uvicorn.Config(app, lifespan="off", log_config=None, access_log=False, ws="none")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listener],))
        listener.listen()
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(30)


async def busy(scope: dict[str, Any], receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 503, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


async def in_two_halves(scope: dict[str, Any], receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"100000")]})
    await send({"type": "http.response.body", "body": b"x" * 50_000, "more_body": True})
    await send({"type": "http.response.body", "body": b"x" * 50_000})


async def hangs_up(scope: dict[str, Any], receive: Any, send: Any) -> None:
    headers = [(b"content-length", b"0"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


def test_every_answer_of_the_floor_is_counted_once() -> None:
    app = Counted(floor_read.app)
    with served(app) as port:
        result = load.run(port, REQUESTS, BRIEFLY)
    assert result.requests > CLIENTS
    assert not result.failures
    # what was in flight when the time was over is answered and not counted
    assert result.requests <= app.answered <= result.requests + CLIENTS


def test_other_statuses_are_failures_and_not_requests() -> None:
    app = Counted(busy)
    with served(app) as port:
        result = load.run(port, REQUESTS, BRIEFLY)
    assert result.requests == 0
    assert set(result.failures) == {"503"}
    assert result.failures["503"] <= app.answered <= result.failures["503"] + CLIENTS


def test_answers_that_come_in_pieces_are_joined() -> None:
    with served(in_two_halves) as port:
        result = load.run(port, REQUESTS, BRIEFLY)
    assert result.requests > CLIENTS
    assert not result.failures


def test_lost_connections_are_failures_and_end_nothing_else() -> None:
    with served(hangs_up) as port:
        result = load.run(port, REQUESTS, BRIEFLY)
    assert result.failures["connection lost"] == CLIENTS


def test_the_meter_is_read_at_both_ends_of_the_measured_time() -> None:
    readings = iter([3.0, 10.0])
    with served(floor_read.app) as port:
        result = load.run(port, REQUESTS, BRIEFLY, lambda: next(readings))
    assert result.metered == 7.0


def test_a_port_where_nobody_listens_is_an_error() -> None:
    with socket.socket() as unused:
        unused.bind((load.HOST, 0))
        with pytest.raises(OSError, match="refused"):
            load.run(unused.getsockname()[1], REQUESTS, BRIEFLY)
