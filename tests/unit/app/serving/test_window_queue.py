"""Rows that cannot be padded run with their like; and what holds for either queue."""

import asyncio
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.bundle.manifest import TensorSpec
from app.serving.queue import JobQueue
from app.serving.window_queue import WindowQueue, open_queue
from app.tensors import Tensors
from tests.support.jobs import GRIDS, SERIES, drain, grid, job, num_rows_of
from tests.support.ragged import series


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@pytest.mark.parametrize(
    ("specs", "kind"),
    [
        ((TensorSpec(name="x", dtype="float32", shape=("batch", 3)),), JobQueue),
        (SERIES, WindowQueue),
        (GRIDS, WindowQueue),
        ((*SERIES[:1], TensorSpec(name="y", dtype="int64", shape=("batch",))), WindowQueue),
        ((TensorSpec(name="x", dtype="int64", shape=("batch", "steps", "channels")), SERIES[1]), WindowQueue),
    ],
    ids=["fixed", "lengths", "open", "open without lengths", "open beside lengths"],
)
def test_only_open_axes_that_cannot_be_padded_part_the_queue(specs: tuple[TensorSpec, ...], kind: type) -> None:
    assert type(open_queue(specs, max_rows=4, max_elements=None)) is kind


def test_the_shape_of_the_head_goes_first_and_the_others_keep_their_places(loop: asyncio.AbstractEventLoop) -> None:
    queue = open_queue(GRIDS, max_rows=2, max_elements=None)
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
    queue = open_queue(GRIDS, max_rows=max_rows, max_elements=None)
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


@pytest.mark.parametrize("specs", [SERIES, GRIDS])
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
    assert queue.late == [late]
    assert (len(queue), queue.waiting_rows) == (0, 0)


@pytest.mark.parametrize("specs", [SERIES, GRIDS])
def test_a_cleared_queue_hands_out_all_jobs_and_takes_new_ones(
    loop: asyncio.AbstractEventLoop, specs: tuple[TensorSpec, ...]
) -> None:
    queue = open_queue(specs, max_rows=4, max_elements=None)
    make = (lambda n: series([n])) if specs is SERIES else (lambda n: grid(n, 1))
    jobs = [job(loop, make(n)) for n in (1, 2, 1)]
    for waiting in jobs:
        queue.push(waiting)
    assert queue.first is jobs[0]
    assert queue
    assert set(map(id, queue.clear())) == set(map(id, jobs))
    assert (len(queue), queue.waiting_rows, queue.take(now=1.0)) == (0, 0, [])
    assert not queue
    queue.push(jobs[1])
    assert [part.job for part in queue.take(now=1.0)] == [jobs[1]]
    assert not queue


@pytest.mark.parametrize(
    ("queue", "requests", "is_full"),
    [
        (JobQueue(max_rows=2), [grid(1, 1)], False),
        (JobQueue(max_rows=2), [grid(1, 1), grid(1, 1)], True),
        (WindowQueue(max_rows=9, max_elements=10), [series([4]), series([5])], False),
        (WindowQueue(max_rows=9, max_elements=10), [series([4]), series([3, 3])], True),
        (open_queue(GRIDS, max_rows=2, max_elements=None), [grid(1, 1)], False),
        (open_queue(GRIDS, max_rows=2, max_elements=None), [grid(1, 1), grid(2, 1)], True),
    ],
)
def test_a_queue_is_full_when_more_company_would_not_fit(
    loop: asyncio.AbstractEventLoop, queue: JobQueue | WindowQueue, requests: list[Tensors], is_full: bool
) -> None:
    for tensors in requests:
        queue.push(job(loop, tensors))
    assert queue.is_full is is_full
