"""The threads on which doubtful bodies and pictures are read: few, with a short queue, and never past a deadline."""

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from app.errors import DeadlineExceeded, Limit, Overloaded

T = TypeVar("T")

# each may hold one picture of the most pixels while it decodes
NUM_THREADS = 2
# more bodies than these would wait longer than their callers
MAX_PENDING = 64
RETRY_AFTER_S = 1.0


class Decoders:
    """A bounded pool.

    Args:
        clock: Monotonic seconds; deadlines are on it.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._threads = ThreadPoolExecutor(NUM_THREADS, thread_name_prefix="decode")
        self._pending = 0
        self._lock = threading.Lock()

    async def run(self, deadline: float, function: Callable[..., T], *arguments: Any) -> T:
        """Call a function on a thread; what is past its deadline before it is started never is.

        Raises:
            Overloaded: Too much waits already.
            DeadlineExceeded: The deadline passed first.
        """
        with self._lock:
            if self._pending >= MAX_PENDING:
                raise Overloaded(
                    f"{MAX_PENDING} bodies wait to be read already",
                    retry_after_s=RETRY_AFTER_S,
                    limit=Limit("max_pending_bodies", MAX_PENDING),
                )
            future = self._threads.submit(function, *arguments)
            self._pending += 1
        future.add_done_callback(self._done)
        try:
            async with asyncio.timeout(deadline - self._clock()):
                return await asyncio.wrap_future(future)
        except TimeoutError:
            raise DeadlineExceeded("the deadline passed while the body was read") from None
        finally:
            del future  # it holds the error, whose traceback holds this frame and with it the whole body

    def close(self) -> None:
        """Start nothing more."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _done(self, future: "Future[Any]") -> None:
        with self._lock:
            self._pending -= 1
