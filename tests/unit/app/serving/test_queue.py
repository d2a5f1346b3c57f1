"""What makes a batch of rows that all suit each other: order and bounds, without a backend."""

import asyncio
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.serving.jobs import Slice, join
from app.serving.queue import JobQueue
from app.tensors import LENGTHS
from tests.support.jobs import drain, grid, job, num_rows_of
from tests.support.ragged import row_sums, series


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@given(plan=st.lists(st.integers(1, 9), min_size=1, max_size=30), max_rows=st.integers(1, 6))
def test_batches_keep_the_bound_take_each_row_once_and_go_in_order(
    loop: asyncio.AbstractEventLoop, plan: list[int], max_rows: int
) -> None:
    queue = JobQueue(max_rows=max_rows)
    jobs = [job(loop, grid(1, 1, rows)) for rows in plan]
    for waiting in jobs:
        queue.push(waiting)
    batches = drain(queue)
    assert all(num_rows_of(batch) <= max_rows for batch in batches)
    for waiting in jobs:
        parts = [part for batch in batches for part in batch if part.job is waiting]
        assert [row for part in parts for row in range(part.start, part.stop)] == list(range(waiting.rows))
        if waiting.rows <= max_rows:
            assert len(parts) == 1  # not torn
    order = [jobs.index(part.job) for batch in batches for part in batch if part.start == 0]
    assert order == sorted(order)


@given(plan=st.lists(st.integers(1, 4), min_size=1, max_size=30), max_rows=st.integers(4, 6))
def test_a_batch_takes_all_that_fits_before_the_first_that_does_not(
    loop: asyncio.AbstractEventLoop, plan: list[int], max_rows: int
) -> None:
    queue = JobQueue(max_rows=max_rows)
    for rows in plan:
        queue.push(job(loop, grid(1, 1, rows)))
    start = 0
    for batch in drain(queue):
        stop = start + len(batch)
        assert stop == len(plan) or sum(plan[start : stop + 1]) > max_rows
        start = stop


def test_a_request_of_more_than_a_batch_queues_up_again_behind_the_others(loop: asyncio.AbstractEventLoop) -> None:
    queue = JobQueue(max_rows=4)
    large, small, last = job(loop, grid(1, 1, 9)), job(loop, grid(1, 1, 2)), job(loop, grid(1, 1, 4))
    for waiting in (large, small, last):
        queue.push(waiting)
    batches = [[(part.job, part.start, part.stop) for part in batch] for batch in drain(queue)]
    assert batches == [[(large, 0, 4)], [(small, 0, 2)], [(last, 0, 4)], [(large, 4, 8)], [(large, 8, 9)]]


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
