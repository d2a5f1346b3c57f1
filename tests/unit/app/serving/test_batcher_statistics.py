"""What the batcher counts of requests and batches, on a clock that only the model moves."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import pytest

from app.counts import Statistics
from app.errors import DeadlineExceeded, ModelNotReady, ModelRejectedInput, Overloaded, ServingError
from app.serving.batcher import Batcher
from app.tensors import Tensors

POISON = 13.0
FOREVER = float("inf")


class Clock:
    """Stands still, but for what the model takes."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def make(clock: Clock, statistics: Statistics, **changes: Any) -> Batcher:
    def run(inputs: Tensors) -> Tensors:
        clock.now += 0.5
        if (inputs["x"] == POISON).any():
            raise RuntimeError("poison")
        return {"y": inputs["x"] * 2}

    defaults = {"is_well": lambda: True, "max_rows": 4, "max_queue_rows": 100}
    return Batcher(run, **(defaults | {"clock": clock, "statistics": statistics} | changes))


def rows_of(*values: float) -> Tensors:
    return {"x": np.array(values, np.float32)[:, None]}


def go(scenario: Callable[[Clock, Statistics], Coroutine[Any, Any, None]]) -> Statistics:
    statistics = Statistics()
    asyncio.run(asyncio.wait_for(scenario(Clock(), statistics), 30))
    return statistics


def test_a_batch_counts_once_for_each_request_in_it_and_once_by_its_rows() -> None:
    async def scenario(clock: Clock, statistics: Statistics) -> None:
        batcher = make(clock, statistics)
        await asyncio.gather(*(batcher.submit(rows_of(*range(n)), deadline=FOREVER) for n in (1, 2, 1)))

    counted = go(scenario)
    assert (counted.answered, counted.rows, counted.failed) == (3, 4, 0)
    assert counted.compute_s == pytest.approx(1.5)
    assert counted.answered_s == pytest.approx(1.5)
    assert (counted.queue_s, counted.input_s, counted.output_s) == pytest.approx((0, 0, 0))
    assert {rows: (sums.batches, sums.compute_s) for rows, sums in counted.by_rows.items()} == {4: (1, 0.5)}
    assert counted.last_batch_at > 1.7e9


def test_who_waits_for_a_batch_counts_its_wait() -> None:
    async def scenario(clock: Clock, statistics: Statistics) -> None:
        batcher = make(clock, statistics)
        await asyncio.gather(*(batcher.submit(rows_of(1, 2, 3), deadline=FOREVER) for _ in range(2)))

    counted = go(scenario)
    assert counted.queue_s == pytest.approx(0.5)  # the second, while the first ran
    assert counted.answered_s == pytest.approx(0.5 + 1.0)
    assert counted.by_rows[3].batches == 2


def test_request_of_several_batches_counts_once_with_all_that_they_took() -> None:
    async def scenario(clock: Clock, statistics: Statistics) -> None:
        await make(clock, statistics).submit(rows_of(*range(10)), deadline=FOREVER)

    counted = go(scenario)
    assert (counted.answered, counted.rows) == (1, 10)
    assert counted.compute_s == pytest.approx(1.5)
    assert counted.answered_s == pytest.approx(1.5)
    assert {rows: sums.batches for rows, sums in counted.by_rows.items()} == {4: 2, 2: 1}


def test_failures_are_counted_and_callers_who_left_are_not() -> None:
    async def scenario(clock: Clock, statistics: Statistics) -> None:
        batcher = make(clock, statistics, max_queue_rows=5)
        poisoned = batcher.submit(rows_of(POISON), deadline=FOREVER)
        good = batcher.submit(rows_of(1), deadline=FOREVER)
        gone = batcher.submit(rows_of(2), deadline=FOREVER)
        with pytest.raises(Overloaded):
            batcher.submit(rows_of(1, 2, 3), deadline=FOREVER)
        gone.cancel()
        with pytest.raises(ModelRejectedInput):
            await poisoned
        await good

    counted = go(scenario)
    assert (counted.answered, counted.rows, counted.failed) == (1, 1, 2)
    assert counted.failed_s == pytest.approx(1.5)  # the batch, and its two rows apart; the other was refused at once
    assert {rows: sums.batches for rows, sums in counted.by_rows.items()} == {2: 1}


@pytest.mark.parametrize(
    ("wait_s", "error", "after_s"), [(1.0, DeadlineExceeded, 1.0), (0.25, ModelNotReady, 0.25)]
)  # fmt: skip
def test_who_is_late_or_put_out_counts_as_failed(wait_s: float, error: type[ServingError], after_s: float) -> None:
    async def scenario(clock: Clock, statistics: Statistics) -> None:
        batcher = make(clock, statistics)
        waiting = batcher.submit(rows_of(1), deadline=clock.now + 0.9)
        clock.now += wait_s
        if error is ModelNotReady:
            batcher.close("it is out")
        with pytest.raises(error):
            await waiting

    counted = go(scenario)
    assert (counted.answered, counted.failed) == (0, 1)
    assert counted.failed_s == pytest.approx(after_s)


def test_what_drains_answers_what_waits_and_refuses_what_comes() -> None:
    async def scenario(clock: Clock, statistics: Statistics) -> None:
        batcher = make(clock, statistics)
        waiting = [batcher.submit(rows_of(1, 2, 3), deadline=FOREVER) for _ in range(3)]
        batcher.drain("it is unloaded")
        with pytest.raises(ModelNotReady, match="it is unloaded"):
            batcher.submit(rows_of(1), deadline=FOREVER)
        with pytest.raises(ModelNotReady, match="it is unloaded"):
            batcher.expect_room(1)
        assert not batcher.is_idle
        await asyncio.gather(*waiting)
        assert batcher.is_idle

    assert go(scenario).answered == 3


def test_model_that_fails_while_it_drains_answers_who_waits() -> None:
    async def scenario(clock: Clock, statistics: Statistics) -> None:
        batcher = make(clock, statistics, is_well=lambda: False)
        waiting = [batcher.submit(rows_of(POISON, 2, 3), deadline=FOREVER) for _ in range(3)]
        batcher.drain("it is unloaded")
        answers = await asyncio.gather(*waiting, return_exceptions=True)
        assert {type(answer) for answer in answers} == {ModelNotReady}
        assert batcher.is_idle

    assert go(scenario).failed == 3
