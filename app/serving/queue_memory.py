"""How much memory the requests that wait may hold, over all models together.

Rows bound each queue, but a row of one model may be a thousand times that of another. What fits the next batch of an
idle runner is not counted: it is bounded by that batch, and nearly every request of a service that is not overloaded
goes that way, at no cost. All others are counted from the queue until they are answered.
"""

from app.errors import Limit, Overloaded
from app.serving.jobs import Job


class QueueMemory:
    """An account that all queues share.

    Args:
        limit_bytes: Most that is held; one request alone is always let in.

    Attributes:
        held_bytes: By requests that are counted.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self.held_bytes = 0

    def hold(self, job: Job, *, retry_after_s: float) -> None:
        """Count a job until it is answered or canceled.

        Raises:
            Overloaded: Too much is held already.
        """
        size = sum(array.nbytes for array in job.tensors.values())
        if self.held_bytes and self.held_bytes + size > self._limit_bytes:
            raise Overloaded(
                f"the requests that wait for models hold {self.held_bytes} of the {self._limit_bytes} bytes that they "
                "may (ZTO_MAX_QUEUE_BYTES)",
                retry_after_s=retry_after_s,
                limit=Limit("max_queue_bytes", self._limit_bytes),
            )
        self.held_bytes += size
        job.when_over(lambda: self._release(size))

    def _release(self, size: int) -> None:
        self.held_bytes -= size
