"""When a request would be answered, and whether it may queue up: whom time or room will not do is told at the door.

The time of a backlog is the cost of its batches, times the pace: how long a turn takes from end to end, over the cost
of its batch, while more waits. What the event loop does between two batches (reading and writing requests, other
models, refusals) is in the pace, and nowhere else.
"""

from collections.abc import Callable

from app.errors import Limit, Overloaded
from app.serving.costs import CostModel
from app.serving.jobs import Job
from app.serving.queue import JobQueue
from app.serving.window_queue import WindowQueue
from app.tensors import LENGTHS, Tensors

# a look at the whole queue for those who left, which a refusal must not cost each time
SWEEP_EVERY_S = 0.05
# an idle model refuses nobody on what such a batch cost longer ago than this: the next request finds out anew
TRUST_S = 1.0
# batches shorter than this teach as much by every so many: a lesson costs more than a request may
_LESSON_EVERY_S = 0.001
_WEIGHT = 0.1
_MOST = 2.0


class Forecast:
    """What the batches that wait and the one that runs will take.

    Args:
        costs: Of a batch; corrected here.

    Attributes:
        easy_s: Whoever has more time than this is answered in time, as long as no more waits than a batch surely holds.
    """

    __slots__ = (
        "_began_at",
        "_ended_at",
        "_expected_s",
        "_learned_at",
        "_measured_at",
        "_pace",
        "_units_per_batch",
        "costs",
        "easy_s",
    )

    def __init__(self, costs: CostModel) -> None:
        self.costs = costs
        self._learned_at = float("-inf")
        self._measured_at: dict[int, float] = {}  # by the binary digits of the units, as the factors of the costs
        self._pace = 1.0
        self._units_per_batch = float(costs.full_units)
        self._began_at = 0.0
        self._expected_s = 0.0
        self._ended_at: float | None = None  # of the batch before, where more waited behind it
        self.easy_s = 3 * costs.full_s

    def begin(self, units: int, now: float) -> None:
        """Note that a batch begins."""
        self._began_at, self._expected_s = now, self.costs.seconds(units)

    def end(self, units: int, compute_s: float | None, now: float, *, more: bool) -> None:
        """Learn from a batch that has ended.

        Args:
            units: Of the batch.
            compute_s: Seconds of its call; None where they say nothing of what such a batch costs.
            now: On the clock.
            more: Whether more waits.
        """
        if compute_s is not None and now - self._learned_at >= _LESSON_EVERY_S:
            expected_s = self.costs.seconds(units)
            if self._ended_at is not None and expected_s > 0:
                ratio = (now - self._ended_at) / expected_s / self._pace
                self._pace = max(1.0, self._pace * (1 + _WEIGHT * (min(max(ratio, 1 / _MOST), _MOST) - 1)))
                self._units_per_batch += _WEIGHT * (units - self._units_per_batch)
            elif not more:  # nobody waited before or after: of an overload that is over, nothing else would tell
                self._pace += _WEIGHT * (1 - self._pace)
            self.costs.observe(units, compute_s)
            self._learned_at = self._measured_at[units.bit_length()] = now
            self.easy_s = 3 * self._pace * self.costs.full_s
        self._ended_at = now if more else None

    def is_fresh(self, units: int, now: float) -> bool:
        """Tell whether batches of about this size, or full ones where it is more, have been measured lately."""
        size = min(units, self.costs.full_units).bit_length()
        return now - self._measured_at.get(size, float("-inf")) <= TRUST_S

    def running_s(self, now: float) -> float:
        """Return the seconds until the batch that runs will end; one that is late already, may take as long again."""
        return abs(self._began_at + self._expected_s - now)

    def batches_s(self, rows: float, elements: float) -> float:
        """Return the seconds of all batches that rows make, of so many elements where they have lengths."""
        units = elements or rows
        batches = max(1.0, units / max(1.0, self._units_per_batch))
        return self._pace * batches * self.costs.seconds(units / batches)


class Room:
    """Lets requests into a queue, or refuses them before they cost anything.

    Args:
        queue: The queue.
        forecast: What its batches take.
        max_queue_rows: Most rows that wait.

    Attributes:
        limit: That number, as errors name it.
    """

    def __init__(self, queue: JobQueue | WindowQueue, forecast: Forecast, *, max_queue_rows: int) -> None:
        self.limit = Limit("max_queue_rows", max_queue_rows)
        self._queue = queue
        self._forecast = forecast
        self._max_queue_rows = max_queue_rows
        # no more ever waits, so the order stays what it is, and the door has one number to look at
        queue.sure_rows = min(queue.sure_rows, max_queue_rows)
        self._swept_at = float("-inf")

    def expect(
        self, rows: int, tensors: Tensors | None, *, deadline: float, client: str, is_running: bool, now: float
    ) -> None:
        """Check that a request has room, and time.

        Args:
            rows: Of the request.
            tensors: Its inputs; None where they are not known yet.
            deadline: On the clock.
            client: Whose it is.
            is_running: Whether a batch runs.
            now: On the clock.

        Raises:
            Overloaded: It has not.
        """
        elements = int(tensors[LENGTHS].sum()) if tensors is not None and LENGTHS in tensors else 0
        refusal = self._refusal(rows, elements, deadline, client, is_running, now)
        if refusal is None:
            return
        if now - self._swept_at >= SWEEP_EVERY_S:
            self._swept_at = now
            self._queue.drop_answered()
            refusal = self._refusal(rows, elements, deadline, client, is_running, now)
        if refusal is not None:
            raise refusal()

    @property
    def is_full(self) -> bool:
        """Whether nobody is let in but who may put others out."""
        return self._queue.waiting_rows >= self._max_queue_rows

    def make(self, job: Job) -> list[Job]:
        """Return the jobs that were put out of a full queue for one that :meth:`expect` has let in."""
        if self._queue.waiting_rows + job.rows <= self._max_queue_rows:
            return []
        return self._queue.put_out(job.rows, job.client, self._max_queue_rows)

    def backlog_s(self, *, is_running: bool, now: float) -> float:
        """Return the seconds until all that waits now is done."""
        waiting = self._queue.waiting_rows
        running_s = self._forecast.running_s(now) if is_running else 0.0
        return running_s + (self._forecast.batches_s(waiting, self._queue.waiting_elements) if waiting else 0.0)

    def _refusal(
        self, rows: int, elements: int, deadline: float, client: str, is_running: bool, now: float
    ) -> Callable[[], Overloaded] | None:
        """Return what makes the error, where the request is to be refused."""
        queue, forecast = self._queue, self._forecast
        waiting = queue.waiting_rows
        if waiting + rows > self._max_queue_rows and not queue.may_put_out(rows, client, self._max_queue_rows):
            return lambda: Overloaded(
                f"{waiting} rows wait already, at most {self._max_queue_rows} may",
                retry_after_s=self.backlog_s(is_running=is_running, now=now),
                limit=self.limit,
            )
        left_s = deadline - now
        if left_s <= 0:  # too late already, which is no matter of load
            return None
        if not waiting and not is_running:
            # a guess, and none is better than trying: only what is hopeless at half of it is refused, on fresh evidence
            needed_s = forecast.costs.seconds(elements or rows) / 2
            ahead = 0
            if not forecast.is_fresh(elements or rows, now):
                return None
        else:
            ahead = queue.rows_ahead(client)
            elements_ahead = queue.waiting_elements * ahead / waiting if waiting else 0.0
            needed_s = forecast.batches_s(ahead + rows, elements_ahead + elements)
            if is_running:
                needed_s += forecast.running_s(now)
            if ahead:
                # counted twice: the further ahead, the less is known, and a longer queue answers nobody more
                needed_s += forecast.batches_s(ahead, elements_ahead)
        if needed_s <= left_s:
            return None
        return lambda: Overloaded(
            f"no answer is to be expected within the deadline: {left_s * 1e3:.0f} ms are left, {ahead} rows wait "
            f"before it, and it may take {needed_s * 1e3:.0f} ms",
            retry_after_s=needed_s - left_s,
        )
