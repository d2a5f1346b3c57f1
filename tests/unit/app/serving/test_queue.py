"""What makes a batch: order, bounds and shapes, without a backend."""

import asyncio
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.bundle.manifest import TensorSpec
from app.errors import DeadlineExceeded
from app.serving.queue import Job, JobQueue, Slice, join
from app.serving.shaped_queue import ShapedQueue, open_queue
from app.tensors import LENGTHS, Tensors
from tests.support.ragged import row_sums, series

FOREVER = float("inf")
SERIES = (
    TensorSpec(name="series", dtype="float32", shape=("batch", "steps", 2)),
    TensorSpec(name=LENGTHS, dtype="int64", shape=("batch",)),
)
OPEN = (TensorSpec(name="grid", dtype="float32", shape=("batch", "height", 3, "width")),)


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def job(loop: asyncio.AbstractEventLoop, tensors: Tensors, **changes: Any) -> Job:
    rows = len(next(iter(tensors.values())))
    fields = {"tensors": tensors, "rows": rows, "deadline": FOREVER, "enqueued_at": 0.0, "future": loop.create_future()}
    return Job(**(fields | changes))


def grid(height: int, width: int, rows: int = 1) -> Tensors:
    return {"grid": np.ones((rows, height, 3, width), np.float32)}


def drain(queue: JobQueue | ShapedQueue) -> list[list[Slice]]:
    taken: list[list[Slice]] = []
    while batch := queue.take(now=1.0):
        taken.append(batch)
    assert (len(queue), queue.waiting_rows) == (0, 0)
    return taken


def num_elements(batch: list[Slice]) -> int:
    lengths = [int(n) for part in batch for n in part.job.tensors[LENGTHS][part.start : part.stop]]
    return len(lengths) * max(lengths)


def num_rows_of(batch: list[Slice]) -> int:
    return sum(part.stop - part.start for part in batch)


requests = st.lists(st.lists(st.integers(1, 12), min_size=1, max_size=7), min_size=1, max_size=25)


@given(plan=requests, max_rows=st.integers(1, 6), max_elements=st.integers(1, 40))
def test_batches_keep_both_bounds_take_each_row_once_and_in_order(
    loop: asyncio.AbstractEventLoop, plan: list[list[int]], max_rows: int, max_elements: int
) -> None:
    queue = open_queue(SERIES, max_rows=max_rows, max_elements=max_elements)
    jobs = [job(loop, series(lengths)) for lengths in plan]
    for waiting in jobs:
        queue.push(waiting)
    batches = drain(queue)
    for batch in batches:
        assert num_rows_of(batch) <= max_rows
        assert num_elements(batch) <= max_elements or num_rows_of(batch) == 1
    for waiting in jobs:
        parts = [part for batch in batches for part in batch if part.job is waiting]
        assert [row for part in parts for row in range(part.start, part.stop)] == list(range(waiting.rows))
        if waiting.rows <= max_rows and waiting.rows * max(waiting.tensors[LENGTHS]) <= max_elements:
            assert len(parts) == 1  # not torn
    order = [jobs.index(part.job) for batch in batches for part in batch if part.start == 0]
    assert order == sorted(order)


@given(plan=st.lists(st.integers(1, 12), min_size=1, max_size=30), max_rows=st.integers(1, 6), bound=st.integers(1, 40))
def test_a_batch_takes_all_that_fits_before_the_first_that_does_not(
    loop: asyncio.AbstractEventLoop, plan: list[int], max_rows: int, bound: int
) -> None:
    queue = open_queue(SERIES, max_rows=max_rows, max_elements=bound)
    for length in plan:
        queue.push(job(loop, series([length])))
    batches, start = drain(queue), 0
    for batch in batches:
        stop = start + len(batch)
        more = plan[start : stop + 1]
        assert stop == len(plan) or len(more) > max_rows or len(more) * max(more) > bound
        start = stop


def test_the_last_part_of_a_torn_job_counts_with_its_own_longest_row(loop: asyncio.AbstractEventLoop) -> None:
    queue = JobQueue(max_rows=4, max_elements=12)
    queue.push(job(loop, series([12, 3, 3])))
    queue.push(job(loop, series([3])))
    assert [[(part.start, part.stop) for part in batch] for batch in drain(queue)] == [[(0, 1)], [(0, 1), (1, 3)]]


def test_a_row_over_the_bound_runs_alone_and_holds_nobody_up(loop: asyncio.AbstractEventLoop) -> None:
    queue = JobQueue(max_rows=4, max_elements=10)
    for lengths in ([2], [99], [2], [50, 60], [3]):
        queue.push(job(loop, series(lengths)))
    batches = [[part.job.tensors[LENGTHS][part.start : part.stop].tolist() for part in batch] for batch in drain(queue)]
    assert batches == [[[2]], [[99]], [[2]], [[50]], [[3]], [[60]]]


def test_without_a_bound_on_elements_only_rows_count(loop: asyncio.AbstractEventLoop) -> None:
    queue = open_queue(SERIES, max_rows=3, max_elements=None)
    for length in (1, 1000, 2, 3):
        queue.push(job(loop, series([length])))
    assert [len(batch) for batch in drain(queue)] == [3, 1]


def test_rows_with_lengths_are_padded_to_the_longest_of_the_batch_alone(loop: asyncio.AbstractEventLoop) -> None:
    wide = series([5, 2, 9])
    parts = [Slice(job=job(loop, wide), start=0, stop=2), Slice(job=job(loop, series([3], start=100)), start=0, stop=1)]
    joined = join(parts)
    assert joined["series"].shape == (3, 5, 2)
    assert joined[LENGTHS].tolist() == [5, 2, 3]
    assert row_sums(joined) == [*row_sums(wide)[:2], *row_sums(series([3], start=100))]
    assert not joined["series"][1, 2:].any()
    assert not joined["series"][2, 3:].any()
    assert join(parts[:1])["series"].shape == (2, 5, 2)


@pytest.mark.parametrize(
    ("specs", "kind"),
    [
        ((TensorSpec(name="x", dtype="float32", shape=("batch", 3)),), JobQueue),
        (SERIES, JobQueue),
        (OPEN, ShapedQueue),
        ((*SERIES[:1], TensorSpec(name="y", dtype="int64", shape=("batch",))), ShapedQueue),
        ((TensorSpec(name="x", dtype="int64", shape=("batch", "steps", "channels")), SERIES[1]), ShapedQueue),
    ],
    ids=["fixed", "lengths", "open", "open without lengths", "open beside lengths"],
)
def test_only_open_axes_that_cannot_be_padded_part_the_queue(specs: tuple[TensorSpec, ...], kind: type) -> None:
    assert type(open_queue(specs, max_rows=4, max_elements=None)) is kind


def test_the_shape_of_the_head_goes_first_and_the_others_keep_their_places(loop: asyncio.AbstractEventLoop) -> None:
    queue = open_queue(OPEN, max_rows=2, max_elements=None)
    shapes = [(1, 1), (2, 1), (1, 1), (1, 2), (2, 1), (1, 1), (1, 2)]
    for shape in shapes:
        queue.push(job(loop, grid(*shape)))
    order = [[part.job.tensors["grid"].shape[1::2] for part in batch] for batch in drain(queue)]
    assert order == [[(1, 1)] * 2, [(2, 1)] * 2, [(1, 2)] * 2, [(1, 1)]]


@given(
    plan=st.lists(st.tuples(st.integers(1, 3), st.integers(1, 5), st.booleans()), min_size=1, max_size=30),
    max_rows=st.integers(1, 4),
    sweep_first=st.booleans(),
)
def test_batches_of_one_shape_begin_with_whoever_has_waited_longest(
    loop: asyncio.AbstractEventLoop, plan: list[tuple[int, int, bool]], max_rows: int, sweep_first: bool
) -> None:
    queue = open_queue(OPEN, max_rows=max_rows, max_elements=None)
    jobs = [job(loop, grid(1, width, rows)) for width, rows, _ in plan]
    for waiting in jobs:
        queue.push(waiting)
    for waiting, (_, _, leaves) in zip(jobs, plan, strict=True):
        if leaves:
            waiting.future.cancel()
    if sweep_first:
        queue.drop_answered()
    stayed = [waiting for waiting in jobs if not waiting.future.cancelled()]
    line = list(stayed)  # as one queue would hold them
    for batch in drain(queue):
        assert len({part.job.tensors["grid"].shape[1:] for part in batch}) == 1
        assert num_rows_of(batch) <= max_rows
        assert batch[0].job is line[0]
        for part in batch:
            line.remove(part.job)
            if part.stop < part.job.rows:
                line.append(part.job)
    assert line == []
    assert all(waiting.taken_rows == (0 if waiting.future.cancelled() else waiting.rows) for waiting in jobs)


@pytest.mark.parametrize("specs", [SERIES, OPEN])
def test_whoever_left_or_is_late_is_dropped_and_the_next_shape_is_not_kept_waiting(
    loop: asyncio.AbstractEventLoop, specs: tuple[TensorSpec, ...]
) -> None:
    queue = open_queue(specs, max_rows=4, max_elements=None)
    make = (lambda n: series([n])) if specs is SERIES else (lambda n: grid(n, 1))
    gone, late, good = job(loop, make(1)), job(loop, make(2), deadline=0.5), job(loop, make(3))
    for waiting in (gone, late, good):
        queue.push(waiting)
    gone.future.cancel()
    assert [part.job for part in queue.take(now=1.0)] == [good]
    assert isinstance(late.future.exception(), DeadlineExceeded)
    assert (len(queue), queue.waiting_rows) == (0, 0)


@pytest.mark.parametrize("specs", [SERIES, OPEN])
def test_a_cleared_queue_hands_out_all_jobs_and_takes_new_ones(
    loop: asyncio.AbstractEventLoop, specs: tuple[TensorSpec, ...]
) -> None:
    queue = open_queue(specs, max_rows=4, max_elements=None)
    make = (lambda n: series([n])) if specs is SERIES else (lambda n: grid(n, 1))
    jobs = [job(loop, make(n)) for n in (1, 2, 1)]
    for waiting in jobs:
        queue.push(waiting)
    assert queue.first is jobs[0]
    assert set(map(id, queue.clear())) == set(map(id, jobs))
    assert (len(queue), queue.waiting_rows, queue.take(now=1.0)) == (0, 0, [])
    queue.push(jobs[1])
    assert [part.job for part in queue.take(now=1.0)] == [jobs[1]]


@pytest.mark.parametrize(
    ("queue", "requests", "is_full"),
    [
        (JobQueue(max_rows=2), [series([9])], False),
        (JobQueue(max_rows=2), [series([9]), series([9])], True),
        (JobQueue(max_rows=9, max_elements=10), [series([4]), series([5])], False),
        (JobQueue(max_rows=9, max_elements=10), [series([4]), series([3, 3])], True),
        (open_queue(OPEN, max_rows=2, max_elements=None), [grid(1, 1)], False),
        (open_queue(OPEN, max_rows=2, max_elements=None), [grid(1, 1), grid(2, 1)], True),
    ],
)
def test_a_queue_is_full_when_more_company_would_not_fit(
    loop: asyncio.AbstractEventLoop, queue: JobQueue | ShapedQueue, requests: list[Tensors], is_full: bool
) -> None:
    for tensors in requests:
        queue.push(job(loop, tensors))
    assert queue.is_full is is_full
