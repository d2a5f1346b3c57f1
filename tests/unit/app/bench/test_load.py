"""The load generator against real servers on the loopback: what it counts is what became of the requests."""

import asyncio
import os
import signal
import socket
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from app.bench.load import ClosedLoop, OpenLoop, Target, drive, http_request, run
from app.bench.tally import Result

REQUESTS = [http_request("/predict", b'{"number": %d}' % number) for number in range(3)]
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n"

pytestmark = pytest.mark.anyio

Answer = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]


class Server:
    """Answers each request on a port of the loopback with what a function writes."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self.requests: list[bytes] = []
        self.connections = 0

    async def __aenter__(self) -> "Server":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.target = Target(port=self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while not writer.is_closing():
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                self.requests.append(head + await reader.readexactly(length))
                await self._answer(self.requests[-1], writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):  # the test is over
            pass
        finally:
            writer.close()


def writes(data: bytes) -> Answer:
    async def answer(request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(data)

    return answer


def accounts(result: Result) -> None:
    """Hold a result against itself: nothing is lost between its counts."""
    assert result.outcomes.total() == result.requests
    assert result.response.count == result.service.count == result.answered
    together: dict[str, int] = {}
    for second in result.timeline:
        for outcome, count in second.items():
            together[outcome] = together.get(outcome, 0) + count
    assert together == dict(result.outcomes)


CLOSED = ClosedLoop(clients=4, measured_s=0.2)
OPEN = OpenLoop(rate=400, measured_s=0.25)


async def test_a_closed_loop_counts_every_answer_once_and_sends_bodies_in_turn() -> None:
    async with Server(writes(OK)) as server:
        result = await drive(server.target, REQUESTS, CLOSED)
    accounts(result)
    assert result.answered > 4
    assert set(result.outcomes) == {"200"}
    assert result.answered <= len(server.requests) <= result.answered + 4
    assert set(server.requests) == set(REQUESTS)
    assert server.connections == 4
    assert result.bytes_received == result.answered * len(OK)


async def test_an_open_loop_sends_as_many_as_are_due_and_each_is_accounted_for() -> None:
    async with Server(writes(OK)) as server:
        result = await drive(server.target, REQUESTS, OPEN)
    accounts(result)
    assert result.requests == len(OPEN.offsets_ns()) == len(server.requests)
    assert result.outcomes == {"200": result.requests}
    assert result.lag.count + result.late <= result.requests


async def test_constant_arrivals_make_exactly_the_rate() -> None:
    plan = OpenLoop(rate=200, measured_s=0.5, arrivals="constant")
    async with Server(writes(OK)) as server:
        result = await drive(server.target, REQUESTS, plan)
    assert result.requests == 100
    assert result.seconds == 0.5


async def test_what_was_due_in_the_warm_up_is_sent_and_not_counted() -> None:
    plan = OpenLoop(rate=200, measured_s=0.25, warm_up_s=0.25, arrivals="constant")
    async with Server(writes(OK)) as server:
        result = await drive(server.target, REQUESTS, plan)
    accounts(result)
    assert result.requests == 50
    assert len(server.requests) == 100


async def test_a_stall_is_counted_with_every_request_that_it_kept_waiting() -> None:
    """The server stands still for half a second, once. A closed loop's tail would hold one such request a client."""
    stalled = False

    async def answer(request: bytes, writer: asyncio.StreamWriter) -> None:
        nonlocal stalled
        if not stalled:
            stalled = True
            await asyncio.sleep(0.5)
        writer.write(OK)

    plan = OpenLoop(rate=100, measured_s=1.0, arrivals="constant", connections=1)
    async with Server(answer) as server:
        result = await drive(server.target, REQUESTS, plan)
    accounts(result)
    assert result.outcomes == {"200": 100}
    # 50 were due while it stood still, a hundredth of a second apart: half of all waited, and a quarter for half of it
    assert result.late >= 48
    assert result.response.percentile_ms(75) >= 230
    # the one that was in flight is all that a look at the wire sees
    assert result.service.percentile_ms(98) < result.response.percentile_ms(75)


async def test_connections_can_be_open_before_the_load_comes() -> None:
    async with Server(writes(OK)) as server:
        plan = OpenLoop(rate=100, measured_s=0.1, connections=20, opened=20, arrivals="constant")
        result = await drive(server.target, REQUESTS, plan)
    assert result.answered == 10
    assert server.connections == 20  # more than there were requests


async def test_an_exhausted_pool_makes_requests_late_and_loses_none() -> None:
    async def slow(request: bytes, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.02)
        writer.write(OK)

    plan = OpenLoop(rate=200, measured_s=0.25, connections=2, arrivals="constant")
    async with Server(slow) as server:
        result = await drive(server.target, REQUESTS, plan)
    accounts(result)
    assert result.requests == result.answered == len(server.requests) == 50
    assert result.late > 0
    assert server.connections == 2
    assert result.in_time < result.answered  # 100 a second at most, and 200 a second were due


async def test_refusals_are_counted_with_when_to_come_again() -> None:
    async with Server(writes(BUSY)) as server:
        result = await drive(server.target, REQUESTS, OPEN)
    accounts(result)
    assert result.outcomes == {"503": result.requests}
    assert result.retry_after_s == {7: result.requests}
    assert result.refused.count == result.requests
    assert result.response.count == 0
    assert result.requests_per_s == 0


@pytest.mark.parametrize("plan", [CLOSED, OPEN], ids=["closed", "open"])
async def test_answers_in_pieces_and_in_chunks_are_joined(plan: ClosedLoop | OpenLoop) -> None:
    async def answer(request: bytes, writer: asyncio.StreamWriter) -> None:
        chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
        whole = b"HTTP/1.1 200 OK\r\nContent-Length: 30000\r\n\r\n" + b"x" * 30000
        data = chunked if request.endswith(b"1}") else whole
        writer.write(data[: len(data) // 2])
        await writer.drain()
        await asyncio.sleep(0.001)
        writer.write(data[len(data) // 2 :])

    async with Server(answer) as server:
        result = await drive(server.target, REQUESTS, plan)
    accounts(result)
    assert set(result.outcomes) == {"200"}


@pytest.mark.parametrize("plan", [CLOSED, OPEN], ids=["closed", "open"])
@pytest.mark.parametrize(
    ("data", "outcome"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\nhow long?", "unreadable answer"),
        (OK + OK, "unreadable answer"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "unreadable answer"),
    ],
    ids=["no length", "two answers", "no chunk"],
)
async def test_what_cannot_be_read_is_a_failure_and_ends_nothing_else(
    plan: ClosedLoop | OpenLoop, data: bytes, outcome: str
) -> None:
    async with Server(writes(data)) as server:
        result = await drive(server.target, REQUESTS, plan)
    accounts(result)
    assert set(result.outcomes) == {outcome}
    assert server.connections > 1


@pytest.mark.parametrize("plan", [CLOSED, OPEN], ids=["closed", "open"])
async def test_a_connection_that_the_server_ends_in_good_order_is_no_failure(plan: ClosedLoop | OpenLoop) -> None:
    async def answer(request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    async with Server(answer) as server:
        result = await drive(server.target, REQUESTS, plan)
    accounts(result)
    assert set(result.outcomes) == {"200"}
    assert result.answered <= server.connections


@pytest.mark.parametrize("plan", [CLOSED, OPEN], ids=["closed", "open"])
async def test_a_connection_that_breaks_is_a_failure_and_another_takes_its_place(plan: ClosedLoop | OpenLoop) -> None:
    async def answer(request: bytes, writer: asyncio.StreamWriter) -> None:
        if request.endswith(b"1}"):
            writer.transport.abort()
        else:
            writer.write(OK)

    async with Server(answer) as server:
        result = await drive(server.target, REQUESTS, plan)
    accounts(result)
    assert set(result.outcomes) == {"200", "connection lost"}


@pytest.mark.parametrize(
    "plan",
    [ClosedLoop(clients=2, measured_s=0.3, timeout_s=0.05), OpenLoop(rate=50, measured_s=0.3, timeout_s=0.05)],
    ids=["closed", "open"],
)
async def test_a_server_that_never_answers_is_given_up_request_by_request(plan: ClosedLoop | OpenLoop) -> None:
    async with Server(writes(b"")) as server:
        result = await drive(server.target, REQUESTS, plan)
    accounts(result)
    assert set(result.outcomes) == {"timed out"}


async def test_clients_of_a_server_that_never_answers_are_counted_when_the_run_ends() -> None:
    async with Server(writes(b"")) as server:
        result = await drive(server.target, REQUESTS, ClosedLoop(clients=2, measured_s=0.1, warm_up_s=0.1))
    assert result.outcomes == {"unfinished": 2}


async def test_requests_that_wait_for_a_connection_are_given_up_too() -> None:
    plan = OpenLoop(rate=1000, measured_s=0.3, timeout_s=0.05, connections=1, arrivals="constant")
    async with Server(writes(b"")) as server:
        result = await drive(server.target, REQUESTS, plan)
    accounts(result)
    assert result.outcomes == {"timed out": 300}
    assert len(server.requests) < 300


async def test_a_server_that_dies_in_the_middle_leaves_every_request_accounted_for() -> None:
    server = Server(writes(OK))
    async with server:

        async def die() -> None:
            await asyncio.sleep(0.1)
            server._server.close()
            server._server.close_clients() if hasattr(server._server, "close_clients") else None
            server._answer = hang_up

        async def hang_up(request: bytes, writer: asyncio.StreamWriter) -> None:
            writer.transport.abort()

        dying = asyncio.ensure_future(die())
        result = await drive(server.target, REQUESTS, OPEN)
        await dying
    accounts(result)
    assert result.requests == len(OPEN.offsets_ns())
    assert set(result.outcomes) >= {"200", "cannot connect"}


@pytest.mark.parametrize("plan", [ClosedLoop(clients=4, measured_s=60), OpenLoop(rate=100, measured_s=60)])
async def test_a_run_that_is_stopped_tells_what_it_has_measured(plan: ClosedLoop | OpenLoop) -> None:
    stop = asyncio.Event()
    async with Server(writes(OK)) as server:
        asyncio.get_running_loop().call_later(0.2, stop.set)
        result = await drive(server.target, REQUESTS, plan, stop=stop)
    accounts(result)
    assert result.was_stopped
    assert 0 < result.seconds < 60
    assert result.answered > 0


async def test_what_is_in_flight_when_a_run_is_stopped_is_not_forgotten() -> None:
    stop = asyncio.Event()
    async with Server(writes(b"")) as server:
        asyncio.get_running_loop().call_later(0.1, stop.set)
        plan = OpenLoop(rate=100, measured_s=60, connections=2, arrivals="constant")
        result = await drive(server.target, REQUESTS, plan, stop=stop)
    accounts(result)
    assert result.outcomes["unfinished"] == result.requests > 2


async def test_the_meter_is_read_at_both_ends() -> None:
    readings = iter([3.0, 10.0])
    async with Server(writes(OK)) as server:
        assert (await drive(server.target, REQUESTS, CLOSED, lambda: next(readings))).metered == 7.0


def test_an_interrupt_ends_a_run_with_its_result() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()  # never answers
        is_over = threading.Event()

        def interrupt() -> None:
            with listener.accept()[0]:  # the run has begun
                os.kill(os.getpid(), signal.SIGINT)
                is_over.wait()

        with ThreadPoolExecutor(1) as thread:
            thread.submit(interrupt)
            try:
                result = run(Target(port=listener.getsockname()[1]), REQUESTS, ClosedLoop(clients=1, measured_s=60))
            finally:
                is_over.set()
    assert result.was_stopped


@pytest.mark.parametrize("plan", [CLOSED, OPEN], ids=["closed", "open"])
def test_a_port_where_nobody_listens_is_an_error(plan: ClosedLoop | OpenLoop) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(OSError, match="refused"):
            run(Target(port=unused.getsockname()[1]), REQUESTS, plan)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: OpenLoop(rate=0, measured_s=1), "rate must be between 0.001 and 1e"),
        (lambda: OpenLoop(rate=float("nan"), measured_s=1), "rate must be between"),
        (lambda: OpenLoop(rate=1, measured_s=0), "measured seconds must be between 0.01 and 3600, got 0"),
        (lambda: OpenLoop(rate=1, measured_s=1e9), "measured seconds must be between"),
        (lambda: OpenLoop(rate=1e6, measured_s=3600), "at most 20,000,000"),
        (lambda: OpenLoop(rate=1, measured_s=1, connections=0), "connections must be between 1 and 4096, got 0"),
        (lambda: OpenLoop(rate=1, measured_s=1, connections=4, opened=5), "opened must be between 1 and 4, got 5"),
        (lambda: OpenLoop(rate=1, measured_s=1, timeout_s=-1), "timeout seconds must be"),
        (lambda: OpenLoop(rate=1, measured_s=1, arrivals="now"), "'constant' or 'poisson', got 'now'"),
        (lambda: ClosedLoop(clients=0, measured_s=1), "clients must be between 1 and 4096, got 0"),
        (lambda: ClosedLoop(clients=1, measured_s=1, warm_up_s=-1), "warm-up seconds must be"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_poisson_arrivals_rise_and_repeat_with_their_seed() -> None:
    plan = OpenLoop(rate=1000, measured_s=2)
    offsets = plan.offsets_ns()
    assert offsets == sorted(offsets) == plan.offsets_ns()
    assert offsets[0] >= 0
    assert offsets[-1] < 2_000_000_000
    assert 1700 < len(offsets) < 2300
    assert OpenLoop(rate=1000, measured_s=2, seed=1).offsets_ns() != offsets
