"""The work-conserving batcher: one owner of one model's queue.

An idle runner starts at once with whatever is there, so a lone request never waits for company; while a batch runs, the
next one gathers (:mod:`app.serving.queue`). A request of more rows than a batch may hold is run in several batches,
taking turns with the others, and joined again. A failed batch is narrowed down to the rows that it fails on
(:mod:`app.serving.isolation`), so that one bad item fails alone.

A request is a :class:`Job`, whose callback is called in the very step of the event loop in which its batch was settled:
``enqueue`` is for whoever writes the answer then and there, ``submit`` for whoever awaits it.

All methods are called on the event loop's thread. The backend is called there too (``executor=None``: for models whose
batch takes a few milliseconds, a hop to a thread costs more than it gives), or on the one thread of ``executor``.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor

from app.bundle.manifest import TensorSpec
from app.counts import Statistics
from app.errors import BackendFailed, DeadlineExceeded, ModelNotReady, Overloaded, ServingError
from app.serving.costs import CostModel
from app.serving.deadlines import Deadlines
from app.serving.forecast import Forecast, Room
from app.serving.handing import hand_out
from app.serving.isolation import BatchResult, run_isolated
from app.serving.jobs import Answer, Batch, FutureJob, Job, Slice, join
from app.serving.queue_memory import QueueMemory
from app.serving.window_queue import open_queue
from app.tensors import Tensors, num_rows
from app.tracing.context import Trace

__all__ = ["Answer", "Batch", "Batcher", "Job"]

logger = logging.getLogger("app.batcher")

# no client is called so: an address has no blanks, and a header's value is no address
_CANARY = "the canary"


class Batcher:
    """Queue and runner of one model version.

    Args:
        run: Calls the backend; may raise anything.
        is_well: Tells whether the golden rows still come out right; asked when a batch failed, where ``run`` is called.
        max_rows: Most rows in one call of the backend.
        max_queue_rows: Most rows that wait; a request beyond them is refused at once.
        max_elements: Most rows times padded length in one call, where rows have ``lengths``; None for no bound.
        inputs: Of the model, which tell what rows may share a batch; without them, all may.
        length_buckets: Whether rows of lengths far apart run in batches of their own.
        costs: What a batch is expected to take; learned from live batches alone where nothing is known.
        max_wait_s: Seconds that an idle runner waits for a batch to fill; 0 starts at once.
        executor: Where batches run; None for the event loop's own thread.
        on_batch: Told the rows of every batch, and what became of it.
        on_traced: Told the requests of every batch, what became of it, and when its first row was taken; returns the
            batch's own place in a trace. None where nobody traces.
        on_sick: Told, once, that the golden rows fail; the batcher has closed by then.
        memory: What the requests that wait may hold, shared with others; None for no bound.
        statistics: Where requests and batches are counted.
        clock: Monotonic seconds.

    Attributes:
        executor: Where the next batch runs.
        tap: Handed the slices of every batch that ran well and what came out, once all of them are answered, for who
            looks on (:mod:`app.serving.shadow`); it must be quick, and never raises. None where nobody does.
    """

    def __init__(
        self,
        run: Callable[[Tensors], Tensors],
        *,
        is_well: Callable[[], bool],
        max_rows: int,
        max_queue_rows: int,
        max_elements: int | None = None,
        inputs: Sequence[TensorSpec] = (),
        length_buckets: bool = True,
        costs: CostModel | None = None,
        max_wait_s: float = 0.0,
        executor: Executor | None = None,
        on_batch: Callable[[int, BatchResult], None] = lambda rows, result: None,
        on_traced: Callable[[list[Slice], BatchResult, float], Trace | None] | None = None,
        on_sick: Callable[[str], None] = lambda reason: None,
        memory: QueueMemory | None = None,
        statistics: Statistics | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._run = run
        self._is_well = is_well
        self._max_wait_s = max_wait_s
        self.executor = executor
        self._on_batch = on_batch
        self._on_traced = on_traced
        self._on_sick = on_sick
        self._memory = memory
        self._statistics = statistics or Statistics()
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._queue = open_queue(
            inputs, max_rows=max_rows, max_elements=max_elements, length_buckets=length_buckets
        )  # fmt: skip
        self.costs = costs or CostModel(0.0, 0.0, full_units=max_rows)
        self._forecast = Forecast(self.costs)
        self._room = Room(self._queue, self._forecast, max_queue_rows=max_queue_rows)
        self._running: list[Slice] = []
        self._is_turning = False  # a turn is scheduled, or a batch runs
        self._fill_timer: asyncio.TimerHandle | None = None
        self._deadlines = Deadlines(self._loop, clock)
        self._taken_at = 0.0  # the rows that run
        self._canary: Job | None = None  # not counted among the requests
        self._refuses_because: str | None = None
        self._is_closed = False
        self.tap: Callable[[list[Slice], BatchResult], None] | None = None

    @property
    def waiting_rows(self) -> int:
        """Rows that wait in the queue, those of callers who left meanwhile included."""
        return self._queue.waiting_rows

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits and nothing runs."""
        return not self._queue and not self._running

    def predicted_wait_s(self) -> float:
        """Seconds until all that waits now is done."""
        return self._room.backlog_s(is_running=bool(self._running), now=self._clock())

    def expect_room(self, rows: int, *, deadline: float = float("inf"), client: str = "") -> None:
        """Look whether a request would be let in, before anything is spent on it.

        Raises:
            Overloaded: The queue is full, or no answer is to be expected within the deadline.
            ModelNotReady: The batcher is closed.
        """
        now = self._clock()
        if self._refuses_because is not None:
            raise ModelNotReady(self._refuses_because)
        if not self._is_easy(rows, deadline - now):
            self._expect(rows, None, deadline, client, now)

    def enqueue(self, job: Job) -> None:
        """Queue a request. Its callback is always called, unless it is canceled, and never before this returns.

        Raises:
            Overloaded: The queue is full, or no answer is to be expected within the deadline.
            ModelNotReady: The batcher is closed.
        """
        if self._refuses_because is not None:
            raise ModelNotReady(self._refuses_because)
        job.enqueued_at = now = self._clock()
        if (  # as _is_easy()
            self._queue.waiting_rows + job.rows <= self._queue.sure_rows
            and job.deadline - now > self._forecast.easy_s
            and not self._running
        ):
            self._queue.push(job)
        else:
            self._push_under_load(job, now)
        if job.deadline < self._deadlines.next:
            self._deadlines.watch(job.deadline, self._expire)
        if not self._is_turning:
            self._schedule()

    def _is_easy(self, rows: int, left_s: float) -> bool:
        """Tell whether a request fits the next batch, and has so much time that nothing need be worked out."""
        return (
            self._queue.waiting_rows + rows <= self._queue.sure_rows
            and left_s > self._forecast.easy_s
            and not self._running  # nobody knows for sure how long a batch on a thread will take
        )

    def _push_under_load(self, job: Job, now: float) -> None:
        self._expect(job.rows, job.tensors, job.deadline, job.client, now)
        if self._memory is not None:
            self._hold(self._memory, job)
        put_out = self._room.make(job)
        self._queue.push(job)
        for other in put_out:
            told = Overloaded(
                "the queue is full, and this client's requests hold more than their share of it",
                retry_after_s=self.predicted_wait_s(),
                limit=self._room.limit,
            )
            self._refuse(other, told, now)

    def _hold(self, memory: QueueMemory, job: Job) -> None:
        try:
            memory.hold(job, retry_after_s=self.predicted_wait_s())
        except Overloaded:
            self._statistics.fail(0.0)
            raise

    def _expect(self, rows: int, tensors: Tensors | None, deadline: float, client: str, now: float) -> None:
        try:
            self._room.expect(
                rows, tensors, deadline=deadline, client=client, is_running=bool(self._running), now=now
            )  # fmt: skip
        except Overloaded:
            self._statistics.fail(0.0)
            raise

    def _refuse(self, job: Job, error: ServingError, now: float) -> None:
        """Answer a request with an error."""
        if job.finish(error) and job is not self._canary:
            self._statistics.fail(now - job.enqueued_at)

    def submit(
        self, tensors: Tensors, *, deadline: float, client: str = "", trace: Trace | None = None
    ) -> "asyncio.Future[Answer]":
        """Queue a request for whoever awaits the answer.

        Args:
            tensors: The inputs; at least one row.
            deadline: On ``clock``; past it the caller gets :class:`DeadlineExceeded`.
            client: Whose request it is, for fairness between clients.
            trace: Where it stands in a trace.

        Returns:
            A future that is always answered: with an :class:`Answer`, or with a :class:`ServingError`. Whoever cancels
            it is dropped from the queue.

        Raises:
            Overloaded: The queue is full, or no answer is to be expected within the deadline.
            ModelNotReady: The batcher is closed.
        """
        future: asyncio.Future[Answer] = self._loop.create_future()
        job = FutureJob(tensors, num_rows(tensors), deadline=deadline, future=future, client=client, trace=trace)
        self.enqueue(job)
        return future

    def ask_canary(self, tensors: Tensors) -> "asyncio.Future[Answer]":
        """Queue a request of the service's own, as :meth:`submit` does; one at a time.

        It takes its turn as a client of its own, has all the time in the world, puts nobody out, and is in none of the
        statistics.

        Raises:
            Overloaded: The queue is full.
            ModelNotReady: The batcher is closed.
        """
        if self._room.is_full:
            raise Overloaded("the queue is full", retry_after_s=self.predicted_wait_s())
        future: asyncio.Future[Answer] = self._loop.create_future()
        canary = FutureJob(tensors, num_rows(tensors), deadline=float("inf"), future=future, client=_CANARY)
        self._canary = canary
        self.enqueue(canary)
        return future

    def drain(self, reason: str) -> None:
        """Refuse what comes from now on with :class:`ModelNotReady`; what waits is still answered."""
        if self._refuses_because is None:
            self._refuses_because = reason

    def close(self, reason: str) -> None:
        """Refuse what comes from now on, and answer what waits with :class:`ModelNotReady`. What runs is finished."""
        if self._is_closed:
            return
        self._is_closed, self._refuses_because = True, reason
        if self._fill_timer is not None:
            self._fill_timer.cancel()
        if not self._running:
            self._deadlines.cancel()
        now = self._clock()
        for job in self._queue.clear():
            self._refuse(job, ModelNotReady(reason), now)

    def abandon(self, reason: str) -> None:
        """Close, and answer what runs with :class:`ModelNotReady` too: nobody will wait for the backend any more."""
        self.close(reason)
        now = self._clock()
        for part in self._running:
            self._refuse(part.job, ModelNotReady(reason), now)

    def compute(self, inputs: Tensors) -> BatchResult:
        """Call the backend with rows that nobody waits for: neither queued nor counted.

        On a thread on which no batch can run meanwhile. May raise what a defect of ours raises.
        """
        return run_isolated(self._run, inputs, is_well=self._is_well, clock=self._clock)

    def turn_sick(self, reason: str) -> None:
        """Close, answer whoever waits with :class:`ModelNotReady`, and tell that the model is out."""
        if not self._is_closed:
            self.abandon(reason)
            self._on_sick(reason)

    def _schedule(self) -> None:
        """Start a turn now, or when the head of the queue has waited long enough for company."""
        if self._max_wait_s > 0 and not self._queue.is_full:
            if self._fill_timer is None:
                waited_s = self._clock() - self._queue.first.enqueued_at
                self._fill_timer = self._loop.call_later(max(0.0, self._max_wait_s - waited_s), self._turn)
            return
        if self._fill_timer is not None:  # uvloop may fire it before the turn, and two batches would run at once
            self._fill_timer.cancel()
            self._fill_timer = None
        self._is_turning = True
        self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        """Run one batch of what waits, if anything does."""
        if self._fill_timer is not None:
            self._fill_timer.cancel()
            self._fill_timer = None
        self._is_turning = True  # whoever is queued by a callback waits for the next turn
        self._taken_at = now = self._clock()
        self._running = self._queue.take(now)
        if self._queue.late:
            late = self._queue.late.copy()
            self._queue.late.clear()
            for job in late:
                self._refuse(job, DeadlineExceeded("the deadline passed while the request waited"), now)
        if not self._running:
            self._go_on()
            return
        if self.executor is None:
            self._settle(self._execute())
            return
        self._forecast.begin(self._queue.taken_units, now)
        try:
            self._loop.run_in_executor(self.executor, self._execute).add_done_callback(self._settle_from_thread)
        except RuntimeError as exc:  # no thread can be started
            self._settle(exc)

    def _execute(self) -> BatchResult | Exception:
        """Call the backend with the rows of the running slices, on whichever thread; never raises."""
        try:
            return run_isolated(self._run, join(self._running), is_well=self._is_well, clock=self._clock)
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
                self._refuse(part.job, BackendFailed(f"{type(exc).__name__}: {exc}"), self._clock())
        self._go_on()

    def _go_on(self) -> None:
        self._is_turning = False
        if self._queue:
            self._schedule()

    def _answer(self, slices: list[Slice], result: BatchResult) -> None:
        batch_rows = sum(stop - start for _, start, stop in slices)
        is_clean = not result.rejected_rows and result.sick_because is None and not result.is_split
        now = self._clock()
        self._forecast.end(
            result.elements or batch_rows,
            result.compute_s if is_clean else None,  # what a bisected batch took, none like it will
            now,
            more=bool(self._queue),
        )
        is_counted = self._canary is None or any(part.job is not self._canary for part in slices)
        if is_counted:
            self._on_batch(batch_rows, result)
        trace = None if self._on_traced is None else self._on_traced(slices, result, self._taken_at)
        if result.sick_because is not None:
            self.close(result.sick_because)
            for part in slices:
                self._refuse(part.job, ModelNotReady(result.sick_because), now)
            self._on_sick(result.sick_because)
        else:
            batch = Batch(
                result.outputs, batch_rows, result.compute_s, result.started_at - self._taken_at,
                now - result.started_at - result.compute_s,
            )  # fmt: skip
            batch.trace = trace
            if is_counted:
                self._statistics.batch(batch_rows, batch.input_s, batch.compute_s, batch.output_s)
            hand_out(slices, result, batch, now, self._statistics, self._canary, self._refuse)
            if self.tap is not None and is_counted:
                self.tap(slices, result)
        if self._canary is not None and self._canary.is_done:
            self._canary = None

    def _expire(self) -> None:
        """Answer those whose deadline has passed, in the queue or in a batch that hangs."""
        waiting = [job for job in self._queue if not job.is_done]
        running = [part.job for part in self._running if not part.job.is_done]
        self._deadlines.expire(waiting, running, self._refuse, self._expire)
