"""Who cannot be answered in time, or has no room, is told at the door; on a clock of the test's own."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.backends.dummy import Behavior, DummyBackend
from app.bundle.manifest import Manifest
from app.errors import DeadlineExceeded, ModelNotReady, ModelRejectedInput, Overloaded
from app.serving.batcher import Answer, Batcher
from app.serving.costs import CostModel
from app.serving.forecast import SWEEP_EVERY_S, TRUST_S, Forecast
from app.serving.jobs import Job, Outcome
from app.tensors import Tensors
from tests.support.bundles import manifest_document
from tests.support.jobs import FOREVER, SERIES
from tests.support.ragged import series

ROW_S = 0.010
OUTPUTS = Manifest.model_validate(manifest_document()).outputs


def images(rows: int, value: float = 1.0) -> Tensors:
    return {"image": np.full((rows, 2, 3), value, np.float32)}


class Bench(Executor):
    """A batcher of batches of four whose clock only its batches move, by 10 ms a row; a thread is let go by hand."""

    def __init__(self, *, on_thread: bool = False, behavior: dict[str, Any] | None = None, **changes: Any) -> None:
        self.now = 100.0
        self.row_s = ROW_S
        self.backend = DummyBackend(Behavior(**(behavior or {})), OUTPUTS)
        self._held: list[Callable[[], None]] = []
        self.batcher = Batcher(
            self.run,
            **(
                {
                    "is_well": lambda: True,
                    "max_rows": 4,
                    "max_queue_rows": 100,
                    "costs": CostModel(0.0, ROW_S, full_units=4),
                    "clock": lambda: self.now,
                    "executor": self if on_thread else None,
                }
                | changes
            ),
        )

    def run(self, inputs: Tensors) -> Tensors:
        rows = len(next(iter(inputs.values())))
        self.now += self.row_s * rows
        return self.backend.run(inputs)

    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> "Future[Any]":  # type: ignore[override]
        future: Future[Any] = Future()
        self._held.append(lambda: future.set_result(function(*arguments)))
        return future

    def let_go(self) -> None:
        if self._held:
            self._held.pop(0)()

    def send(self, rows: int = 1, *, within_s: float = FOREVER, client: str = "", value: float = 1.0) -> list[Outcome]:
        outcomes: list[Outcome] = []
        tensors = images(rows, value)
        self.batcher.enqueue(
            Job(tensors, rows, deadline=self.now + within_s, on_done=outcomes.append, client=client)
        )  # fmt: skip
        return outcomes


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def scenario(test: Callable[[], Any]) -> Callable[[], None]:
    """Run a coroutine function as a test."""

    def run() -> None:
        asyncio.run(asyncio.wait_for(test(), 30))

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


@scenario
async def test_who_cannot_be_answered_in_time_is_refused_and_told_when_to_come_back() -> None:
    bench = Bench()
    kept = [bench.send(4) for _ in range(5)]  # 200 ms
    with pytest.raises(Overloaded, match=r"150 ms are left, 20 rows wait before it, .* may take 410 ms") as refused:
        bench.send(within_s=0.150)
    assert refused.value.retry_after_s == pytest.approx(0.260)  # what waits ahead counts twice
    with pytest.raises(Overloaded):
        bench.batcher.expect_room(1, deadline=bench.now + 0.405)
    bench.batcher.expect_room(1, deadline=bench.now + 0.415)
    late = bench.send(within_s=0.415)
    await turns(10)
    assert all(isinstance(outcomes[0], Answer) for outcomes in (*kept, late))


@scenario
async def test_an_idle_model_takes_whoever_could_be_in_time() -> None:
    bench = Bench()
    for within_s in (0.006, 0.010, 1.0):  # a row takes 10 ms, as far as is known: none of these is hopeless
        assert bench.send(within_s=within_s) == []
        await turns()
    bench.now += TRUST_S / 2
    with pytest.raises(Overloaded, match="0 rows wait before it"):
        bench.send(within_s=0.004)


@scenario
async def test_an_idle_model_is_tried_again_when_what_it_cost_is_long_ago() -> None:
    bench = Bench()
    bench.row_s = 2.0  # it has become slow
    for _ in range(100):
        bench.send()
        await turns()
    assert bench.batcher.costs.seconds(1) > 1.0
    bench.row_s = ROW_S
    with pytest.raises(Overloaded):
        bench.send(within_s=0.1)
    answered = 0
    for _ in range(100):
        bench.now += TRUST_S * 1.01
        outcomes = bench.send(within_s=0.1)
        await turns()
        answered += isinstance(outcomes[0], Answer)
    assert answered == 100
    bench.send(within_s=0.1)  # and it is known to be fast again


@scenario
async def test_an_idle_model_is_tried_again_though_batches_of_another_size_have_run_just_now() -> None:
    bench = Bench()
    bench.row_s = 2.0  # it has become slow
    for _ in range(100):
        bench.send(4)
        await turns()
    bench.row_s = ROW_S
    with pytest.raises(Overloaded):
        bench.send(4, within_s=0.1)
    bench.now += TRUST_S * 1.01
    bench.send()  # which says nothing of a batch of four
    await turns()
    outcomes = bench.send(4, within_s=0.1)
    await turns()
    assert isinstance(outcomes[0], Answer)


@scenario
async def test_a_request_of_several_batches_is_judged_by_how_lately_a_full_one_has_run() -> None:
    bench = Bench()
    bench.send(4)
    await turns()
    with pytest.raises(Overloaded):
        bench.send(40, within_s=0.1)
    bench.now += TRUST_S * 1.01
    assert bench.send(40, within_s=0.1) == []
    await turns(20)


@scenario
async def test_a_request_that_is_late_already_is_no_matter_of_load() -> None:
    bench = Bench()
    outcomes = bench.send(within_s=-1.0)
    await turns()
    assert isinstance(outcomes[0], DeadlineExceeded)


@scenario
async def test_what_was_canceled_does_not_count_as_work_ahead() -> None:
    bench = Bench(max_queue_rows=1000)
    backlog = [Job(images(4), 4, deadline=FOREVER, on_done=lambda _: None) for _ in range(200)]
    for job in backlog:
        bench.batcher.enqueue(job)
    with pytest.raises(Overloaded):
        bench.send(within_s=0.2)
    for job in backlog:
        job.cancel()
    bench.now += SWEEP_EVERY_S * 1.01
    outcomes = bench.send(within_s=0.2)
    await turns()
    assert isinstance(outcomes[0], Answer)
    assert bench.backend.rows_per_call == [1]


@scenario
async def test_the_batch_that_runs_on_a_thread_is_counted_and_the_longer_the_later_it_is() -> None:
    bench = Bench(on_thread=True)
    bench.send(4)
    await turns()
    bench.batcher.expect_room(1, deadline=bench.now + 0.055)
    with pytest.raises(Overloaded):
        bench.batcher.expect_room(1, deadline=bench.now + 0.045)  # 40 ms of it, and 10 of its own
    bench.now += 0.030
    bench.batcher.expect_room(1, deadline=bench.now + 0.025)
    bench.now += 10.0  # it hangs
    with pytest.raises(Overloaded):
        bench.batcher.expect_room(1, deadline=bench.now + 5.0)
    bench.let_go()
    await turns()
    bench.batcher.expect_room(1, deadline=bench.now + 0.045)


def test_what_the_loop_does_between_batches_is_in_the_pace() -> None:
    forecast, now = Forecast(CostModel(0.0, ROW_S, full_units=4)), 0.0
    for _ in range(60):
        now += 0.1  # from end to end, where the call takes 40 ms
        forecast.end(4, 0.04, now, more=True)
    assert forecast.batches_s(40, 0) == pytest.approx(1.0, rel=0.05)
    assert forecast.costs.full_s == pytest.approx(0.04)
    for _ in range(60):
        now += 0.04
        forecast.end(4, 0.04, now, more=True)
    assert forecast.batches_s(40, 0) == pytest.approx(0.4, rel=0.05)


def test_a_pause_without_work_is_not_in_the_pace() -> None:
    forecast, now = Forecast(CostModel(0.0, ROW_S, full_units=4)), 0.0
    for _ in range(60):
        now += 100.0
        forecast.end(4, 0.04, now, more=False)
    assert forecast.batches_s(40, 0) == pytest.approx(0.4, rel=0.05)


def test_the_pace_of_an_overload_is_unlearned_by_batches_that_leave_nobody_waiting() -> None:
    forecast, now = Forecast(CostModel(0.0, ROW_S, full_units=4)), 0.0
    for _ in range(60):
        now += 0.12
        forecast.end(4, 0.04, now, more=True)
    assert forecast.easy_s == pytest.approx(3 * 0.12, rel=0.05)
    for _ in range(60):
        now += 1.0
        forecast.end(4, 0.04, now, more=False)
    assert forecast.batches_s(4, 0) == pytest.approx(0.04, rel=0.05)
    assert forecast.easy_s == pytest.approx(3 * 0.04, rel=0.05)


@scenario
async def test_a_batch_that_was_bisected_teaches_nothing() -> None:
    bench = Bench(behavior={"raise_on": 13.0})
    before_s = bench.batcher.costs.seconds(4)
    outcomes = [bench.send(value=value) for value in (1.0, 13.0, 2.0, 3.0)]
    await turns()
    assert [type(one[0]) for one in outcomes] == [Answer, ModelRejectedInput, Answer, Answer]
    assert len(bench.backend.rows_per_call) > 1
    assert bench.batcher.costs.seconds(4) == before_s


@scenario
async def test_the_elements_of_what_waits_are_counted_where_rows_have_lengths() -> None:
    bench = Bench(costs=CostModel(0.0, 0.001, row_units=10, full_units=400), inputs=SERIES)
    bench.backend.run = lambda inputs: {"y": inputs["series"][:, 0]}  # type: ignore[method-assign]
    for length in (100, 100, 100):
        bench.batcher.submit(series([length]), deadline=FOREVER)
    with pytest.raises(Overloaded, match="may take 650 ms"):
        bench.batcher.submit(series([50]), deadline=bench.now + 0.64)
    await bench.batcher.submit(series([50]), deadline=bench.now + 0.66)


@scenario
async def test_rows_so_long_that_a_batch_holds_few_of_them_are_forecast_though_few_rows_wait() -> None:
    bench = Bench(
        costs=CostModel(0.0, 0.001, row_units=10, full_units=400), max_rows=32, max_elements=400, inputs=SERIES
    )  # fmt: skip
    bench.backend.run = lambda inputs: {"y": inputs["series"][:, 0]}  # type: ignore[method-assign]
    answers = [bench.batcher.submit(series([200]), deadline=FOREVER) for _ in range(2)]  # 0.4 s, as any full batch
    answers.append(bench.batcher.submit(series([200]), deadline=bench.now + 3 * 0.4))
    for _ in range(7):
        answers.append(bench.batcher.submit(series([200]), deadline=FOREVER))
    with pytest.raises(Overloaded, match="10 rows wait before it"):  # 2 s, and counted twice
        bench.batcher.submit(series([200]), deadline=bench.now + 3.5 * 0.4)
    with pytest.raises(Overloaded, match="10 rows wait before it"):
        bench.batcher.expect_room(1, deadline=bench.now + 3.5 * 0.4)
    await asyncio.gather(*answers)


@scenario
async def test_a_light_client_is_let_in_and_answered_where_a_greedy_one_is_refused() -> None:
    bench = Bench(max_queue_rows=40)
    greedy = [bench.send(client="greedy") for _ in range(40)]
    with pytest.raises(Overloaded, match="40 rows wait already"):
        bench.send(client="greedy")
    light = bench.send(client="light", within_s=0.2)  # behind 40 rows it would take 400 ms
    assert isinstance(greedy[-1][0], Overloaded)
    assert "share" in str(greedy[-1][0])
    await turns(3)
    assert isinstance(light[0], Answer)
    await turns(20)
    assert sum(isinstance(outcomes[0], Answer) for outcomes in greedy) == 39


@pytest.mark.parametrize("between_s", [0.0, 0.030], ids=["model only", "and as much work between batches"])
@pytest.mark.parametrize("guess", [0.5, 1.0, 3.0], ids="the cost is known {} fold".format)
def test_at_twice_capacity_the_model_is_kept_busy_and_nearly_nobody_waits_in_vain(
    between_s: float, guess: float
) -> None:
    async def run() -> None:
        bench = Bench(costs=CostModel(0.0, guess * ROW_S, full_units=4), max_queue_rows=4096)
        started_at = bench.now
        row_s = ROW_S + between_s / 4
        due, answers, late = bench.now, list[list[Outcome]](), 0
        while bench.now < started_at + 60:
            while due <= bench.now:  # who came while the loop was busy; the clock of the caller began then
                with suppress(Overloaded):
                    answers.append(bench.send(within_s=due + 0.5 - bench.now))
                due += row_s / 2
            batches = len(bench.backend.rows_per_call)
            await turns(1)
            if len(bench.backend.rows_per_call) > batches:
                bench.now += between_s
            else:
                bench.now = max(bench.now, due)
        answered = sum(bool(outcomes) and isinstance(outcomes[0], Answer) for outcomes in answers)
        late = sum(bool(outcomes) and isinstance(outcomes[0], DeadlineExceeded) for outcomes in answers)
        assert answered * row_s >= 0.95 * 60
        assert late <= 0.02 * answered

    asyncio.run(asyncio.wait_for(run(), 60))


@scenario
async def test_the_door_refuses_whom_the_queue_would_refuse() -> None:
    bench = Bench(max_queue_rows=8)
    for _ in range(2):
        bench.send(4)
    with pytest.raises(Overloaded, match="8 rows wait already, at most 8"):
        bench.batcher.expect_room(1)
    bench.batcher.close("the end")
    with pytest.raises(ModelNotReady, match="the end"):
        bench.batcher.expect_room(1)


@pytest.mark.parametrize("on_thread", [False, True])
@settings(max_examples=100, deadline=None)
@given(
    plan=st.lists(
        st.tuples(
            st.sampled_from(["a", "b", "c"]),
            st.integers(1, 9),  # rows
            st.sampled_from([FOREVER, FOREVER, 1.0, 0.1, 0.02, -1.0]),
            st.sampled_from([1.0, 1.0, 1.0, 13.0, 14.0]),  # raises on 13, NaN on 14
            st.sampled_from(["stays", "stays", "leaves"]),
            st.integers(0, 2),  # turns until the next
        ),
        max_size=40,
    )
)
def test_everyone_is_answered_or_refused_exactly_once(
    on_thread: bool, plan: list[tuple[str, int, float, float, str, int]]
) -> None:
    async def run() -> None:
        bench = Bench(on_thread=on_thread, max_queue_rows=30, behavior={"raise_on": 13.0, "nan_on": 14.0})
        jobs: list[tuple[Job, list[Outcome], float, str]] = []
        for client, rows, within_s, value, then, pause in plan:
            outcomes: list[Outcome] = []
            deadline = bench.now + within_s
            job = Job(images(rows, value), rows, deadline=deadline, on_done=outcomes.append, client=client)
            with suppress(Overloaded):
                bench.batcher.enqueue(job)
                jobs.append((job, outcomes, value, then))
            if then == "leaves":
                job.cancel()
            await turns(pause)
            bench.let_go()
        await finished(bench)
        for job, outcomes, value, then in jobs:
            assert job.is_done
            assert len(outcomes) == (0 if then == "leaves" else 1)
            if outcomes and isinstance(outcomes[0], Answer):
                assert value == 1.0
                assert len(outcomes[0].outputs["logits"]) == job.rows

    asyncio.run(asyncio.wait_for(run(), 30))


async def finished(bench: Bench) -> None:
    for _ in range(300):
        await turns(1)
        bench.let_go()
    assert bench.batcher.is_idle
    assert bench.batcher.waiting_rows == 0
