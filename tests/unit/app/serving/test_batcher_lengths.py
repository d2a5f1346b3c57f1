"""Rows of different lengths share batches, and nobody's answer knows whose."""

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import ModelRejectedInput
from app.serving.batcher import Answer, Batcher
from app.serving.isolation import BatchResult
from app.tensors import LENGTHS, Tensors
from tests.support.jobs import FOREVER, GRIDS, SERIES, grid
from tests.support.ragged import row_sums, series

POISON = -7.0


class Sums:
    """A backend that sums the real part of every row, raises on poison, and looks at what it is given."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, int]] = []

    def __call__(self, inputs: Tensors) -> Tensors:
        series_BTC, lengths_B = inputs["series"], inputs[LENGTHS]
        assert series_BTC.shape[1] == lengths_B.max(), "padded further than the longest row"
        is_padding_BT = np.arange(series_BTC.shape[1]) >= lengths_B[:, None]
        assert not series_BTC[is_padding_BT].any(), "padded with something"
        assert (series_BTC[~is_padding_BT] != 0).all(), "a step was lost"
        self.shapes.append(series_BTC.shape[:2])
        if (series_BTC == POISON).any():
            raise RuntimeError("poison")
        return {"sum": np.array(row_sums(inputs))}


def go(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(scenario, 30))


@dataclass(frozen=True)
class Arrival:
    lengths: list[int]
    poisoned_row: int | None
    needless_padding: int
    cancel_after_turns: int | None
    pause_turns: int


arrivals = st.builds(
    Arrival,
    lengths=st.lists(st.integers(1, 15), min_size=1, max_size=7),
    poisoned_row=st.sampled_from([None, None, None, 0, 1]),
    needless_padding=st.sampled_from([0, 0, 3]),
    cancel_after_turns=st.one_of(st.none(), st.integers(0, 3)),
    pause_turns=st.integers(0, 2),
)


def tensors_of(arrival: Arrival, start: int) -> Tensors:
    tensors = series(arrival.lengths, start=start)
    if arrival.poisoned_row is not None and arrival.poisoned_row < len(arrival.lengths):
        tensors["series"][arrival.poisoned_row, 0] = POISON
    padding = ((0, 0), (0, arrival.needless_padding), (0, 0))
    return tensors | {"series": np.pad(tensors["series"], padding)}


@pytest.mark.parametrize("on_thread", [False, True])
@settings(max_examples=100, deadline=None)
@given(
    plan=st.lists(arrivals, max_size=20),
    max_rows=st.integers(1, 8),
    max_elements=st.one_of(st.none(), st.integers(1, 60)),
    max_wait_s=st.sampled_from([0.0, 0.001]),
    length_buckets=st.booleans(),
)
def test_every_answer_is_the_one_that_the_row_gets_alone(
    on_thread: bool,
    plan: list[Arrival],
    max_rows: int,
    max_elements: int | None,
    max_wait_s: float,
    length_buckets: bool,
) -> None:
    async def scenario() -> None:
        sums, results = Sums(), list[BatchResult]()
        executor = ThreadPoolExecutor(1) if on_thread else None
        batcher = Batcher(
            sums, is_well=lambda: True, max_rows=max_rows, max_queue_rows=1000, max_elements=max_elements,
            inputs=SERIES, max_wait_s=max_wait_s, executor=executor, on_batch=lambda _, result: results.append(result),
            length_buckets=length_buckets,
        )  # fmt: skip
        pending: list[tuple[Arrival, Tensors, asyncio.Future[Answer]]] = []
        for index, arrival in enumerate(plan):
            tensors = tensors_of(arrival, start=1 + 300 * index)
            future = batcher.submit(tensors, deadline=FOREVER)
            pending.append((arrival, tensors, future))
            if arrival.cancel_after_turns is not None:
                asyncio.get_running_loop().create_task(_cancel_later(future, arrival.cancel_after_turns))
            for _ in range(arrival.pause_turns):
                await asyncio.sleep(0)
        answers = await asyncio.gather(*(future for _, _, future in pending), return_exceptions=True)
        for (arrival, tensors, _), answer in zip(pending, answers, strict=True):
            check_answer(arrival, tensors, answer)
        for _ in range(1000):  # what was cancelled is dropped in a turn of its own, or runs on the thread to its end
            if batcher.is_idle:
                break
            await asyncio.sleep(0.01)
        assert batcher.is_idle
        assert batcher.waiting_rows == 0
        for rows, longest in sums.shapes:
            assert rows <= max_rows
            assert max_elements is None or rows == 1 or rows * longest <= max_elements
        assert all(0 <= result.padding_elements < result.elements for result in results)
        if executor is not None:
            executor.shutdown()

    go(scenario())


async def _cancel_later(future: "asyncio.Future[Answer]", turns: int) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)
    future.cancel()


def check_answer(arrival: Arrival, tensors: Tensors, answer: Answer | BaseException) -> None:
    is_poisoned = bool((tensors["series"] == POISON).any())
    if isinstance(answer, asyncio.CancelledError):
        assert arrival.cancel_after_turns is not None
    elif isinstance(answer, ModelRejectedInput):
        assert "poison" in str(answer)
        assert answer.rows == (arrival.poisoned_row,)  # its place in the request, whatever order its rows ran in
    else:
        assert isinstance(answer, Answer)
        assert answer.outputs["sum"].tolist() == row_sums(tensors)
        assert not is_poisoned


def test_without_buckets_requests_are_answered_in_the_order_in_which_they_came() -> None:
    async def scenario() -> None:
        done: list[int] = []
        batcher = Batcher(
            Sums(), is_well=lambda: True, max_rows=3, max_queue_rows=100, max_elements=12, inputs=SERIES,
            length_buckets=False,
        )  # fmt: skip
        futures = [batcher.submit(series([n]), deadline=FOREVER) for n in (2, 12, 1, 50, 4, 4, 4, 5, 1)]
        for index, future in enumerate(futures):
            future.add_done_callback(lambda _, index=index: done.append(index))
        await asyncio.gather(*futures)
        assert done == list(range(9))

    go(scenario())


def test_what_gathers_while_a_batch_runs_is_counted_with_its_padding() -> None:
    async def scenario() -> None:
        entered, hold, results = threading.Event(), threading.Event(), list[BatchResult]()

        def run(inputs: Tensors) -> Tensors:
            entered.set()
            assert hold.wait(10)
            return {"sum": np.array(row_sums(inputs))}

        with ThreadPoolExecutor(1) as executor:
            batcher = Batcher(
                run, is_well=lambda: True, max_rows=8, max_queue_rows=100, inputs=SERIES, executor=executor,
                on_batch=lambda _, result: results.append(result),
            )  # fmt: skip
            futures = [batcher.submit(series([6]), deadline=FOREVER)]
            await asyncio.to_thread(entered.wait, 10)
            futures += [batcher.submit(series(lengths), deadline=FOREVER) for lengths in ([5, 1], [9])]
            hold.set()
            await asyncio.gather(*futures)
        assert [(result.elements, result.padding_elements) for result in results] == [(6, 0), (10, 4), (9, 0)]

    go(scenario())


def test_a_batch_that_is_full_by_its_elements_does_not_wait_for_more_company() -> None:
    async def scenario() -> None:
        sums = Sums()
        batcher = Batcher(
            sums, is_well=lambda: True, max_rows=99, max_queue_rows=100, max_elements=10, inputs=SERIES,
            max_wait_s=3600.0,
        )  # fmt: skip
        futures = [batcher.submit(series([n]), deadline=FOREVER) for n in (4, 5, 1)]
        assert [(await future).outputs["sum"].shape for future in futures[:2]] == [(1,)] * 2
        assert sums.shapes == [(2, 5)]
        assert not futures[2].done()
        batcher.close("the end")
        await asyncio.wait(futures)
        assert futures[2].exception() is not None

    go(scenario())


def test_rows_of_other_shapes_run_in_batches_of_their_own() -> None:
    async def scenario() -> None:
        shapes: list[tuple[int, ...]] = []

        def run(inputs: Tensors) -> Tensors:
            shapes.append(inputs["grid"].shape)
            return {"twice": inputs["grid"] * 2}

        batcher = Batcher(run, is_well=lambda: True, max_rows=4, max_queue_rows=100, inputs=GRIDS)
        wanted = [(1, 1), (2, 1), (1, 1), (2, 2), (2, 1)]
        answers = await asyncio.gather(*(batcher.submit(grid(*shape), deadline=FOREVER) for shape in wanted))
        assert [answer.outputs["twice"].shape[1::2] for answer in answers] == wanted
        assert shapes == [(2, 1, 3, 1), (2, 2, 3, 1), (1, 2, 3, 2)]

    go(scenario())
