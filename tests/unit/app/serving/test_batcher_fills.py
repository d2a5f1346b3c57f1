"""A batcher that waits for company, on the event loop that the service runs on."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import uvloop

from app.serving.batcher import Answer, Batcher
from app.tensors import Tensors
from tests.support.jobs import FOREVER

MAX_ROWS, WAIT_S = 4, 0.001


def double(inputs: Tensors) -> Tensors:
    time.sleep(0.005)
    return {"y": inputs["x"] * 2}


def test_a_batch_that_fills_as_its_wait_ends_is_run_once_and_everybody_is_answered() -> None:
    """uvloop looks at timers before it looks at what was called soon: both want to start the batch then."""

    async def scenario() -> list[float]:
        with ThreadPoolExecutor(1) as executor:
            batcher = Batcher(
                double, is_well=lambda: True, max_rows=MAX_ROWS, max_queue_rows=64, max_wait_s=WAIT_S, executor=executor
            )

            def submit(value: int) -> asyncio.Future[Answer]:
                return batcher.submit({"x": np.full((1, 1), value, np.float32)}, deadline=FOREVER)

            first = submit(0)  # its wait begins
            await asyncio.sleep(0)
            others = [submit(value) for value in range(1, 2 * MAX_ROWS)]
            time.sleep(3 * WAIT_S)  # noqa: ASYNC251  and ends before the loop looks again
            answers = await asyncio.wait_for(asyncio.gather(first, *others), 10)
            return [float(answer.outputs["y"][0, 0]) for answer in answers]

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(scenario()) == [2.0 * value for value in range(2 * MAX_ROWS)]
