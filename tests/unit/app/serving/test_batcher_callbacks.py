"""Callers who are called back: in the step in which their batch is settled, whatever they do then."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import DeadlineExceeded, ModelNotReady, ModelRejectedInput, Overloaded
from app.serving.batcher import Batcher
from app.serving.jobs import Answer, Job, Outcome
from app.tensors import Tensors
from tests.support.jobs import FOREVER

POISON = 13.0


def run(inputs: Tensors) -> Tensors:
    if (inputs["x"] == POISON).any():
        raise RuntimeError("poison")
    return {"y": inputs["x"] * 2}


def job(values: list[float], on_done: Callable[[Outcome], None], **changes: Any) -> Job:
    tensors = {"x": np.array(values, np.float32)[:, None]}
    return Job(tensors, len(values), **({"deadline": FOREVER, "on_done": on_done} | changes))


def make(**changes: Any) -> Batcher:
    return Batcher(run, **({"is_well": lambda: True, "max_rows": 4, "max_queue_rows": 100} | changes))


def values_of(outcome: Outcome) -> list[float]:
    assert isinstance(outcome, Answer)
    values: list[float] = outcome.outputs["y"].ravel().tolist()
    return values


async def idle(batcher: Batcher) -> None:
    for _ in range(10_000):
        if batcher.is_idle:
            return
        await asyncio.sleep(0)
    raise AssertionError("it never ends")


def test_all_callers_of_a_batch_are_called_in_one_step_of_the_loop_and_share_what_they_work_out() -> None:
    async def scenario() -> None:
        batcher, steps, outcomes = make(), list[int](), list[Outcome]()
        step = 0

        async def count_steps() -> None:
            nonlocal step
            for step in range(10):  # noqa: B007  # read by the callbacks
                await asyncio.sleep(0)

        def on_done(outcome: Outcome) -> None:
            assert isinstance(outcome, Answer)
            outcome.batch.memo.setdefault("doubled", []).append(outcome.start)
            steps.append(step)
            outcomes.append(outcome)

        for value in (1.0, 2.0, 3.0):
            batcher.enqueue(job([value], on_done))
        assert outcomes == []
        await asyncio.gather(count_steps(), idle(batcher))
        assert len(set(steps)) == 1
        batches = {id(outcome.batch) for outcome in outcomes if isinstance(outcome, Answer)}
        assert len(batches) == 1
        assert isinstance(outcomes[0], Answer)
        assert outcomes[0].batch.memo == {"doubled": [0, 1, 2]}
        assert outcomes[0].batch.outputs["y"].ravel().tolist() == [2, 4, 6]

    asyncio.run(scenario())


def test_a_request_of_several_parts_has_a_batch_of_its_own() -> None:
    async def scenario() -> None:
        batcher, outcomes = make(), list[Outcome]()
        batcher.enqueue(job([1, 2, 3, 4, 5, 6], outcomes.append))
        batcher.enqueue(job([7], outcomes.append))
        await idle(batcher)
        large = next(outcome for outcome in outcomes if isinstance(outcome, Answer) and outcome.stop == 6)
        assert (large.start, large.batch_rows) == (0, 3)  # the last two of its rows ran beside the other request
        assert large.batch.outputs["y"].ravel().tolist() == [2, 4, 6, 8, 10, 12]

    asyncio.run(scenario())


def test_a_callback_that_raises_leaves_its_neighbors_answered(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        batcher, outcomes = make(), list[Outcome]()

        def raises(_: Outcome) -> None:
            raise ValueError("ours")

        for on_done in (outcomes.append, raises, outcomes.append):
            batcher.enqueue(job([1.0], on_done))
        await idle(batcher)
        assert [values_of(outcome) for outcome in outcomes] == [[2.0], [2.0]]

    asyncio.run(scenario())
    assert "could not be delivered" in caplog.text


def test_a_canceled_job_is_dropped_before_it_is_run() -> None:
    async def scenario() -> None:
        rows: list[int] = []
        batcher = make(on_batch=lambda count, _: rows.append(count))
        outcomes: list[Outcome] = []
        jobs = [job([float(value)], outcomes.append) for value in range(3)]
        for waiting in jobs:
            batcher.enqueue(waiting)
        jobs[1].cancel()
        await idle(batcher)
        assert [values_of(outcome) for outcome in outcomes] == [[0.0], [4.0]]
        assert rows == [2]

    asyncio.run(scenario())


def test_what_a_callback_queues_is_run_in_a_later_turn() -> None:
    async def scenario() -> None:
        batcher, outcomes = make(clock=lambda: 10.0), list[Outcome]()

        def queue_another(outcome: Outcome) -> None:
            outcomes.append(outcome)
            batcher.enqueue(job([5.0], outcomes.append))

        batcher.enqueue(job([1.0], queue_another))
        await idle(batcher)
        batcher.enqueue(job([2.0], queue_another, deadline=9.0))  # answered by the turn that finds nothing to run
        await idle(batcher)
        assert isinstance(outcomes[2], DeadlineExceeded)
        assert [values_of(outcome) for outcome in (*outcomes[:2], outcomes[3])] == [[2.0], [10.0], [10.0]]

    asyncio.run(scenario())


def test_a_callback_may_close_the_batcher() -> None:
    async def scenario() -> None:
        batcher, outcomes = make(max_rows=1), list[Outcome]()

        def close(outcome: Outcome) -> None:
            outcomes.append(outcome)
            batcher.close("closed by a callback")

        batcher.enqueue(job([1.0], close))
        batcher.enqueue(job([2.0], outcomes.append))
        await idle(batcher)
        assert values_of(outcomes[0]) == [2.0]
        assert isinstance(outcomes[1], ModelNotReady)

    asyncio.run(scenario())


@dataclass
class Caller:
    """Queues a job, and does something when it is answered."""

    values: list[float]
    deadline: float
    then: str
    outcomes: list[Outcome] = field(default_factory=list)

    def enqueue(self, batcher: Batcher, everyone: "list[Caller]") -> None:
        def on_done(outcome: Outcome) -> None:
            self.outcomes.append(outcome)
            if self.then == "queues another":
                Caller([2.0], FOREVER, "answers").enqueue(batcher, everyone)
            elif self.then == "raises":
                raise ValueError("ours")
            elif self.then == "cancels the first":
                everyone[0].job.cancel()

        self.job = job(self.values, on_done, deadline=self.deadline)
        try:
            batcher.enqueue(self.job)
        except Overloaded:
            return
        everyone.append(self)
        if self.then == "leaves":
            self.job.cancel()

    def check(self, may_be_canceled: bool) -> None:
        assert self.job.is_done
        assert len(self.outcomes) <= 1
        outcome = self.outcomes[0] if self.outcomes else None
        if outcome is None:
            assert self.then == "leaves" or may_be_canceled
        elif isinstance(outcome, DeadlineExceeded):
            assert self.deadline < 0
        elif isinstance(outcome, ModelRejectedInput):
            assert POISON in self.values
        else:
            assert values_of(outcome) == [2 * value for value in self.values]


callers = st.builds(
    Caller,
    values=st.lists(st.sampled_from([1.0, 2.0, 3.0, POISON]), min_size=1, max_size=9),
    deadline=st.sampled_from([FOREVER, FOREVER, FOREVER, -1.0]),
    then=st.sampled_from(["answers", "queues another", "raises", "leaves", "cancels the first"]),
)


@settings(max_examples=150, deadline=None)
@given(plan=st.lists(callers, min_size=1, max_size=20), max_rows=st.integers(1, 6))
def test_every_job_is_answered_exactly_once_whatever_the_callbacks_do(plan: list[Caller], max_rows: int) -> None:
    async def scenario() -> None:
        batcher, everyone = make(max_rows=max_rows), list[Caller]()
        for caller in plan:
            caller.outcomes.clear()
            caller.enqueue(batcher, everyone)
        await idle(batcher)
        for caller in everyone:
            caller.check(may_be_canceled=caller is everyone[0])

    asyncio.run(asyncio.wait_for(scenario(), 30))
