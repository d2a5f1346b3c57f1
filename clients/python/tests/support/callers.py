"""Both clients by one face, on a clock that only they turn."""

from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any

import httpx
from anyio.from_thread import BlockingPortal, start_blocking_portal

from zero_to_one_client import AsyncClient, Client, Options

# read once: it costs more than most tests
VERIFY = httpx.create_ssl_context()


class Clock:
    """Seconds that go by when somebody sleeps, and never else."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.slept_s: list[float] = []

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)
        self.now_s += seconds

    async def sleep_async(self, seconds: float) -> None:
        self.sleep(seconds)


class Caller(ExitStack):
    """Makes clients whose calls return, whatever they are inside; closes them at the end."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock

    def options(self, options: Options | None) -> Options:
        """Chance is always the middle."""
        return replace(options or Options(), clock=self.clock, now=self.clock, random=lambda: 0.5)

    def client(self, url: str, options: Options | None = None, **more: Any) -> Any:
        raise NotImplementedError


class SyncCaller(Caller):
    """Of `Client`."""

    def client(self, url: str, options: Options | None = None, **more: Any) -> Any:
        made = Client(url, options=self.options(options), sleep=self.clock.sleep, verify=VERIFY, **more)
        return self.enter_context(made)


class AsyncCaller(Caller):
    """Of `AsyncClient`, on an event loop of its own."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.portal: BlockingPortal = self.enter_context(start_blocking_portal())

    def client(self, url: str, options: Options | None = None, **more: Any) -> Any:
        made = AsyncClient(url, options=self.options(options), sleep=self.clock.sleep_async, verify=VERIFY, **more)
        self.enter_context(self.portal.wrap_async_context_manager(made))
        return Blocking(made, self.portal)


class Blocking:
    """Runs the calls of a client on a loop, and returns what they return."""

    def __init__(self, client: AsyncClient, portal: BlockingPortal) -> None:
        self._client, self._portal = client, portal

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        return lambda *args, **options: self._portal.call(partial(method, *args, **options))


CALLERS = [SyncCaller, AsyncCaller]


class Failing(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """Sends nothing and raises, as no server can be made to do in time."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.asked = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        raise self.error

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return self.handle_request(request)
