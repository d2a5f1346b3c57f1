"""The two loops behind :mod:`app.bench.load`: who sends when, over which connection, and what is counted."""

import asyncio
import ssl
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from app.bench.alarm import open_alarm
from app.bench.connection import Connection, Request
from app.bench.plans import ClosedLoop, OpenLoop, Plan
from app.bench.tally import CANNOT_CONNECT, TIMED_OUT, UNFINISHED, Tally

CONNECT_TIMEOUT_S = 10.0
# between a connection that was lost and the next, so that a dead server is not hammered
_PAUSE_S = 0.02
# after a run was stopped, for what is in flight
_GRACE_S = 1.0
_NS = 1_000_000_000
_NEVER_NS = 1 << 62


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where a server listens.

    Attributes:
        port: Of TCP.
        host: Name or address.
        tls: Whom to believe over TLS; None for a server that does not speak it.
    """

    port: int
    host: str = "127.0.0.1"
    tls: ssl.SSLContext | None = None


class Loop:
    """What both loops share: connections, their timeouts, and the counting.

    Attributes:
        tally: What came back so far.
    """

    def __init__(self, target: Target, requests: Sequence[bytes], plan: Plan, *, counts_by_due: bool) -> None:
        self._target = target
        self._requests = requests
        self._plan = plan
        self._loop = asyncio.get_running_loop()
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
            await self._loop.create_connection(
                lambda: connection, self._target.host, self._target.port, ssl=self._target.tls
            )
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


class Closed(Loop):
    """As many in flight as there are clients."""

    def __init__(self, target: Target, requests: Sequence[bytes], plan: ClosedLoop) -> None:
        super().__init__(target, requests, plan, counts_by_due=False)
        self._clients = plan.clients

    async def connect(self) -> None:
        """Open as many connections as there are clients."""
        for _ in range(self._clients):
            await self._open_one()

    def start(self) -> None:
        """Let every client ask."""
        super().start()
        self.tally.begins_ns = self.tally.ends_ns = _NEVER_NS  # those who read the clock at both ends decide
        for connection in list(self._connections):
            self._idle(connection)

    def begin_measured(self) -> None:
        """Count from now on."""
        self.tally.begins_ns = time.perf_counter_ns()

    def end_measured(self) -> None:
        """Count no more."""
        self.tally.ends_ns = time.perf_counter_ns()

    async def finish(self, *, was_stopped: bool) -> None:
        """Ask no more; count whoever had no answer in all the time."""
        self._is_over = True
        tally, now_ns = self.tally, time.perf_counter_ns()
        for connection in self._connections:
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


class Open(Loop):
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
        """Open the first connections; the others come as they are needed."""
        for _ in range(self._opened):
            self._free.append(await self._open_one())

    def start(self) -> None:
        """Wake up when the first request is due."""
        super().start()
        self._offsets_ns.append(_NEVER_NS)
        self._alarm.set(self._begins_ns + self._offsets_ns[0])

    async def finish(self, *, was_stopped: bool) -> None:
        """Wait until every request that was due is answered, given up, or cut."""
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
        """Hang up, and wake up no more."""
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
        """Count an answer, and see whether it was the last."""
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
