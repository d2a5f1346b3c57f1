"""Work that may hang, on a thread that cannot keep the process from ending."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")


def on_daemon_thread(work: Callable[[], T]) -> "asyncio.Future[T]":
    """Call a function on a thread of its own, and return what will be what it returns.

    An executor's threads are waited for when the process ends; this one is not. Whoever gives it up answers the future.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def deliver(result: T | None, error: Exception | None) -> None:
        if future.done():  # whoever waited has left
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]  # None only where T is

    def run() -> None:
        result: T | None = None
        error: Exception | None = None
        try:
            result = work()
        except BaseException as exc:
            error = exc if isinstance(exc, Exception) else RuntimeError(f"{type(exc).__name__}: {exc}")
        with suppress(RuntimeError):  # the loop has closed
            loop.call_soon_threadsafe(deliver, result, error)

    threading.Thread(target=run, name="load", daemon=True).start()
    return future
