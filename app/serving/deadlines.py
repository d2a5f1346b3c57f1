"""One timer for the deadlines of all who wait: it is set to the earliest, and whoever it wakes looks around."""

import asyncio
from collections.abc import Callable, Sequence

from app.errors import DeadlineExceeded, ServingError
from app.serving.jobs import Job


class Deadlines:
    """Those of one batcher. It holds nothing of the batcher, which is to be freed as soon as it is let go.

    Args:
        loop: On which the timer fires.
        clock: Monotonic seconds, that of the deadlines.

    Attributes:
        next: The earliest that is watched; infinite where none is.
    """

    __slots__ = ("_clock", "_loop", "_timer", "next")

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Callable[[], float]) -> None:
        self._loop = loop
        self._clock = clock
        self._timer: asyncio.TimerHandle | None = None
        self.next = float("inf")

    def watch(self, deadline: float, call: Callable[[], None]) -> None:
        """Call something at a deadline that is earlier than the others."""
        self.cancel()
        self.next = deadline
        self._timer = self._loop.call_later(max(0.0, deadline - self._clock()), call)

    def cancel(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()

    def expire(
        self,
        waiting: Sequence[Job],
        running: Sequence[Job],
        refuse: Callable[[Job, ServingError, float], None],
        call: Callable[[], None],
    ) -> None:
        """Answer those whose deadline has passed, and watch the next.

        Args:
            waiting: The jobs in the queue.
            running: Those in a batch.
            refuse: Answers a job with an error.
            call: As of :meth:`watch`.
        """
        self._timer, self.next = None, float("inf")
        now = self._clock()
        for jobs, message in (
            (waiting, "the deadline passed while the request waited"),
            (running, "the deadline passed while the model ran"),
        ):
            for job in jobs:
                if job.deadline <= now:
                    refuse(job, DeadlineExceeded(message), now)
        upcoming = min((job.deadline for job in (*waiting, *running) if not job.is_done), default=float("inf"))
        if upcoming < self.next:  # which a job may have set that a callback queued
            self.watch(upcoming, call)
