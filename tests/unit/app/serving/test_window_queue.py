"""Rows run with those that suit them; and what holds for either queue."""

import asyncio
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.bundle.manifest import TensorSpec
from app.serving.jobs import Answer, Batch, Slice
from app.serving.queue import JobQueue
from app.serving.window_queue import WINDOW_BATCHES, WindowQueue, open_queue
from app.tensors import LENGTHS, Tensors, take
from tests.support.jobs import GRIDS, SERIES, drain, grid, job, num_rows_of
from tests.support.ragged import row_sums, series


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


def lengths_of(batch: list[Slice]) -> list[int]:
    return [int(n) for part in batch for n in part.job.tensors[LENGTHS][part.start : part.stop]]


ragged = st.lists(st.lists(st.integers(1, 60), min_size=1, max_size=7), min_size=1, max_size=30)


@given(plan=ragged, max_rows=st.integers(1, 6), max_elements=st.none() | st.integers(1, 200), buckets=st.booleans())
def test_batches_of_rows_with_lengths_keep_all_bounds_and_take_each_row_once(
    loop: asyncio.AbstractEventLoop, plan: list[list[int]], max_rows: int, max_elements: int | None, buckets: bool
) -> None:
    queue = open_queue(SERIES, max_rows=max_rows, max_elements=max_elements, length_buckets=buckets)
    jobs = [job(loop, series(lengths)) for lengths in plan]
    for waiting in jobs:
        queue.push(waiting)
    assert queue.waiting_elements == sum(map(sum, plan))
    batches = drain(queue)
    assert queue.waiting_elements == queue._window_elements == 0
    for batch in batches:
        lengths = lengths_of(batch)
        assert len(lengths) <= max_rows
        assert max_elements is None or len(lengths) == 1 or len(lengths) * max(lengths) <= max_elements
        if buckets:
            assert max(lengths) - min(lengths) <= max(max(lengths) / 5, 4)
    taken = Counter((part.job, row) for batch in batches for part in batch for row in range(part.start, part.stop))
    assert taken == Counter((waiting, row) for waiting in jobs for row in range(waiting.rows))


@given(plan=st.lists(st.integers(1, 300), min_size=1, max_size=200))
def test_the_head_of_the_window_always_goes_and_whoever_stands_in_it_is_soon_the_head(
    loop: asyncio.AbstractEventLoop, plan: list[int]
) -> None:
    queue = open_queue(SERIES, max_rows=4, max_elements=1024)
    jobs = [job(loop, series([length])) for length in plan]
    for waiting in jobs:
        queue.push(waiting)
    left = list(jobs)
    for turn, batch in enumerate(drain(queue)):
        assert batch[0].job is left[0]
        for part in batch:
            assert left.index(part.job) < WINDOW_BATCHES * 4 + 4
            assert turn <= jobs.index(part.job)
        left = [waiting for waiting in left if all(part.job is not waiting for part in batch)]


def test_the_rows_nearest_in_length_go_with_the_head(loop: asyncio.AbstractEventLoop) -> None:
    queue = open_queue(SERIES, max_rows=3, max_elements=None)
    for length in (100, 30, 118, 90, 250, 101, 32):
        queue.push(job(loop, series([length])))
    assert [lengths_of(batch) for batch in drain(queue)] == [[100, 101, 90], [30, 32], [118], [250]]


def test_rows_of_one_request_go_in_parts_by_length_and_come_back_in_its_order(loop: asyncio.AbstractEventLoop) -> None:
    queue = open_queue(SERIES, max_rows=8, max_elements=None)
    lengths = [3, 90, 5, 88, 40, 2]
    waiting = job(loop, series(lengths))
    sums = row_sums(waiting.tensors)
    queue.push(waiting)
    batches = drain(queue)
    assert [lengths_of(batch) for batch in batches] == [[90, 88], [40], [5, 3, 2]]
    for ((_, start, stop),) in reversed(batches):  # in whatever order they run
        outputs = {"sum": np.array(row_sums(take(waiting.tensors, start, stop)))}
        waiting.join(start, Answer(Batch(outputs, stop - start, 0.5), 0, stop - start, 0.0))
    answer = waiting.future.result()
    assert answer.outputs["sum"].tolist() == sums
    assert (answer.compute_s, waiting.rows_of_caller([0, 5])) == (1.5, (1, 5))


def test_rows_of_a_request_that_suit_each_other_are_not_torn_and_keep_their_order(
    loop: asyncio.AbstractEventLoop,
) -> None:
    queue = open_queue(SERIES, max_rows=8, max_elements=None)
    queue.push(job(loop, series([40, 50, 42])))
    (batch,) = drain(queue)
    assert lengths_of(batch) == [40, 50, 42]


def test_a_row_over_the_bound_runs_alone_and_holds_nobody_up(loop: asyncio.AbstractEventLoop) -> None:
    queue = WindowQueue(max_rows=4, max_elements=10)
    for lengths in ([2], [99], [2], [50, 60], [3]):
        queue.push(job(loop, series(lengths)))
    assert [lengths_of(batch) for batch in drain(queue)] == [[2, 2, 3], [99], [50], [60]]


def test_without_buckets_nobody_is_passed_over(loop: asyncio.AbstractEventLoop) -> None:
    queue = open_queue(SERIES, max_rows=3, max_elements=None, length_buckets=False)
    for length in (1, 1000, 2, 3):
        queue.push(job(loop, series([length])))
    assert [lengths_of(batch) for batch in drain(queue)] == [[1, 1000, 2], [3]]


@pytest.mark.parametrize("sweeps", [False, True])
def test_what_was_canceled_in_the_window_is_not_counted_any_more(loop: asyncio.AbstractEventLoop, sweeps: bool) -> None:
    queue = open_queue(SERIES, max_rows=2, max_elements=None)
    jobs = [job(loop, series([length])) for length in (10, 100, 200, 210)]
    for waiting in jobs:
        queue.push(waiting)
    assert [part.job for part in queue.take(0.0)] == jobs[:1]
    jobs[1].cancel()
    jobs[3].cancel()
    if sweeps:
        queue.drop_answered()
        assert (queue.waiting_rows, queue.waiting_elements, queue.window_rows) == (1, 200, 1)
    assert [part.job for part in queue.take(0.0)] == jobs[2:3]
    assert (queue.waiting_rows, queue.waiting_elements, queue.window_rows) == (0, 0, 0)
