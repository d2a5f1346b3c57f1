"""Rows that cannot be padded: where a model leaves axes of its inputs open and takes no ``lengths``.

Nobody could tell padding from what is real there, so only rows of the same shape make a batch. The other shapes keep
their places.
"""

import heapq
import itertools
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import TypeAlias

from app.bundle.manifest import TensorSpec
from app.serving.jobs import Job, Slice
from app.serving.queue import JobQueue
from app.tensors import LENGTHS, Tensors

Shape: TypeAlias = Hashable


class ShapedQueue:
    """A queue for each shape of a row; the shape whose first job has waited longest makes the next batch.

    Args:
        shape_of: Tells the shape of the rows of a request.
        max_rows: Most rows of a batch.
        max_elements: As of :class:`JobQueue`.

    Attributes:
        waiting_rows: Rows that wait, of all shapes.
        late: As of :class:`JobQueue`.
    """

    def __init__(self, shape_of: Callable[[Tensors], Shape], *, max_rows: int, max_elements: int | None = None) -> None:
        self._shape_of = shape_of
        self._max_rows = max_rows
        self._max_elements = max_elements
        self._queues: dict[Shape, JobQueue] = {}
        # the ticket of the first job of each queue, so that the next shape is found without a look at all of them
        self._heads: list[tuple[int, Shape]] = []
        self._tickets = itertools.count()
        self.waiting_rows = 0
        self.late: list[Job] = []

    def __len__(self) -> int:
        return sum(map(len, self._queues.values()))

    def __bool__(self) -> bool:
        return bool(self._heads)  # asked at every turn, when there may be thousands of shapes

    def __iter__(self) -> Iterator[Job]:
        return itertools.chain.from_iterable(self._queues.values())

    @property
    def first(self) -> Job:
        """The job that has waited longest."""
        return self._queues[self._heads[0][1]].first

    @property
    def is_full(self) -> bool:
        """Whether enough waits for a batch, if not of one shape."""
        return self.waiting_rows >= self._max_rows or any(queue.is_full for queue in self._queues.values())

    def push(self, job: Job) -> None:
        """Queue a job up behind the others."""
        shape = self._shape_of(job.tensors)
        queue = self._queues.get(shape)
        job.ticket = next(self._tickets)
        if queue is None:
            queue = self._queues[shape] = JobQueue(max_rows=self._max_rows, max_elements=self._max_elements)
            queue.late = self.late  # one list for all
            heapq.heappush(self._heads, (job.ticket, shape))
        queue.push(job)
        self.waiting_rows += job.rows

    def clear(self) -> list[Job]:
        """Take out all jobs at once."""
        jobs = list(self)
        self._queues, self._heads, self.waiting_rows = {}, [], 0
        return jobs

    def drop_answered(self) -> None:
        """Forget the jobs that wait for nobody any more; a look at all that waits."""
        for queue in self._queues.values():
            queue.drop_answered()
        self._queues = {shape: queue for shape, queue in self._queues.items() if queue}
        self._heads = [(queue.first.ticket, shape) for shape, queue in self._queues.items()]
        heapq.heapify(self._heads)
        self.waiting_rows = sum(queue.waiting_rows for queue in self._queues.values())

    def take(self, now: float) -> list[Slice]:
        """Take what makes the next batch, see :meth:`JobQueue.take`."""
        while self._heads:
            ticket, shape = heapq.heappop(self._heads)
            queue = self._queues[shape]
            waiting_rows = queue.waiting_rows
            queue.drop_gone(now)
            # whoever left lends the place to nobody: the next of this shape may have waited less than another shape
            slices = queue.take(now) if queue and queue.first.ticket == ticket else []
            self.waiting_rows += queue.waiting_rows - waiting_rows
            if slices and slices[-1].stop < slices[-1].job.rows:
                slices[-1].job.ticket = next(self._tickets)  # it queued up behind the others, those of other shapes too
            if queue:
                heapq.heappush(self._heads, (queue.first.ticket, shape))
            else:
                del self._queues[shape]
            if slices:
                return slices
        return []


def open_queue(specs: Sequence[TensorSpec], *, max_rows: int, max_elements: int | None) -> JobQueue | ShapedQueue:
    """Return the queue that the inputs of a model want: by shape only where rows of different shapes cannot be joined.

    Args:
        specs: The inputs; beside ``lengths`` the second axis of all others is padded, so it may differ.
        max_rows: Most rows of a batch.
        max_elements: As of :class:`JobQueue`.
    """
    first = 2 if any(spec.name == LENGTHS for spec in specs) else 1
    open_axes = [
        (spec.name, axis)
        for spec in specs
        for axis, length in enumerate(spec.shape)
        if axis >= first and isinstance(length, str)
    ]
    if not open_axes:
        return JobQueue(max_rows=max_rows, max_elements=max_elements)

    def shape_of(tensors: Tensors) -> Shape:
        return tuple(tensors[name].shape[axis] for name, axis in open_axes)

    return ShapedQueue(shape_of, max_rows=max_rows, max_elements=max_elements)
