"""Rows that do not all suit each other: of different lengths, or of shapes that cannot be padded.

The first rows in the order, a few batches of them, stand in a window. A batch is the head of the window and those in
it that suit the head best, so the head always goes, and whoever stands in the window is passed over by no more batches
than rows stood before it.

- Rows with ``lengths`` suit each other when they lie in one bucket: the shortest is at most a fifth shorter than the
  longest, or by no more than a few elements. So no row shares padding beyond that, and the nearest go first. The rows
  of one request are sorted, and go in parts where they lie in several buckets.
- Rows whose inputs leave further axes open cannot be padded, since nobody could tell padding from what is real. Only
  those of the same shape suit each other.

A turn looks at the window, never at all that waits.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from itertools import chain
from typing import NamedTuple, TypeAlias

import numpy as np

from app.bundle.manifest import TensorSpec
from app.serving.jobs import Job, Slice
from app.serving.order import FairOrder
from app.serving.queue import JobQueue
from app.tensors import LENGTHS, Tensors, num_fitting

Shape: TypeAlias = Hashable

# The window, in full batches: of rows, and of elements where they are bounded. More of it finds nearer rows, and passes
# over more of them.
WINDOW_BATCHES = 4
# Chosen by simulation from measured costs of the shipped transformer, LSTM and RNN, with 8 to 128 callers: for each the
# throughput is within 5% of that at the best share (0.1 to 0.33) and slack (0 to 8).
BUCKET_SHARE = 0.2
BUCKET_SLACK = 4


class _Piece(NamedTuple):
    """Rows ``start`` to ``stop`` of a job, which go together."""

    job: Job
    start: int
    stop: int
    rows: int
    longest: int
    shortest: int
    elements: int
    shape: Shape


class WindowQueue(FairOrder):
    """Jobs whose rows only share a batch with those that suit them.

    Args:
        max_rows: Most rows of a batch.
        max_elements: Most rows times padded length of a batch; None for no bound. A single row longer than that is a
            batch by itself.
        has_lengths: Whether rows have ``lengths``.
        shape_of: Tells the shape of the rows of a request, beyond what padding evens out; None where all are of one.
        length_buckets: Whether rows of different buckets are kept apart; without, a batch is padded to the longest of
            whatever comes next.
    """

    __slots__ = (
        "_buckets",
        "_has_lengths",
        "_longest",
        "_max_elements",
        "_max_rows",
        "_shape_of",
        "_window",
        "_window_elements",
    )

    def __init__(
        self,
        *,
        max_rows: int,
        max_elements: int | None = None,
        has_lengths: bool = True,
        shape_of: Callable[[Tensors], Shape] | None = None,
        length_buckets: bool = True,
    ) -> None:
        super().__init__(max_rows)
        self._max_rows = max_rows
        self._max_elements = max_elements
        self._has_lengths = has_lengths
        self._shape_of = shape_of
        self._buckets = has_lengths and length_buckets
        self._longest = 0  # row that ever came
        self._window: list[_Piece] = []
        self._window_elements = 0  # without padding

    def __bool__(self) -> bool:
        return bool(self._window) or super().__bool__()

    def __iter__(self) -> Iterator[Job]:
        return chain((piece.job for piece in self._window), super().__iter__())

    @property
    def first(self) -> Job:
        """The job whose turn is next."""
        return self._window[0].job if self._window else super().first

    @property
    def is_full(self) -> bool:
        """Whether enough waits for a batch, if not of one kind."""
        return self.waiting_rows >= self._max_rows or (
            self._max_elements is not None and self.waiting_elements >= self._max_elements
        )

    def push(self, job: Job) -> None:
        """Queue a job up behind the others of its client."""
        if self._has_lengths:
            lengths_B = job.tensors[LENGTHS]
            if job.rows == 1:
                job.elements = longest = int(lengths_B[0])
            else:
                job.elements, longest = int(lengths_B.sum()), int(lengths_B.max())
            self.waiting_elements += job.elements
            if longest > self._longest:
                self._longest = longest
                if self._max_elements is not None:
                    self.sure_rows = min(self.sure_rows, max(1, self._max_elements // longest))
        super().push(job)

    def clear(self) -> list[Job]:
        """Take out all jobs at once."""
        jobs = super().clear()
        self._window, self.window_rows, self._window_elements = [], 0, 0
        return jobs

    def drop_answered(self) -> None:
        """Forget the jobs that wait for nobody any more; a look at all that waits."""
        super().drop_answered()
        gone = [piece for piece in self._window if piece.job.is_done]
        if gone:
            self._leave(gone)
            self._window = [piece for piece in self._window if not piece.job.is_done]

    def take(self, now: float) -> list[Slice]:
        """Take what makes the next batch; drop whoever was answered, left, or is past the deadline."""
        self._fill(now)
        if not self._window:
            return []
        batch = self._choose()
        self._leave(batch)
        if len(batch) == len(self._window):
            self._window = []
        else:
            taken = set(map(id, batch))
            self._window = [piece for piece in self._window if id(piece) not in taken]
        for piece in batch:
            if not piece.job.queue_s:
                piece.job.queue_s = now - piece.job.enqueued_at
        self.taken_units = sum(piece.rows for piece in batch) * (max(piece.longest for piece in batch) or 1)
        return [Slice(piece.job, piece.start, piece.stop) for piece in batch]

    @property
    def _has_room(self) -> bool:
        """Whether the window holds less than its batches."""
        return self.window_rows < WINDOW_BATCHES * self._max_rows and (
            self._max_elements is None or self._window_elements < WINDOW_BATCHES * self._max_elements
        )

    def _fills(self, piece: _Piece) -> int:
        """Return how much of the window a piece takes up: a row over the bound is one batch, however long it is."""
        return piece.elements if self._max_elements is None else min(piece.elements, self._max_elements)

    def _leave(self, pieces: Sequence[_Piece]) -> None:
        rows = sum(piece.rows for piece in pieces)
        self.waiting_rows -= rows
        self.window_rows -= rows
        self.waiting_elements -= sum(piece.elements for piece in pieces)
        self._window_elements -= sum(map(self._fills, pieces))

    def _fill(self, now: float) -> None:
        """Drop whom nobody waits for from the window, and let in who is next."""
        gone = [piece for piece in self._window if piece.job.is_done or piece.job.deadline <= now]
        if gone:
            self._leave(gone)
            # a job of several pieces may be told twice that it is late, and hears it once
            self.late += [piece.job for piece in gone if not piece.job.is_done]
            self._window = [
                piece for piece in self._window if not (piece.job.is_done or piece.job.deadline <= now)
            ]  # fmt: skip
        while self._has_room and super().__bool__():
            job = self._head()
            if job.is_done or job.deadline <= now:
                self._drop_first()
                continue
            piece = self._cut(job)
            self._advance(piece.rows)
            job.elements -= piece.elements
            self.window_rows += piece.rows
            self._window_elements += self._fills(piece)
            self._window.append(piece)

    def _choose(self) -> list[_Piece]:
        head = self._window[0]
        batch, rows, longest, shortest = [head], head.rows, head.longest, head.shortest
        others = [piece for piece in self._window[1:] if piece.shape == head.shape]
        if self._buckets:
            others.sort(key=lambda piece: abs(piece.longest - longest))
        max_rows, max_elements = self._max_rows, self._max_elements
        for piece in others:
            longer, shorter = max(longest, piece.longest), min(shortest, piece.shortest)
            total = rows + piece.rows
            if total > max_rows or (max_elements is not None and total * longer > max_elements):
                if self._buckets:
                    continue
                break  # nobody is passed over
            if self._buckets and not _in_one_bucket(longer, shorter):
                continue
            batch.append(piece)
            rows, longest, shortest = total, longer, shorter
            if rows == max_rows:
                break
        return batch

    def _cut(self, job: Job) -> _Piece:
        """Return what one batch can hold of the rows of a job that are left, at least one."""
        start, rows = job.taken_rows, min(job.rows - job.taken_rows, self._max_rows)
        shape = None if self._shape_of is None else self._shape_of(job.tensors)
        if not self._has_lengths:
            return _Piece(job, start, start + rows, rows, 0, 0, 0, shape)
        lengths_B = job.tensors[LENGTHS]
        if job.rows == 1:
            length = int(lengths_B[0])
            return _Piece(job, 0, 1, 1, length, length, length, shape)
        if self._buckets and start == 0 and not _in_one_bucket(int(lengths_B.max()), int(lengths_B.min())):
            job.sort(np.argsort(-lengths_B, kind="stable"))
            lengths_B = job.tensors[LENGTHS]
        lengths_B = lengths_B[start : start + rows]
        if self._max_elements is not None:
            lengths_B = lengths_B[: max(1, num_fitting(lengths_B, self._max_elements))]
        if job.sorted_from is not None:
            least = _shortest_beside(int(lengths_B[0]))
            lengths_B = lengths_B[: int((lengths_B >= least).sum())]
        rows, longest, shortest = len(lengths_B), int(lengths_B.max()), int(lengths_B.min())
        return _Piece(job, start, start + rows, rows, longest, shortest, int(lengths_B.sum()), shape)


def _shortest_beside(longest: int) -> float:
    return longest - max(longest * BUCKET_SHARE, BUCKET_SLACK)


def _in_one_bucket(longest: int, shortest: int) -> bool:
    return shortest >= _shortest_beside(longest)


def open_queue(
    specs: Sequence[TensorSpec], *, max_rows: int, max_elements: int | None, length_buckets: bool = True
) -> JobQueue | WindowQueue:
    """Return the queue that the inputs of a model want: the plain one where all rows suit each other.

    Args:
        specs: The inputs; beside ``lengths`` the second axis of all others is padded, so it may differ.
        max_rows: Most rows of a batch.
        max_elements: As of :class:`WindowQueue`.
        length_buckets: As of :class:`WindowQueue`.
    """
    has_lengths = any(spec.name == LENGTHS for spec in specs)
    open_axes = [
        (spec.name, axis)
        for spec in specs
        for axis, length in enumerate(spec.shape)
        if axis >= (2 if has_lengths else 1) and isinstance(length, str)
    ]
    if not has_lengths and not open_axes:
        return JobQueue(max_rows=max_rows)

    def shape_of(tensors: Tensors) -> Shape:
        return tuple(tensors[name].shape[axis] for name, axis in open_axes)

    return WindowQueue(
        max_rows=max_rows,
        max_elements=max_elements,
        has_lengths=has_lengths,
        shape_of=shape_of if open_axes else None,
        length_buckets=length_buckets,
    )
