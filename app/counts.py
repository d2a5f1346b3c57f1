"""The kinds of counts that need more than a number. Each tells its state, as JSON can hold it, and adds another's.

What is counted once for each request is written here: an addition to an attribute, and nothing that waits or allocates.
"""

import time
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Any

SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
ROWS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0)
# of one row: a small model takes microseconds
ROW_SECONDS = (0.00001, 0.000025, 0.00005, *SECONDS)


class Histogram:
    """Counts of observations below each bound, and their sum."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def buckets(self) -> list[tuple[str, float]]:
        """Return the cumulative counts by upper bound, as Prometheus writes them."""
        labels = [*(repr(bound) for bound in self.bounds), "+Inf"]
        running = 0
        cumulative: list[tuple[str, float]] = []
        for label, count in zip(labels, self.counts, strict=True):
            running += count
            cumulative.append((label, running))
        return cumulative

    def state(self) -> list[Any]:
        """Return what :meth:`add` of another one takes."""
        return [self.counts, self.total]

    def add(self, counts: Iterable[int], total: float) -> None:
        """Count what another one with the same bounds has counted."""
        self.counts = [ours + theirs for ours, theirs in zip(self.counts, counts, strict=True)]
        self.total += total


class BatchSums:
    """Sums over the batches of one number of rows; the seconds are those of :class:`Statistics`."""

    __slots__ = ("batches", "compute_s", "input_s", "output_s")

    def __init__(self, batches: int = 0, input_s: float = 0.0, compute_s: float = 0.0, output_s: float = 0.0) -> None:
        self.batches = batches
        self.input_s = input_s
        self.compute_s = compute_s
        self.output_s = output_s


class Statistics:
    """What was asked of one version of a model, and what that took. The batcher writes it.

    A request is counted once it is answered. All seconds but those of ``by_rows`` are sums over requests, so those of a
    batch that four of them share count four times.

    Attributes:
        answered: Requests that the model has answered.
        failed: Requests that were refused for want of room or time, or got an error once they were queued. Callers who
            hung up are in neither, and requests that are no good for the model never came so far.
        rows: Rows of those that were answered.
        answered_s: Seconds from the queue's door to the answer.
        failed_s: The same, of those that failed.
        queue_s: Seconds that those answered waited before their first row was taken.
        input_s: Seconds from there to the call of the backend, in which the batch was put together.
        compute_s: Seconds of the call, the check of what it returned included.
        output_s: Seconds from its end to the answer.
        by_rows: The batches, by their rows.
        last_batch_at: When the last of them ended; seconds since the epoch.
    """

    __slots__ = (
        "answered", "answered_s", "by_rows", "compute_s", "failed", "failed_s", "input_s", "last_batch_at", "output_s",
        "queue_s", "rows",
    )  # fmt: skip

    _SUMS = ("answered", "failed", "rows", "answered_s", "failed_s", "queue_s", "input_s", "compute_s", "output_s")

    def __init__(self) -> None:
        self.answered = self.failed = self.rows = 0
        self.answered_s = self.failed_s = self.queue_s = self.input_s = self.compute_s = self.output_s = 0.0
        self.by_rows: dict[int, BatchSums] = {}
        self.last_batch_at = 0.0

    def batch(self, rows: int, input_s: float, compute_s: float, output_s: float) -> None:
        """Count one batch."""
        sums = self.by_rows.get(rows)
        if sums is None:
            sums = self.by_rows[rows] = BatchSums()
        sums.batches += 1
        sums.input_s += input_s
        sums.compute_s += compute_s
        sums.output_s += output_s
        self.last_batch_at = time.time()

    def answer(
        self,
        requests: int,
        rows: int,
        answered_s: float,
        queue_s: float,
        input_s: float,
        compute_s: float,
        output_s: float,
    ) -> None:
        """Count requests that were answered together; the seconds are sums over them."""
        self.answered += requests
        self.rows += rows
        self.answered_s += answered_s
        self.queue_s += queue_s
        self.input_s += input_s
        self.compute_s += compute_s
        self.output_s += output_s

    def fail(self, after_s: float) -> None:
        """Count one request that got an error, so many seconds after it came."""
        self.failed += 1
        self.failed_s += after_s

    def state(self) -> list[Any]:
        """Return what :meth:`add` of another one takes."""
        by_rows = [
            [rows, sums.batches, sums.input_s, sums.compute_s, sums.output_s] for rows, sums in self.by_rows.items()
        ]
        return [[getattr(self, name) for name in self._SUMS], by_rows, self.last_batch_at]

    def add(self, sums: Sequence[float], by_rows: Iterable[Sequence[Any]], last_batch_at: float) -> None:
        """Count what another one has counted."""
        for name, theirs in zip(self._SUMS, sums, strict=True):
            setattr(self, name, getattr(self, name) + theirs)
        for rows, batches, *seconds in by_rows:
            ours = self.by_rows.setdefault(rows, BatchSums())
            ours.batches += batches
            for name, theirs in zip(("input_s", "compute_s", "output_s"), seconds, strict=True):
                setattr(ours, name, getattr(ours, name) + theirs)
        self.last_batch_at = max(self.last_batch_at, last_batch_at)
