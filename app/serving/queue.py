"""What waits for one model, and what of it makes the next batch, where any rows may share one.

A batch is the head of the queue and what follows as long as it fits, so nobody is passed over: what does not fit heads
the next one. Where rows have ``lengths``, or differ in shape otherwise, :mod:`app.serving.window_queue` finds the rows
that suit each other.

What a turn costs depends on what it takes, never on what waits.
"""

from app.serving.jobs import Slice
from app.serving.order import FairOrder


class JobQueue(FairOrder):
    """Jobs any of which may share a batch, in their order.

    Args:
        max_rows: Most rows of a batch.
    """

    __slots__ = ("_max_rows",)

    def __init__(self, *, max_rows: int) -> None:
        super().__init__(max_rows)
        self._max_rows = max_rows

    @property
    def is_full(self) -> bool:
        """Whether more company would not fit the next batch."""
        return self.waiting_rows >= self._max_rows

    def take(self, now: float) -> list[Slice]:
        """Take what makes the next batch; drop whoever was answered, left, or is past the deadline.

        A job that fits into a batch of its own is not torn in two. One that does not is taken in parts, and queues up
        behind the others after each, so that it does not keep them waiting.
        """
        slices: list[Slice] = []
        room, line = self._max_rows, self._line
        while room and (line or self._heap):
            job = line[0] if line else self._heap[0][2].jobs[0]
            if job.is_done or job.deadline <= now:
                self._drop_first()
                continue
            start = job.taken_rows
            taken = job.rows - start
            if taken > room:
                if job.rows <= self._max_rows:
                    break
                taken = room
            if start == 0:
                job.queue_s = now - job.enqueued_at
            if line and start + taken == job.rows:  # as almost always: what _advance() does, without the call
                line.popleft()
                self._line_rows -= taken
                job.taken_rows = job.rows
            else:
                self._advance(taken)
            slices.append(Slice(job, start, start + taken))
            room -= taken
        self.taken_units = taken_rows = self._max_rows - room
        self.waiting_rows -= taken_rows
        return slices
