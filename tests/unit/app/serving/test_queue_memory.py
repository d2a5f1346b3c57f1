"""What the requests that wait hold together is bounded, and given back whatever becomes of them."""

import asyncio
import random
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from app.errors import Limit, Overloaded, ServingError
from app.serving.batcher import Batcher, Job
from app.serving.jobs import FutureJob, Outcome
from app.serving.queue_memory import QueueMemory
from app.tensors import Tensors

FOREVER = float("inf")


def rows(number: int) -> Tensors:
    return {"x": np.zeros((number, 256), np.float32)}  # 1 KiB each


def job(number: int, done: list[Outcome]) -> Job:
    return Job(rows(number), number, deadline=FOREVER, on_done=done.append)


def test_requests_beyond_the_limit_are_refused_over_all_models_and_room_comes_back() -> None:
    async def scenario() -> None:
        entered, leave = threading.Event(), threading.Event()

        def run(tensors: Tensors) -> Tensors:
            entered.set()
            assert leave.wait(30)
            return tensors

        memory = QueueMemory(4 * 1024)
        with ThreadPoolExecutor(2) as executor:
            one, other = (
                Batcher(run, is_well=lambda: True, max_rows=1, max_queue_rows=100, executor=executor, memory=memory)
                for _ in range(2)
            )
            first = one.submit(rows(1), deadline=FOREVER)  # goes with the next batch, and is not counted
            assert memory.held_bytes == 0
            waiting = [batcher.submit(rows(1), deadline=FOREVER) for batcher in (one, one, other, other, other)]
            assert memory.held_bytes == 4 * 1024
            for batcher in (one, other):
                with pytest.raises(Overloaded, match=r"4096 of the 4096 bytes .*ZTO_MAX_QUEUE_BYTES") as caught:
                    batcher.submit(rows(1), deadline=FOREVER)
                assert caught.value.retry_after_s >= 0
                assert caught.value.limit == Limit("max_queue_bytes", 4096)
            waiting.pop(1).cancel()
            await asyncio.sleep(0)
            waiting.append(other.submit(rows(1), deadline=FOREVER))
            leave.set()
            await asyncio.gather(first, *waiting)
            assert memory.held_bytes == 0

    asyncio.run(asyncio.wait_for(scenario(), 30))


def test_one_request_alone_is_let_in_however_large_it_is() -> None:
    memory = QueueMemory(1024)
    done: list[Outcome] = []
    large = job(100, done)
    memory.hold(large, retry_after_s=1)
    with pytest.raises(Overloaded):
        memory.hold(job(1, done), retry_after_s=1)
    large.finish(ServingError("over"))
    assert memory.held_bytes == 0
    memory.hold(job(1, done), retry_after_s=1)


@pytest.mark.parametrize("seed", range(20))
def test_all_is_given_back_whatever_becomes_of_the_requests(seed: int) -> None:
    async def scenario() -> None:
        rng = random.Random(seed)
        memory = QueueMemory(2**20)
        done: list[Outcome] = []
        loop = asyncio.get_running_loop()
        jobs: list[Job] = []
        for _ in range(30):
            number = rng.randint(1, 5)
            if rng.random() < 0.5:
                jobs.append(job(number, done))
            else:
                future = loop.create_future()
                jobs.append(FutureJob(rows(number), number, deadline=FOREVER, future=future))
            memory.hold(jobs[-1], retry_after_s=1)
        assert memory.held_bytes == sum(each.rows for each in jobs) * 1024
        for each in rng.sample(jobs, len(jobs)):
            ends = rng.sample([each.cancel, lambda each=each: each.finish(ServingError("over"))], rng.randint(1, 2))  # type: ignore[misc]
            for end in ends:
                end()
        for each in jobs:
            if isinstance(each, FutureJob) and not each.future.cancelled():
                each.future.exception()
        await asyncio.sleep(0)
        assert memory.held_bytes == 0

    asyncio.run(scenario())
