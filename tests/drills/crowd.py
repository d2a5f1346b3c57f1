"""Clients on an event loop of their own, in a thread: they ask over keep-alive connections until they are told to stop.

A request is written once, and never again: whatever becomes of it is booked. A client that stops waits for its answer
first, so that the books of a crowd that has ended come out to the request.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self, cast

import uvloop

from tests.drills.books import Books, Failure

HOST = "127.0.0.1"
ANSWER_TIMEOUT_S = 30.0
_END_TIMEOUT_S = 60.0
# between a connection that nobody took and the next try
_PAUSE_S = 0.01

# of an answer's head and body: empty where it is right, else what is wrong with it; may count in the books
Check = Callable[[Books, bytes, bytes], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A whole HTTP request, and what to look at in its answer."""

    data: bytes
    check: Check | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How a crowd behaves.

    Attributes:
        clients: How many.
        fresh: How many of them open a connection for every request; the others keep theirs while they may.
        pause_s: What each rests between an answer and its next request.
        ends_when_refused: Whether a client that nobody takes a connection from is done; else it tries again.
    """

    clients: int
    fresh: int = 0
    pause_s: float = 0.0
    ends_when_refused: bool = False


class Crowd:
    """Asks from ``with`` on, until it is stopped, refused, or the ``with`` ends.

    Args:
        port: Of the loopback.
        questions: Asked in turn; every client starts with another one.
        manner: How.

    Attributes:
        books: Complete when the crowd has ended.
    """

    def __init__(self, port: int, questions: Sequence[Question], manner: Manner) -> None:
        self.port = port
        self.books = Books()
        self._questions = questions
        self._manner = manner
        self._stopping = False
        self._begun = threading.Semaphore(0)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._error: BaseException | None = None

    def __enter__(self) -> Self:
        """Return when every client has had its first answer, or its connection was not taken."""
        self._thread.start()
        for _ in range(self._manner.clients):
            if not self._begun.acquire(timeout=_END_TIMEOUT_S):
                raise TimeoutError("a client has had no answer")
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        if self._error is not None:
            raise self._error

    def stop(self) -> Books:
        """Ask nothing more, and return the books when all that is in flight has come to an end."""
        self._stopping = True
        return self.wait()

    def wait(self, timeout_s: float = _END_TIMEOUT_S) -> Books:
        """Return the books when every client has ended by itself.

        Raises:
            TimeoutError: They go on.
        """
        if not self._ended.wait(timeout_s):
            self._stopping = True
            raise TimeoutError(f"clients did not end within {timeout_s:g} s")
        return self.books

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._all())
        except BaseException as exc:
            self._error = exc
        finally:
            for _ in range(self._manner.clients):
                self._begun.release()
            self._ended.set()

    async def _all(self) -> None:
        manner = self._manner
        kept = [index >= manner.fresh for index in range(manner.clients)]
        await asyncio.gather(*(self._client(first, is_kept) for first, is_kept in enumerate(kept)))

    async def _client(self, number: int, is_kept: bool) -> None:
        connection: _Connection | None = None
        has_begun = False
        try:
            while not self._stopping:
                if connection is None or not connection.is_open:
                    connection = await self._connect()
                    if connection is None:
                        if self._manner.ends_when_refused:
                            return
                        await asyncio.sleep(_PAUSE_S)
                        continue
                await self._ask(connection, self._questions[number % len(self._questions)])
                number += 1
                if not has_begun:
                    has_begun = True
                    self._begun.release()
                if not is_kept:
                    connection.close()
                if self._manner.pause_s:
                    await asyncio.sleep(self._manner.pause_s)
        finally:
            if connection is not None:
                connection.close()
            if not has_begun:
                self._begun.release()

    async def _connect(self) -> "_Connection | None":
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                _, connection = await loop.create_connection(_Connection, HOST, self.port)
        except OSError:  # TimeoutError is one
            self.books.refused += 1
            return None
        return connection

    async def _ask(self, connection: "_Connection", question: Question) -> None:
        books, port = self.books, connection.local_port
        books.sent += 1
        books.sent_by_port[port] += 1
        sent_ns = time.perf_counter_ns()
        try:
            head, body = await connection.ask(question.data)
        except _Lost as exc:
            books.failures.append(Failure(port, str(exc), is_lost=True))
            connection.close()
            return
        status = head[9:12].decode("latin-1")
        books.statuses[status] += 1
        if status != "200":
            books.failures.append(Failure(port, status))
        else:
            books.latency.record(time.perf_counter_ns() - sent_ns)
            if question.check is not None and (fault := question.check(books, head, body)):
                books.wrong[fault] += 1
                books.failures.append(Failure(port, fault))
        if b"\r\nconnection: close" in head.lower():
            connection.close()


class _Lost(Exception):
    """The connection ended before the answer was whole."""


class _Connection(asyncio.Protocol):
    """One request in flight at most."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[tuple[bytes, bytes]] | None = None
        self._data = b""
        self.local_port = 0

    @property
    def is_open(self) -> bool:
        return self._transport is not None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.local_port = transport.get_extra_info("sockname")[1]

    async def ask(self, request: bytes) -> tuple[bytes, bytes]:
        """Write a request; return head and body of its answer.

        Raises:
            _Lost: It never came whole.
        """
        assert self._transport is not None
        loop = asyncio.get_running_loop()
        self._answer = loop.create_future()
        self._transport.write(request)
        alarm = loop.call_later(ANSWER_TIMEOUT_S, self._give_up, "timed out")
        try:
            return await self._answer
        finally:
            alarm.cancel()
            self._answer = None

    def data_received(self, data: bytes) -> None:
        self._data += data
        head_end = self._data.find(b"\r\n\r\n")
        if head_end < 0:
            return
        head = self._data[:head_end]
        length = _content_length(head)
        if length is None:
            self._give_up("unreadable answer")
            return
        end = head_end + 4 + length
        if len(self._data) < end:
            return
        body, rest = self._data[head_end + 4 : end], self._data[end:]
        self._data = b""
        if rest or self._answer is None:
            self._give_up("more than one answer")
        elif not self._answer.done():
            self._answer.set_result((head, body))

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        ended = "connection closed" if exc is None else "connection reset"
        self._give_up("answer cut off" if self._data else ended)

    def close(self) -> None:
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.close()

    def _give_up(self, why: str) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(_Lost(why))
        self.close()


def _content_length(head: bytes) -> int | None:
    found = head.lower().partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0].strip()
    return int(found) if found.isdigit() else None
