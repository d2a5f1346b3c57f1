"""What waits for one model, and what of it makes the next batch.

A batch is the head of the queue and what follows as long as it fits, so nobody is passed over: what does not fit heads
the next one. Where rows have ``lengths``, a batch is padded to its longest row; where they differ in shape otherwise,
:mod:`app.serving.shaped_queue` keeps them apart.

What a turn costs depends on what it takes, never on what waits.
"""

from collections import deque
from collections.abc import Iterator, Sequence

from app.serving.jobs import Job, Slice
from app.tensors import LENGTHS, Tensors, concat, concat_padded, num_fitting, take, trim


class JobQueue:
    """Jobs in the order in which they came, any of which may share a batch.

    Args:
        max_rows: Most rows of a batch.
        max_elements: Most rows times padded length of a batch, for inputs with ``lengths``; None for no bound. A single
            row longer than that is a batch by itself.

    Attributes:
        waiting_rows: Rows that wait, those of callers who left meanwhile included.
        late: Jobs whose deadline had passed when their turn came. Whoever takes a batch answers them, and clears the
            list, when the queue is in order: the callback of a job may queue the next.
    """

    __slots__ = ("_jobs", "_max_elements", "_max_rows", "late", "waiting_rows")

    def __init__(self, *, max_rows: int, max_elements: int | None = None) -> None:
        self._max_rows = max_rows
        self._max_elements = max_elements
        self._jobs: deque[Job] = deque()
        self.waiting_rows = 0
        self.late: list[Job] = []

    def __len__(self) -> int:
        return len(self._jobs)

    def __iter__(self) -> Iterator[Job]:
        return iter(self._jobs)

    @property
    def first(self) -> Job:
        """The job that has waited longest."""
        return self._jobs[0]

    @property
    def is_full(self) -> bool:
        """Whether more company would not fit the next batch."""
        if self.waiting_rows >= self._max_rows:
            return True
        return self._max_elements is not None and sum(job.rows * job.longest for job in self) >= self._max_elements

    def push(self, job: Job) -> None:
        """Queue a job up behind the others."""
        if self._max_elements is not None:
            job.longest = _longest(job)
        self._jobs.append(job)
        self.waiting_rows += job.rows

    def clear(self) -> list[Job]:
        """Take out all jobs at once."""
        jobs = list(self._jobs)
        self._jobs.clear()
        self.waiting_rows = 0
        return jobs

    def drop_answered(self) -> None:
        """Forget the jobs that wait for nobody any more; a look at all that waits."""
        self._jobs = deque(job for job in self._jobs if not job.is_done)
        self.waiting_rows = sum(job.rows - job.taken_rows for job in self._jobs)

    def drop_gone(self, now: float) -> None:
        """Drop whoever was answered, left, or is past the deadline, up to the first job that is to be run."""
        while self._jobs and (self._jobs[0].is_done or self._jobs[0].deadline <= now):
            self._drop_first()

    def take(self, now: float) -> list[Slice]:
        """Take what makes the next batch; drop whoever was answered, left, or is past the deadline.

        A job that fits into a batch of its own is not torn in two. One that does not is taken in parts, and queues up
        behind the others after each, so that it does not keep them waiting.
        """
        slices: list[Slice] = []
        jobs, max_elements = self._jobs, self._max_elements
        room = self._max_rows
        longest = 0
        while jobs and room:
            job = jobs[0]
            if job.is_done or job.deadline <= now:
                self._drop_first()
                continue
            left = job.rows - job.taken_rows
            taken = left if left <= room else room
            if max_elements is not None:
                taken = self._num_fitting(job, taken, self._max_rows - room, longest)
                longest = max(longest, job.longest)
            if taken < left and (not taken or self._fits_alone(job)):
                break
            jobs.popleft()
            start = job.taken_rows
            if start == 0:
                job.queue_s = now - job.enqueued_at
            job.taken_rows = start + taken
            slices.append(Slice(job, start, start + taken))
            self.waiting_rows -= taken
            if taken < left:
                if max_elements is not None:
                    job.longest = _longest(job)
                jobs.append(job)
                break
            room -= taken
        return slices

    def _drop_first(self) -> None:
        job = self._jobs.popleft()
        if not job.is_done:
            self.late.append(job)
        self.waiting_rows -= job.rows - job.taken_rows

    def _num_fitting(self, job: Job, at_most: int, rows: int, longest: int) -> int:
        """Count the next rows of a job that fit beside the rows that were taken; one always fits an empty batch."""
        assert self._max_elements is not None
        if (rows + at_most) * max(longest, job.longest) <= self._max_elements:
            return at_most
        lengths_B = job.tensors[LENGTHS][job.taken_rows : job.taken_rows + at_most]
        return num_fitting(lengths_B, self._max_elements, rows=rows, longest=longest) or int(not rows)

    def _fits_alone(self, job: Job) -> bool:
        return job.rows <= self._max_rows and (
            self._max_elements is None or job.rows * job.longest <= self._max_elements
        )


def join(slices: Sequence[Slice]) -> Tensors:
    """Return the rows of a batch, padded to the longest of them where they have ``lengths``."""
    if LENGTHS not in slices[0].job.tensors:
        return concat([_rows_of(part) for part in slices])
    return concat_padded([trim(_rows_of(part)) for part in slices])


def _longest(job: Job) -> int:
    lengths_B = job.tensors[LENGTHS]
    return int(lengths_B[0]) if job.rows == 1 else int(lengths_B[job.taken_rows :].max())


def _rows_of(part: Slice) -> Tensors:
    if part.start == 0 and part.stop == part.job.rows:
        return part.job.tensors
    return take(part.job.tensors, part.start, part.stop)
