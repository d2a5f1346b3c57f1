"""A backend or a row that fails, and defects of ours: everyone is answered, and the neighbors rightly."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from app.errors import BackendFailed, ModelNotReady, ModelRejectedInput
from app.serving.batcher import Answer
from app.tensors import Tensors
from tests.support.doubling import POISON, Double, go, make, rows_of
from tests.support.jobs import FOREVER


def test_poison_row_fails_alone_and_is_named_by_its_place_in_the_request() -> None:
    async def scenario() -> None:
        batcher = make(Double(), max_rows=8)
        good = batcher.submit(rows_of(1, 2), deadline=FOREVER)
        bad = batcher.submit(rows_of(3, POISON, 4), deadline=FOREVER)
        also_good = batcher.submit(rows_of(5), deadline=FOREVER)
        with pytest.raises(ModelRejectedInput, match="poison") as rejected:
            await bad
        assert rejected.value.rows == (1,)
        assert (await good).outputs["y"].ravel().tolist() == [2, 4]
        assert (await also_good).outputs["y"].item() == 10

    go(scenario())


def test_poison_row_in_a_later_part_of_a_large_request_is_named_by_its_place() -> None:
    async def scenario() -> None:
        values = [1.0] * 11
        values[9] = POISON
        with pytest.raises(ModelRejectedInput) as rejected:
            await make(Double()).submit(rows_of(*values), deadline=FOREVER)
        assert rejected.value.rows == (9,)

    go(scenario())


def test_model_that_fails_its_golden_rows_leaves_and_answers_nobody() -> None:
    async def scenario() -> None:
        double, reasons = Double(), list[str]()
        double.is_broken = True
        batcher = make(double, is_well=lambda: False, on_sick=reasons.append)
        futures = [batcher.submit(rows_of(i), deadline=FOREVER) for i in range(9)]
        answers = await asyncio.gather(*futures, return_exceptions=True)
        assert all(isinstance(answer, ModelNotReady) for answer in answers)
        assert double.rows_per_call == [4]  # neither bisected nor tried again
        assert len(reasons) == 1
        with pytest.raises(ModelNotReady, match="golden rows fail"):
            batcher.submit(rows_of(1), deadline=FOREVER)

    go(scenario())


@pytest.mark.parametrize("outputs", [{"y": np.zeros((1, 1))}, {"y": np.zeros((3, 1))}, {}, {"y": np.array(1.0)}, None])
def test_wrong_number_of_rows_is_a_failure_and_never_somebody_elses_answer(outputs: Any) -> None:
    async def scenario() -> None:
        batcher = make(lambda inputs: outputs)
        futures = [batcher.submit(rows_of(i, i), deadline=FOREVER) for i in range(2)]
        answers = await asyncio.gather(*futures, return_exceptions=True)
        # one row for one row is all that such a backend may be believed, and that is checked row by row
        assert all(isinstance(a, ModelRejectedInput | Answer) for a in answers)
        assert all(isinstance(a, ModelRejectedInput) for a in answers) or len(outputs["y"]) == 1

    go(scenario())


def test_numbers_that_are_not_finite_are_a_failure_of_their_row() -> None:
    def run(inputs: Tensors) -> Tensors:
        return {"y": np.where(inputs["x"] == POISON, np.nan, inputs["x"])}

    async def scenario() -> None:
        batcher = make(run)
        good, bad = (batcher.submit(rows_of(v), deadline=FOREVER) for v in (1, POISON))
        with pytest.raises(ModelRejectedInput, match="NaN"):
            await bad
        assert (await good).outputs["y"].item() == 1

    go(scenario())


def test_defect_of_ours_in_a_batch_is_answered_too() -> None:
    def is_well() -> bool:
        raise KeyError("ours")

    async def scenario() -> None:
        batcher = make(Double(), is_well=is_well)
        with pytest.raises(BackendFailed, match="KeyError"):
            await batcher.submit(rows_of(POISON), deadline=FOREVER)
        assert (await batcher.submit(rows_of(1), deadline=FOREVER)).outputs["y"].item() == 2

    go(scenario())


def test_requests_that_cannot_be_joined_are_answered_and_the_next_is_served() -> None:
    async def scenario() -> None:
        batcher = make(Double())
        odd = [batcher.submit({"x": np.zeros((1, columns))}, deadline=FOREVER) for columns in (1, 2)]
        answers = await asyncio.gather(*odd, return_exceptions=True)
        assert all(isinstance(answer, BackendFailed) for answer in answers)
        assert (await batcher.submit(rows_of(1), deadline=FOREVER)).outputs["y"].item() == 2

    go(scenario())


def test_executor_that_was_shut_down_is_answered() -> None:
    async def scenario() -> None:
        executor = ThreadPoolExecutor(1)
        executor.shutdown()
        with pytest.raises(BackendFailed, match="shutdown"):
            await make(Double(), executor=executor).submit(rows_of(1), deadline=FOREVER)

    go(scenario())
