"""Puts a server under load over keep-alive connections, in a closed or an open loop, on one thread that costs little.

::

    result = run(Target(port=8000), [http_request("/predict/cnn", body)], OpenLoop(rate=500, measured_s=10))

In the open loop a request is due at a time that was drawn beforehand, and its response time runs from then on, whether
or not a connection was free to send it: so a stall of the server is counted with all the requests that it would have
kept waiting, not only with those that happened to be in flight ("coordinated omission", Gil Tene).
"""

import asyncio
import signal
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from app.bench.alarm import open_alarm
from app.bench.connection import Connection, Request
from app.bench.plans import ClosedLoop, OpenLoop, Plan
from app.bench.tally import CANNOT_CONNECT, TIMED_OUT, UNFINISHED, Result, Tally

__all__ = ["ClosedLoop", "Meter", "OpenLoop", "Plan", "Result", "Target", "drive", "http_request", "run"]

CONNECT_TIMEOUT_S = 10.0
# between a connection that was lost and the next, so that a dead server is not hammered
_PAUSE_S = 0.02
# after a run was stopped, for what is in flight
_GRACE_S = 1.0
_NS = 1_000_000_000
_NEVER_NS = 1 << 62

Meter = Callable[[], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where a server listens."""

    port: int
    host: str = "127.0.0.1"
    is_encrypted: bool = False


def http_request(
    path: str, body: bytes, *, host: str = "127.0.0.1", headers: Mapping[str, str] | None = None, method: str = "POST"
) -> bytes:
    """Return a whole HTTP/1.1 request; JSON unless the headers say otherwise.

    Args:
        path: With the query, where there is one.
        body: As it is sent.
        host: With the port where it is not the usual one.
        headers: Beside ``Host`` and ``Content-Length``.
        method: Of HTTP.
    """
    named = {"Content-Type": "application/json", **{name.title(): value for name, value in (headers or {}).items()}}
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", *(f"{name}: {value}" for name, value in named.items())]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode("latin-1") + body


def run(target: Target, requests: Sequence[bytes], plan: Plan, meter: Meter = lambda: 0.0) -> Result:
    """Do what :func:`drive` does on an event loop of its own; SIGINT ends it early, with what was measured so far."""
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_until_interrupted(target, requests, plan, meter))


async def drive(
    target: Target,
    requests: Sequence[bytes],
    plan: Plan,
    meter: Meter = lambda: 0.0,
    stop: asyncio.Event | None = None,
) -> Result:
    """Put a server under load.

    Args:
        target: Where it listens.
        requests: Whole HTTP/1.1 requests, sent in turn; in a closed loop every client starts with another one.
        plan: How hard and how long.
        meter: Read at the begin and at the end of the measured seconds.
        stop: Ends it early once set.

    Raises:
        OSError: It does not listen.
        TimeoutError: It does not accept the connections.
    """
    load = _Closed(target, requests, plan) if isinstance(plan, ClosedLoop) else _Open(target, requests, plan)
    stop = asyncio.Event() if stop is None else stop
    try:
        await load.connect()
        load.start()
        await _wait(stop, plan.warm_up_s)
        load.begin_measured()
        before = time.perf_counter(), time.process_time(), meter()
        await _wait(stop, plan.measured_s)
        after = time.perf_counter(), time.process_time(), meter()
        seconds, computed_s, metered = (late - early for early, late in zip(before, after, strict=True))
        was_stopped = stop.is_set()
        load.end_measured()
        await load.finish(was_stopped=was_stopped)
        return load.tally.result(
            # what is due decides in an open loop, and that is known to the nanosecond
            seconds=plan.measured_s if load.tally.counts_by_due and not was_stopped else max(seconds, 1e-9),
            busy=computed_s / max(seconds, 1e-9),
            metered=metered,
            was_stopped=was_stopped,
        )
    finally:
        load.close()


async def _until_interrupted(target: Target, requests: Sequence[bytes], plan: Plan, meter: Meter) -> Result:
    stop = asyncio.Event()
    with _on_interrupt(stop.set):
        return await drive(target, requests, plan, meter, stop)


@contextmanager
def _on_interrupt(call: Callable[[], None]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # signals are the main thread's
        yield
        return
    loop = asyncio.get_running_loop()
    before = signal.getsignal(signal.SIGINT)
    loop.add_signal_handler(signal.SIGINT, call)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)
        signal.signal(signal.SIGINT, before)


async def _wait(stop: asyncio.Event, seconds: float) -> None:
    if seconds > 0 and not stop.is_set():
        try:
            async with asyncio.timeout(seconds):
                await stop.wait()
        except TimeoutError:
            pass


class _Load:
    """What both loops share: connections, their timeouts, and the counting.

    Attributes:
        tally: What came back so far.
    """

    def __init__(self, target: Target, requests: Sequence[bytes], plan: Plan, *, counts_by_due: bool) -> None:
        self._target = target
        self._requests = requests
        self._plan = plan
        self._loop = asyncio.get_running_loop()
        self._tls = ssl.create_default_context() if target.is_encrypted else None
        self._connections: set[Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._next = 0
        self._is_over = False
        self._begins_at = self._begins_ns = 0
        self.tally = Tally(begins_ns=0, ends_ns=0, counts_by_due=counts_by_due)

    async def connect(self) -> None:
        """Open the first connections; raises where nobody listens."""
        raise NotImplementedError

    def start(self) -> None:
        """Let the time begin."""
        self._begins_ns = time.perf_counter_ns()
        self.tally.begins_ns = self._begins_ns + int(self._plan.warm_up_s * _NS)
        self.tally.ends_ns = self.tally.begins_ns + int(self._plan.measured_s * _NS)
        self._loop.call_later(self._sweep_s, self._sweep)

    def begin_measured(self) -> None:
        """The warm-up is over."""

    def end_measured(self) -> None:
        """The measured seconds are."""

    async def finish(self, *, was_stopped: bool) -> None:
        """Send nothing more, and wait for what the tally has to know."""
        raise NotImplementedError

    def close(self) -> None:
        """Hang up."""
        self._is_over = True
        for task in self._tasks:
            task.cancel()
        for connection in self._connections:
            connection.close()

    def answered(
        self, connection: Connection, request: Request, status: bytes, size_bytes: int, retry_after_s: int | None
    ) -> None:
        """Count an answer, and let the connection go on."""
        now_ns, tally = time.perf_counter_ns(), self.tally
        if tally.counts(request.intended_ns, now_ns):
            tally.answer(status, request.intended_ns, request.sent_ns, now_ns)
            tally.bytes_received += size_bytes
            tally.bytes_sent += len(request.data)
            if retry_after_s is not None:
                tally.retry_after_s[retry_after_s] += 1
        if connection.is_open:
            self._idle(connection)
        else:
            self._gone(connection)

    def failed(self, connection: Connection, request: Request | None, why: bytes) -> None:
        """Count the end of a connection, where it had a request, and open another."""
        if request is not None:
            self._fail(request, why)
        self._gone(connection)

    def _fail(self, request: Request, why: bytes) -> None:
        now_ns = time.perf_counter_ns()
        if self.tally.counts(request.intended_ns, now_ns):
            self.tally.count(why, now_ns)

    def _idle(self, connection: Connection) -> None:
        raise NotImplementedError

    def _gone(self, connection: Connection) -> None:
        raise NotImplementedError

    def _take_data(self) -> bytes:
        data = self._requests[self._next % len(self._requests)]
        self._next += 1
        return data

    async def _open_one(self) -> Connection:
        connection = Connection(self)
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            await self._loop.create_connection(lambda: connection, self._target.host, self._target.port, ssl=self._tls)
        self._connections.add(connection)
        return connection

    @property
    def _sweep_s(self) -> float:
        return min(0.25, self._plan.timeout_s / 8)

    def _sweep(self) -> None:
        """Give up what has taken too long; one look at all now and then costs less than a timer for each request."""
        if self._is_over:
            return
        latest_ns = time.perf_counter_ns() - int(self._plan.timeout_s * _NS)
        for connection in list(self._connections):
            request = connection.request
            if request is not None and request.intended_ns < latest_ns:
                connection.request = None
                connection.close()
                self.failed(connection, request, TIMED_OUT)
        self._sweep_waiting(latest_ns)
        self._loop.call_later(self._sweep_s, self._sweep)

    def _sweep_waiting(self, latest_ns: int) -> None:
        """Give up what waits to be sent."""

    def _begin(self, task: "asyncio.Task[None]") -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class _Closed(_Load):
    """As many in flight as there are clients."""

    def __init__(self, target: Target, requests: Sequence[bytes], plan: ClosedLoop) -> None:
        super().__init__(target, requests, plan, counts_by_due=False)
        self._clients = plan.clients

    async def connect(self) -> None:
        for _ in range(self._clients):
            await self._open_one()

    def start(self) -> None:
        super().start()
        self.tally.begins_ns = self.tally.ends_ns = _NEVER_NS  # those who read the clock at both ends decide
        for connection in list(self._connections):
            self._idle(connection)

    def begin_measured(self) -> None:
        self.tally.begins_ns = time.perf_counter_ns()

    def end_measured(self) -> None:
        self.tally.ends_ns = time.perf_counter_ns()

    async def finish(self, *, was_stopped: bool) -> None:
        self._is_over = True
        tally, now_ns = self.tally, time.perf_counter_ns()
        for connection in self._connections:  # whoever had no answer in all the time
            if (
                (request := connection.request) is not None
                and request.intended_ns < tally.begins_ns
                and not was_stopped
            ):
                tally.count(UNFINISHED, now_ns)

    def _idle(self, connection: Connection) -> None:
        if not self._is_over and connection.is_open:
            connection.send(Request(self._take_data(), time.perf_counter_ns()))

    def _gone(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if not self._is_over:
            self._begin(self._loop.create_task(self._reopen()))

    async def _reopen(self) -> None:
        while not self._is_over:
            await asyncio.sleep(_PAUSE_S)
            request = Request(b"", time.perf_counter_ns())
            try:
                connection = await self._open_one()
            except OSError:  # TimeoutError is one
                self._fail(request, CANNOT_CONNECT)
            else:
                self._idle(connection)
                return


class _Open(_Load):
    """Requests at their own times, over as many connections as they need, up to a bound."""

    def __init__(self, target: Target, requests: Sequence[bytes], plan: OpenLoop) -> None:
        super().__init__(target, requests, plan, counts_by_due=True)
        self._most = plan.connections
        self._opened = plan.opened
        self._offsets_ns = plan.offsets_ns()
        self._free: list[Connection] = []  # the last one that came is the next to go: those never needed stay closed
        self._waiting: deque[Request] = deque()
        self._opening = 0
        self._in_flight = 0
        self._is_launching = True
        self._all_back = self._loop.create_future()
        self._alarm = open_alarm(self._loop, self._launch)

    async def connect(self) -> None:
        for _ in range(self._opened):
            self._free.append(await self._open_one())

    def start(self) -> None:
        super().start()
        self._offsets_ns.append(_NEVER_NS)
        self._alarm.set(self._begins_ns + self._offsets_ns[0])

    async def finish(self, *, was_stopped: bool) -> None:
        if was_stopped:
            self._is_launching = False
        else:
            self._launch()
        self._look_whether_all_are_back()
        # the sweep gives up what takes too long, so this ends
        await asyncio.wait([self._all_back], timeout=_GRACE_S if was_stopped else None)
        for request in (*self._waiting, *(c.request for c in self._connections if c.request is not None)):
            self._fail(request, UNFINISHED)
        self._waiting.clear()

    def close(self) -> None:
        self._alarm.close()
        super().close()

    def _launch(self) -> None:
        """Send all that is due, and wake up for the next."""
        begins_ns, offsets_ns = self._begins_ns, self._offsets_ns
        while self._is_launching:
            due_ns = begins_ns + offsets_ns[self._next]
            if due_ns >= self.tally.ends_ns:
                self._is_launching = False
            elif due_ns > time.perf_counter_ns():
                self._alarm.set(due_ns)
                return
            else:
                self._launch_one(Request(self._take_data(), due_ns))

    def _launch_one(self, request: Request) -> None:
        self._in_flight += 1
        if self._free:
            connection = self._free.pop()
            connection.send(request)
            if self.tally.counts(request.intended_ns, request.sent_ns):
                self.tally.lag.record(request.sent_ns - request.intended_ns)
            return
        self._waiting.append(request)
        if not self._open_more() and self.tally.counts(request.intended_ns, 0):
            self.tally.late += 1

    def _open_more(self) -> bool:
        """Open a connection for whoever waits; return whether one more was to be had."""
        if self._is_over or len(self._connections) + self._opening >= self._most:
            return False
        self._opening += 1
        self._begin(self._loop.create_task(self._open_for_one()))
        return True

    async def _open_for_one(self) -> None:
        try:
            connection = await self._open_one()
        except OSError:
            await asyncio.sleep(_PAUSE_S)
            self._opening -= 1
            if self._waiting:
                self._fail(self._waiting.popleft(), CANNOT_CONNECT)
            if self._waiting:
                self._open_more()
        else:
            self._opening -= 1
            self._idle(connection)

    def _fail(self, request: Request, why: bytes) -> None:
        super()._fail(request, why)
        self._back()

    def answered(
        self, connection: Connection, request: Request, status: bytes, size_bytes: int, retry_after_s: int | None
    ) -> None:
        super().answered(connection, request, status, size_bytes, retry_after_s)
        self._back()

    def _back(self) -> None:
        self._in_flight -= 1
        self._look_whether_all_are_back()

    def _look_whether_all_are_back(self) -> None:
        if not self._in_flight and not self._is_launching and not self._all_back.done():
            self._all_back.set_result(None)

    def _idle(self, connection: Connection) -> None:
        if self._waiting:
            connection.send(self._waiting.popleft())
        else:
            self._free.append(connection)

    def _gone(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if connection in self._free:
            self._free.remove(connection)
        if self._waiting:
            self._open_more()

    def _sweep_waiting(self, latest_ns: int) -> None:
        while self._waiting and self._waiting[0].intended_ns < latest_ns:
            self._fail(self._waiting.popleft(), TIMED_OUT)
