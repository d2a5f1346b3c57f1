"""A request on its way through the batcher, and what it is answered with.

What happens once for every request is written out here without helpers: a microsecond is a hundredth of what a request
may cost. What costs more than slicing (an argmax, Python numbers out of arrays) belongs to the :class:`Batch`.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from app.errors import ServingError
from app.tensors import LENGTHS, Array, Tensors, concat, concat_padded, take, trim
from app.tracing.context import Trace

logger = logging.getLogger("app.batcher")


class Batch:
    """What one call of the backend gave, shared by all whose rows were in it.

    Attributes:
        outputs: Of all rows, those of others included; nobody writes to them.
        rows: How many rows ran together. Where a request of several parts was joined, of the last of its batches;
            ``outputs`` then holds the rows of that request alone.
        compute_s: Seconds that the call took, or all calls of a request of several parts.
        input_s: Seconds before it, from the taking of its first row: the batch was put together.
        output_s: Seconds after it, until the answers were given out.
        memo: For whoever encodes answers: what is worked out once for the rows of all, by a name of its own.
        trace: Its own place in a trace; None where it is not traced.
    """

    __slots__ = ("compute_s", "input_s", "memo", "output_s", "outputs", "rows", "trace")

    def __init__(
        self, outputs: Tensors, rows: int, compute_s: float, input_s: float = 0.0, output_s: float = 0.0
    ) -> None:
        self.outputs = outputs
        self.rows = rows
        self.compute_s = compute_s
        self.input_s = input_s
        self.output_s = output_s
        self.memo: dict[str, Any] = {}
        self.trace: Trace | None = None


class Answer(NamedTuple):
    """What the backend made of one request: rows ``start`` to ``stop`` of a batch.

    Attributes:
        batch: Holds the rows of the request, and may hold those of others.
        start: The first row of the request in the outputs of the batch.
        stop: The row behind its last.
        queue_s: Seconds until its first row was taken.
    """

    batch: Batch
    start: int
    stop: int
    queue_s: float

    @property
    def outputs(self) -> Tensors:
        """One row per row of the request, as views."""
        return take(self.batch.outputs, self.start, self.stop)

    @property
    def compute_s(self) -> float:
        """Seconds that the batches took in which its rows ran."""
        return self.batch.compute_s

    @property
    def batch_rows(self) -> int:
        """Rows of the last of these batches, its own and those of others."""
        return self.batch.rows


Outcome: TypeAlias = Answer | ServingError


def _nobody(outcome: Outcome) -> None:
    del outcome


class Job:
    """A request in the queue, or partly run.

    Args:
        tensors: The inputs.
        rows: How many rows they hold; at least one.
        deadline: On the batcher's clock.
        on_done: Called once, on the event loop's thread, with the answer or the error, unless the job was canceled
            before. It must be quick; what it raises is logged, and hurts nobody else.
        client: Whose request it is, for fairness between clients.
        trace: Where it stands in a trace.

    Attributes:
        enqueued_at: When it was queued, on the batcher's clock.
        queue_s: Seconds until its first row was taken.
        compute_s: Seconds that the batches of its parts took.
        input_s: Seconds in which these were put together.
        output_s: Seconds from their ends until their answers were given out.
        taken_rows: How many of its rows have left the queue's order.
        elements: The sum of the lengths of the rows that have not; 0 where rows have none.
        parts: The outputs of its parts so far by their first row, where it does not fit one batch.
        done_rows: How many rows these have.
        sorted_from: Where its rows came from, int64 of shape (B,), once the queue has sorted them; else None.
    """

    __slots__ = (
        "_is_done",
        "_on_done",
        "_on_over",
        "client",
        "compute_s",
        "deadline",
        "done_rows",
        "elements",
        "enqueued_at",
        "input_s",
        "output_s",
        "parts",
        "queue_s",
        "rows",
        "sorted_from",
        "taken_rows",
        "tensors",
        "trace",
    )

    def __init__(
        self,
        tensors: Tensors,
        rows: int,
        *,
        deadline: float,
        on_done: Callable[[Outcome], None],
        client: str = "",
        trace: Trace | None = None,
    ) -> None:
        self.tensors = tensors
        self.rows = rows
        self.deadline = deadline
        self.client = client
        self.trace = trace
        self.enqueued_at = self.queue_s = self.compute_s = self.input_s = self.output_s = 0.0
        self.taken_rows = self.done_rows = self.elements = 0
        self.parts: dict[int, Tensors] | None = None
        self.sorted_from: Array | None = None
        self._on_done = on_done
        self._on_over: Callable[[], None] | None = None
        self._is_done = False

    @property
    def is_done(self) -> bool:
        """Whether nobody waits for it any more: it was answered, or canceled."""
        return self._is_done

    def cancel(self) -> None:
        """Nobody waits any more: it is dropped before it is run, and ``on_done`` is not called."""
        self._is_done, self._on_done = True, _nobody
        self._be_over()

    def when_over(self, call: Callable[[], None]) -> None:
        """Call something, once, when nobody waits any more; there is one such call."""
        self._on_over = call

    def _be_over(self) -> None:
        on_over, self._on_over = self._on_over, None
        if on_over is not None:
            on_over()

    def finish(self, outcome: Outcome) -> bool:
        """Hand over the answer or the error, unless nobody waits any more. Never raises.

        Returns:
            Whether somebody waited.
        """
        if self.is_done:
            return False
        # let go of the caller, who often holds the job: a circle would wait for the garbage collector
        on_done, self._on_done, self._is_done = self._on_done, _nobody, True
        if self._on_over is not None:
            self._be_over()
        try:
            on_done(outcome)
        except (Exception, asyncio.CancelledError):  # the caller's defect, and the neighbors still wait
            logger.exception("an answer could not be delivered")
        return True

    def sort(self, order_B: Array) -> None:
        """Put its rows into another order, before any was taken; answers and errors keep that of the caller."""
        self.tensors = {name: array[order_B] for name, array in self.tensors.items()}
        self.sorted_from = order_B

    def join(self, start: int, part: Answer) -> bool:
        """Keep the answer to the part that begins with a row, and finish when all parts are there.

        Returns:
            Whether they were, and somebody waited.
        """
        if self.parts is None:
            self.parts = {}
        self.parts[start] = part.outputs
        self.compute_s += part.compute_s
        self.input_s += part.batch.input_s
        self.output_s += part.batch.output_s
        self.done_rows += part.stop - part.start
        if self.done_rows < self.rows:
            return False
        outputs = concat([self.parts[row] for row in sorted(self.parts)])
        if self.sorted_from is not None:
            back_B = np.argsort(self.sorted_from)
            outputs = {name: array[back_B] for name, array in outputs.items()}
        batch = Batch(outputs, part.batch_rows, self.compute_s, self.input_s, self.output_s)
        batch.trace = part.batch.trace
        return self.finish(Answer(batch, 0, self.rows, self.queue_s))

    def rows_of_caller(self, rows: Iterable[int]) -> tuple[int, ...]:
        """Return the places of rows in the caller's order, rising."""
        return tuple(sorted(rows if self.sorted_from is None else (int(self.sorted_from[row]) for row in rows)))


class FutureJob(Job):
    """A job whose caller awaits a future; whoever cancels the future cancels the job."""

    __slots__ = ("future",)

    def __init__(
        self,
        tensors: Tensors,
        rows: int,
        *,
        deadline: float,
        future: "asyncio.Future[Answer]",
        client: str = "",
        trace: Trace | None = None,
    ) -> None:
        super().__init__(
            tensors, rows, deadline=deadline, on_done=partial(_resolve, future), client=client, trace=trace
        )
        self.future = future

    @property
    def is_done(self) -> bool:
        """Whether nobody waits for it any more."""
        return self.future.done()

    def cancel(self) -> None:
        """Cancel the future."""
        self.future.cancel()

    def when_over(self, call: Callable[[], None]) -> None:
        """Call something, once, when nobody waits any more, for whatever reason: the future may be anybody's."""
        self.future.add_done_callback(lambda _: call())


def _resolve(future: "asyncio.Future[Answer]", outcome: Outcome) -> None:
    if isinstance(outcome, Answer):
        future.set_result(outcome)
    else:
        future.set_exception(outcome)


class Slice(NamedTuple):
    """Rows ``start`` to ``stop`` of a job, in the batch that is about to run."""

    job: Job
    start: int
    stop: int


def join(slices: Sequence[Slice]) -> Tensors:
    """Return the rows of a batch, padded to the longest of them where they have ``lengths``."""
    if LENGTHS not in slices[0].job.tensors:
        return concat([_rows_of(part) for part in slices])
    return concat_padded([trim(_rows_of(part)) for part in slices])


def _rows_of(part: Slice) -> Tensors:
    job, start, stop = part
    return job.tensors if stop - start == job.rows else take(job.tensors, start, stop)
