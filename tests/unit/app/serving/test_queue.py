"""What makes a batch of rows of different lengths: order and bounds, without a backend."""

import asyncio
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.serving.jobs import Slice
from app.serving.queue import JobQueue, join
from app.serving.shaped_queue import open_queue
from app.tensors import LENGTHS
from tests.support.jobs import SERIES, drain, job, num_rows_of
from tests.support.ragged import row_sums, series


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def num_elements(batch: list[Slice]) -> int:
    lengths = [int(n) for part in batch for n in part.job.tensors[LENGTHS][part.start : part.stop]]
    return len(lengths) * max(lengths)


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
    assert [(part.start, part.stop) for part in queue.take(now=1.0)] == [(0, 1)]
    for _ in range(2):
        queue.push(job(loop, series([3])))
    assert [[(part.start, part.stop) for part in batch] for batch in drain(queue)] == [[(1, 3), (0, 1), (0, 1)]]


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
