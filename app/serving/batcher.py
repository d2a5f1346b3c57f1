"""The work-conserving batcher: one owner of one model's queue.

An idle runner starts at once with whatever is there, so a lone request never waits for company; while a batch runs, the
next one gathers. A request of more rows than a batch may hold is run in several batches, taking turns with the others,
and joined again. A failed batch is narrowed down to the rows that it fails on (:mod:`app.serving.isolation`), so that
one bad item fails alone.

All methods are called on the event loop's thread. The backend is called there too (``executor=None``: for models whose
batch takes a few milliseconds, a hop to a thread costs more than it gives), or on the one thread of ``executor``.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field

from app.errors import (
    BackendFailed,
    DeadlineExceeded,
    ModelNotReady,
    ModelRejectedInput,
    Overloaded,
    ServingError,
)
from app.serving.isolation import BatchResult, run_isolated
from app.tensors import Tensors, concat, num_rows, take

logger = logging.getLogger("app.batcher")

# weight of the newest batch in the running mean of seconds per row
_EWMA_WEIGHT = 0.1
SWEEP_EVERY_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the backend made of one request.

    Attributes:
        outputs: One row per row of the request.
        queue_s: Seconds until its first row was taken.
        compute_s: Seconds that the batches took in which its rows ran.
        batch_rows: Rows of the last of these batches, its own and those of others.
    """

    outputs: Tensors
    queue_s: float
    compute_s: float
    batch_rows: int


@dataclass(slots=True, kw_only=True, eq=False)
class Job:
    """A request in the queue, or partly run."""

    tensors: Tensors
    rows: int
    deadline: float
    future: "asyncio.Future[Answer]"
    enqueued_at: float
    queue_s: float = 0.0
    compute_s: float = 0.0
    taken_rows: int = 0
    parts: list[Tensors] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class _Slice:
    """Rows ``start`` to ``stop`` of a job, in the batch that is about to run."""

    job: Job
    start: int
    stop: int


class Batcher:
    """Queue and runner of one model version.

    Args:
        run: Calls the backend; may raise anything.
        is_well: Tells whether the golden rows still come out right; asked when a batch failed, where ``run`` is called.
        max_rows: Most rows in one call of the backend.
        max_queue_rows: Most rows that wait; a request beyond them is refused at once.
        max_wait_s: Seconds that an idle runner waits for a batch to fill; 0 starts at once.
        executor: Where batches run; None for the event loop's own thread.
        on_batch: Told the rows of every batch, and what became of it.
        on_sick: Told, once, that the golden rows fail; the batcher has closed by then.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        run: Callable[[Tensors], Tensors],
        *,
        is_well: Callable[[], bool],
        max_rows: int,
        max_queue_rows: int,
        max_wait_s: float = 0.0,
        executor: Executor | None = None,
        on_batch: Callable[[int, BatchResult], None] = lambda rows, result: None,
        on_sick: Callable[[str], None] = lambda reason: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._run = run
        self._is_well = is_well
        self._max_rows = max_rows
        self._max_queue_rows = max_queue_rows
        self._max_wait_s = max_wait_s
        self._executor = executor
        self._on_batch = on_batch
        self._on_sick = on_sick
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._queue: deque[Job] = deque()
        self._waiting_rows = 0
        self._running: list[_Slice] = []
        self._is_turning = False  # a turn is scheduled, or a batch runs
        self._fill_timer: asyncio.TimerHandle | None = None
        self._deadline_timer: asyncio.TimerHandle | None = None
        self._next_deadline = float("inf")
        self._seconds_per_row = 0.0
        self._swept_at = float("-inf")
        self._closed_because: str | None = None

    @property
    def waiting_rows(self) -> int:
        """Rows that wait in the queue, those of callers who left meanwhile included."""
        return self._waiting_rows

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits and nothing runs."""
        return not self._queue and not self._running

    def predicted_wait_s(self) -> float:
        """Seconds that the rows waiting now will take, by the mean of the last batches."""
        return (self._waiting_rows + sum(part.stop - part.start for part in self._running)) * self._seconds_per_row

    def expect_room(self, rows: int) -> None:
        """Raise :class:`Overloaded` where so many rows more do not fit the queue."""
        if self._waiting_rows + rows <= self._max_queue_rows:
            return
        now = self._clock()
        if now - self._swept_at >= SWEEP_EVERY_S:  # a look at the whole queue, which a refusal must not cost each time
            self._swept_at = now
            self._drop_answered()
            if self._waiting_rows + rows <= self._max_queue_rows:
                return
        raise Overloaded(
            f"{self._waiting_rows} rows wait already, at most {self._max_queue_rows} may",
            retry_after_s=self.predicted_wait_s(),
        )

    def submit(self, tensors: Tensors, *, deadline: float) -> "asyncio.Future[Answer]":
        """Queue a request.

        Args:
            tensors: The inputs; at least one row.
            deadline: On ``clock``; past it the caller gets :class:`DeadlineExceeded`.

        Returns:
            A future that is always answered: with an :class:`Answer`, or with a :class:`ServingError`. Whoever cancels
            it is dropped from the queue.

        Raises:
            Overloaded: The queue is full.
            ModelNotReady: The batcher is closed.
        """
        if self._closed_because is not None:
            raise ModelNotReady(self._closed_because)
        rows = num_rows(tensors)
        self.expect_room(rows)
        job = Job(
            tensors=tensors,
            rows=rows,
            deadline=deadline,
            future=self._loop.create_future(),
            enqueued_at=self._clock(),
        )
        self._queue.append(job)
        self._waiting_rows += rows
        if deadline < self._next_deadline:
            self._watch_deadline(deadline)
        if not self._is_turning:
            self._schedule()
        return job.future

    def close(self, reason: str) -> None:
        """Refuse what comes from now on, and answer what waits with :class:`ModelNotReady`. What runs is finished."""
        if self._closed_because is not None:
            return
        self._closed_because = reason
        for timer in (self._fill_timer, self._deadline_timer if not self._running else None):
            if timer is not None:
                timer.cancel()
        while self._queue:
            _fail(self._queue.popleft(), ModelNotReady(reason))
        self._waiting_rows = 0

    def abandon(self, reason: str) -> None:
        """Close, and answer what runs with :class:`ModelNotReady` too: nobody will wait for the backend any more."""
        self.close(reason)
        for part in self._running:
            _fail(part.job, ModelNotReady(reason))

    def _schedule(self) -> None:
        """Start a turn now, or when the head of the queue has waited long enough for company."""
        if self._max_wait_s > 0 and self._waiting_rows < self._max_rows:
            if self._fill_timer is None:
                self._fill_timer = self._loop.call_later(self._max_wait_s, self._turn)
            return
        self._is_turning = True
        self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        """Run one batch of what waits, if anything does."""
        if self._fill_timer is not None:
            self._fill_timer.cancel()
            self._fill_timer = None
        slices = self._gather()
        self._is_turning = bool(slices)
        if not slices:
            return
        self._running = slices
        if self._executor is None:
            self._settle(self._execute())
            return
        try:
            self._loop.run_in_executor(self._executor, self._execute).add_done_callback(self._settle_from_thread)
        except RuntimeError as exc:  # no thread can be started
            self._settle(exc)

    def _gather(self) -> list[_Slice]:
        """Take what waits, up to ``max_rows``; drop whoever was answered, left, or is past the deadline."""
        now = self._clock()
        slices: list[_Slice] = []
        room = self._max_rows
        queue = self._queue
        while queue and room:
            job = queue[0]
            left = job.rows - job.taken_rows
            if job.future.done() or job.deadline <= now:
                _fail(job, DeadlineExceeded("the deadline passed while the request waited"))
            elif left <= room:
                slices.append(_Slice(job=job, start=job.taken_rows, stop=job.rows))
            elif job.rows <= self._max_rows:
                break  # it fits into a batch of its own: not torn in two
            else:
                slices.append(_Slice(job=job, start=job.taken_rows, stop=job.taken_rows + room))
                queue.append(job)  # its next rows queue up behind the others, so that it does not keep them waiting
            queue.popleft()
            if job.future.done():
                self._waiting_rows -= left
                continue
            if job.taken_rows == 0:
                job.queue_s = now - job.enqueued_at
            taken = slices[-1].stop - slices[-1].start
            job.taken_rows += taken
            self._waiting_rows -= taken
            room -= taken
        return slices

    def _execute(self) -> BatchResult | Exception:
        """Call the backend with the rows of the running slices, on whichever thread; never raises."""
        try:
            inputs = concat([_rows_of(part) for part in self._running])
            return run_isolated(self._run, inputs, is_well=self._is_well, clock=self._clock)
        except BaseException as exc:
            return BackendFailed(f"{type(exc).__name__}: {exc}")

    def _settle_from_thread(self, done: "asyncio.Future[BatchResult | Exception]") -> None:
        self._settle(BackendFailed("the thread was stopped") if done.cancelled() else done.result())

    def _settle(self, result: BatchResult | Exception) -> None:
        """Answer every caller of the batch that ran, and go on with what gathered meanwhile."""
        slices, self._running = self._running, []
        try:
            if isinstance(result, Exception):
                raise result
            self._answer(slices, result)
        except Exception as exc:  # ours, not the model's: whoever waits is answered all the same
            logger.exception("a batch could not be answered")
            for part in slices:
                _fail(part.job, BackendFailed(f"{type(exc).__name__}: {exc}"))
        self._is_turning = False
        if self._queue:
            self._schedule()

    def _answer(self, slices: list[_Slice], result: BatchResult) -> None:
        batch_rows = sum(part.stop - part.start for part in slices)
        if not result.rejected_rows:  # a bisected batch says nothing of what a row costs
            weight = _EWMA_WEIGHT if self._seconds_per_row else 1.0
            self._seconds_per_row += weight * (result.compute_s / batch_rows - self._seconds_per_row)
        self._on_batch(batch_rows, result)
        if result.sick_because is not None:
            self.close(result.sick_because)
            for part in slices:
                _fail(part.job, ModelNotReady(result.sick_because))
            self._on_sick(result.sick_because)
            return
        offset = 0
        for part in slices:
            rows = part.stop - part.start
            rejected = tuple(row - offset + part.start for row in result.rejected_rows if offset <= row < offset + rows)
            if rejected:
                _fail(part.job, ModelRejectedInput(f"the model fails on it: {result.rejected_because}", rows=rejected))
            elif not part.job.future.done():
                self._deliver(part, take(result.outputs, offset, offset + rows), result.compute_s, batch_rows)
            offset += rows

    def _deliver(self, part: _Slice, outputs: Tensors, compute_s: float, batch_rows: int) -> None:
        job = part.job
        job.parts.append(outputs)
        job.compute_s += compute_s
        if part.stop < job.rows:
            return
        job.future.set_result(
            Answer(outputs=concat(job.parts), queue_s=job.queue_s, compute_s=job.compute_s, batch_rows=batch_rows)
        )

    def _drop_answered(self) -> None:
        """Forget the jobs that wait for nobody any more."""
        kept = [job for job in self._queue if not job.future.done()]
        self._queue = deque(kept)
        self._waiting_rows = sum(job.rows - job.taken_rows for job in kept)

    def _watch_deadline(self, deadline: float) -> None:
        if self._deadline_timer is not None:
            self._deadline_timer.cancel()
        self._next_deadline = deadline
        self._deadline_timer = self._loop.call_later(max(0.0, deadline - self._clock()), self._expire)

    def _expire(self) -> None:
        """Answer those whose deadline has passed, in the queue or in a batch that hangs; watch the next deadline.

        One timer serves all: it is set to the earliest deadline, and looks around when it fires.
        """
        self._deadline_timer, self._next_deadline = None, float("inf")
        now = self._clock()
        waiting = [job for job in self._queue if not job.future.done()]
        running = [part.job for part in self._running if not part.job.future.done()]
        for jobs, message in (
            (waiting, "the deadline passed while the request waited"),
            (running, "the deadline passed while the model ran"),
        ):
            for job in jobs:
                if job.deadline <= now:
                    _fail(job, DeadlineExceeded(message))
        upcoming = [job.deadline for job in (*waiting, *running) if not job.future.done()]
        if upcoming:
            self._watch_deadline(min(upcoming))


def _rows_of(part: _Slice) -> Tensors:
    if part.start == 0 and part.stop == part.job.rows:
        return part.job.tensors
    return take(part.job.tensors, part.start, part.stop)


def _fail(job: Job, error: ServingError) -> None:
    if not job.future.done():
        job.future.set_exception(error)
