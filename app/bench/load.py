"""Puts a server under load over keep-alive connections, in a closed or an open loop, on one thread that costs little.

::

    result = run(Target(port=8000), [http_request("/predict/cnn", body)], OpenLoop(rate=500, measured_s=10))

In the open loop a request is due at a time that was drawn beforehand, and its response time runs from then on, whether
or not a connection was free to send it: so a stall of the server is counted with all the requests that it would have
kept waiting, not only with those that happened to be in flight ("coordinated omission", Gil Tene).
"""

import asyncio
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from app.bench.loops import Closed, Open, Target
from app.bench.plans import ClosedLoop, OpenLoop, Plan
from app.bench.tally import Result

__all__ = ["ClosedLoop", "Meter", "OpenLoop", "Plan", "Result", "Target", "drive", "http_request", "run"]

Meter = Callable[[], float]


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
    load = Closed(target, requests, plan) if isinstance(plan, ClosedLoop) else Open(target, requests, plan)
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
