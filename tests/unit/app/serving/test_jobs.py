"""A job is answered once, or not at all where its caller left; an answer is rows of a batch."""

import asyncio
import gc
import logging
import weakref

import numpy as np
import pytest

from app.errors import BackendFailed
from app.serving.jobs import Answer, Batch, FutureJob, Job, Outcome
from tests.support.jobs import FOREVER

BATCH = Batch({"y": np.arange(8).reshape(4, 2)}, 4, 0.5)
ANSWER = Answer(BATCH, 1, 3, 0.25)


def job(outcomes: list[Outcome]) -> Job:
    return Job({"x": np.zeros((2, 1))}, 2, deadline=FOREVER, on_done=outcomes.append)


def test_an_answer_is_its_rows_of_the_batch_as_views() -> None:
    assert ANSWER.outputs["y"].tolist() == [[2, 3], [4, 5]]
    assert np.shares_memory(ANSWER.outputs["y"], BATCH.outputs["y"])
    assert (ANSWER.queue_s, ANSWER.compute_s, ANSWER.batch_rows) == (0.25, 0.5, 4)


def test_a_job_is_answered_once() -> None:
    outcomes: list[Outcome] = []
    waiting = job(outcomes)
    assert not waiting.is_done
    waiting.finish(ANSWER)
    waiting.finish(BackendFailed("too late"))
    assert outcomes == [ANSWER]
    assert waiting.is_done


def test_a_canceled_job_is_not_answered() -> None:
    outcomes: list[Outcome] = []
    waiting = job(outcomes)
    waiting.cancel()
    waiting.finish(ANSWER)
    assert waiting.is_done
    assert outcomes == []


@pytest.mark.parametrize("error", [RuntimeError("ours"), asyncio.CancelledError()])
def test_what_a_callback_raises_is_logged_and_goes_no_further(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    def raises(_: Outcome) -> None:
        raise error

    waiting = Job({}, 1, deadline=FOREVER, on_done=raises)
    with caplog.at_level(logging.ERROR, logger="app.batcher"):
        waiting.finish(ANSWER)
    assert waiting.is_done
    assert "could not be delivered" in caplog.text


@pytest.mark.parametrize("leaves", [False, True])
def test_a_job_that_is_done_lets_go_of_its_caller(leaves: bool) -> None:
    class Caller:
        job: Job

        def on_done(self, outcome: Outcome) -> None:
            del outcome

    caller = Caller()
    caller.job = Job({}, 1, deadline=FOREVER, on_done=caller.on_done)
    gone = weakref.ref(caller)
    caller.job.cancel() if leaves else caller.job.finish(ANSWER)
    gc.disable()  # which would find the circle in its own time
    try:
        del caller
        assert gone() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("by_future", [False, True])
def test_the_job_of_a_future_is_canceled_with_it(by_future: bool) -> None:
    async def scenario() -> None:
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        waiting = FutureJob({}, 1, deadline=FOREVER, future=future)
        future.cancel() if by_future else waiting.cancel()
        assert future.cancelled()
        assert waiting.is_done
        waiting.finish(ANSWER)

    asyncio.run(scenario())


def test_the_job_of_a_future_answers_it() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        answered, failed = (
            FutureJob({}, 1, deadline=FOREVER, future=loop.create_future()) for _ in range(2)
        )  # fmt: skip
        answered.finish(ANSWER)
        failed.finish(BackendFailed("so it was"))
        assert await answered.future is ANSWER
        with pytest.raises(BackendFailed, match="so it was"):
            await failed.future

    asyncio.run(scenario())
