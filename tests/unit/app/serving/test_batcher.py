"""The batcher answers everyone, rightly, whatever comes in whatever order."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import DeadlineExceeded, ModelNotReady, ModelRejectedInput, Overloaded
from app.serving.batcher import Answer
from tests.support.doubling import POISON, Double, go, make, rows_of
from tests.support.jobs import FOREVER


def test_lone_request_is_answered_alone_and_at_once() -> None:
    async def scenario() -> None:
        double = Double()
        answer = await make(double).submit(rows_of(1, 2), deadline=FOREVER)
        assert answer.outputs["y"].ravel().tolist() == [2, 4]
        assert answer.batch_rows == 2
        assert double.rows_per_call == [2]

    go(scenario())


def test_requests_of_one_tick_share_a_batch_up_to_max_rows() -> None:
    async def scenario() -> None:
        double = Double()
        batcher = make(double)
        answers = await asyncio.gather(*(batcher.submit(rows_of(i), deadline=FOREVER) for i in range(6)))
        assert [answer.outputs["y"].item() for answer in answers] == [0, 2, 4, 6, 8, 10]
        assert double.rows_per_call == [4, 2]
        assert [answer.batch_rows for answer in answers] == [4, 4, 4, 4, 2, 2]

    go(scenario())


def test_what_comes_while_a_batch_runs_gathers_for_the_next() -> None:
    async def scenario() -> None:
        double = Double()
        double.hold = threading.Event()
        with ThreadPoolExecutor(1) as executor:
            batcher = make(double, executor=executor)
            first = batcher.submit(rows_of(1), deadline=FOREVER)
            await asyncio.to_thread(double.entered.wait, 10)
            later = [batcher.submit(rows_of(i), deadline=FOREVER) for i in (2, 3)]
            double.hold.set()
            assert [a.outputs["y"].item() for a in await asyncio.gather(first, *later)] == [2, 4, 6]
        assert double.rows_per_call == [1, 2]

    go(scenario())


def test_request_of_more_rows_than_a_batch_is_split_and_joined_in_order() -> None:
    async def scenario() -> None:
        double = Double()
        answer = await make(double).submit(rows_of(*range(20, 30)), deadline=FOREVER)
        assert answer.outputs["y"].ravel().tolist() == [2 * i for i in range(20, 30)]
        assert double.rows_per_call == [4, 4, 2]

    go(scenario())


def test_large_request_takes_turns_with_small_ones() -> None:
    async def scenario() -> None:
        done: list[str] = []
        batcher = make(Double())
        large = batcher.submit(rows_of(*[1.0] * 40), deadline=FOREVER)
        small = batcher.submit(rows_of(2), deadline=FOREVER)
        large.add_done_callback(lambda _: done.append("large"))
        small.add_done_callback(lambda _: done.append("small"))
        await asyncio.gather(large, small)
        assert done == ["small", "large"]

    go(scenario())


def test_request_that_fits_a_batch_is_not_torn_in_two() -> None:
    async def scenario() -> None:
        double = Double()
        batcher = make(double)
        await asyncio.gather(*(batcher.submit(rows_of(1, 2, 3), deadline=FOREVER) for _ in range(2)))
        assert double.rows_per_call == [3, 3]

    go(scenario())


def test_full_queue_refuses_at_once_and_says_when_to_come_back() -> None:
    async def scenario() -> None:
        batcher = make(Double(), max_queue_rows=5)
        await batcher.submit(rows_of(1), deadline=FOREVER)  # so that the cost of a row is known
        kept = batcher.submit(rows_of(1, 2, 3, 4), deadline=FOREVER)
        with pytest.raises(Overloaded, match="4 rows wait already, at most 5") as refused:
            batcher.submit(rows_of(5, 6), deadline=FOREVER)
        assert refused.value.retry_after_s > 0
        await kept
        assert (await batcher.submit(rows_of(5, 6), deadline=FOREVER)).outputs["y"].shape == (2, 1)

    go(scenario())


def test_rows_of_callers_who_left_do_not_fill_the_queue() -> None:
    async def scenario() -> None:
        double = Double()
        batcher = make(double, max_queue_rows=4)
        gone = batcher.submit(rows_of(1, 2, 3, 4), deadline=FOREVER)
        gone.cancel()
        assert (await batcher.submit(rows_of(7), deadline=FOREVER)).outputs["y"].item() == 14
        assert double.rows_per_call == [1]

    go(scenario())


def test_cancelled_caller_is_not_run_and_leaves_batch_mates_answered() -> None:
    async def scenario() -> None:
        double = Double()
        batcher = make(double)
        futures = [batcher.submit(rows_of(i), deadline=FOREVER) for i in range(3)]
        futures[1].cancel()
        answers = await asyncio.gather(*futures, return_exceptions=True)
        assert isinstance(answers[1], asyncio.CancelledError)
        assert [a.outputs["y"].item() for a in answers if isinstance(a, Answer)] == [0, 4]
        assert double.rows_per_call == [2]

    go(scenario())


def test_caller_who_leaves_while_the_batch_runs_disturbs_nobody() -> None:
    async def scenario() -> None:
        double = Double()
        double.hold = threading.Event()
        with ThreadPoolExecutor(1) as executor:
            batcher = make(double, executor=executor)
            leaver, stayer = (batcher.submit(rows_of(i), deadline=FOREVER) for i in (1, 2))
            await asyncio.to_thread(double.entered.wait, 10)
            leaver.cancel()
            double.hold.set()
            assert (await stayer).outputs["y"].item() == 4

    go(scenario())


def test_close_answers_what_waits_and_finishes_what_runs() -> None:
    async def scenario() -> None:
        double = Double()
        double.hold = threading.Event()
        with ThreadPoolExecutor(1) as executor:
            batcher = make(double, executor=executor)
            running = batcher.submit(rows_of(1), deadline=FOREVER)
            await asyncio.to_thread(double.entered.wait, 10)
            waiting = batcher.submit(rows_of(2), deadline=FOREVER)
            batcher.close("leaving")
            batcher.close("twice is once")
            with pytest.raises(ModelNotReady, match="leaving"):
                await waiting
            assert not batcher.is_idle
            double.hold.set()
            assert (await running).outputs["y"].item() == 2
            assert batcher.is_idle

    go(scenario())


def test_max_wait_lets_an_idle_runner_gather_and_a_full_batch_not_wait() -> None:
    async def scenario() -> None:
        double = Double()
        batcher = make(double, max_wait_s=3600.0)
        first = batcher.submit(rows_of(1), deadline=FOREVER)
        await asyncio.sleep(0)
        assert double.rows_per_call == []
        rest = [batcher.submit(rows_of(i), deadline=FOREVER) for i in (2, 3, 4)]
        assert [a.outputs["y"].item() for a in await asyncio.gather(first, *rest)] == [2, 4, 6, 8]
        assert double.rows_per_call == [4]
        batcher._max_wait_s = 0.01
        assert (await batcher.submit(rows_of(5), deadline=FOREVER)).batch_rows == 1

    go(scenario())


def test_what_waited_while_a_batch_ran_has_waited_for_company() -> None:
    async def scenario() -> None:
        double, now = Double(), [0.0]
        double.hold = threading.Event()
        with ThreadPoolExecutor(1) as executor:
            batcher = make(double, max_wait_s=3600.0, executor=executor, clock=lambda: now[0])
            running = [batcher.submit(rows_of(i), deadline=FOREVER) for i in range(4)]
            await asyncio.to_thread(double.entered.wait, 10)
            waiting = batcher.submit(rows_of(5), deadline=FOREVER)
            now[0] = 3600.0
            double.hold.set()
            await asyncio.gather(*running)
            assert (await waiting).outputs["y"].item() == 10
        assert double.rows_per_call == [4, 1]

    go(scenario())


@dataclass(frozen=True)
class Arrival:
    values: list[float]
    is_late: bool
    cancel_after_turns: int | None
    pause_turns: int


arrivals = st.builds(
    Arrival,
    values=st.lists(st.sampled_from([1.0, 2.0, 3.0, 5.0, 8.0, POISON]), min_size=1, max_size=11),
    is_late=st.integers(0, 9).map(lambda n: n == 0),
    cancel_after_turns=st.one_of(st.none(), st.integers(0, 3)),
    pause_turns=st.integers(0, 2),
)


@pytest.mark.parametrize("on_thread", [False, True])
@settings(max_examples=150, deadline=None)
@given(plan=st.lists(arrivals, max_size=25), max_rows=st.integers(1, 8), max_wait_s=st.sampled_from([0.0, 0.001]))
def test_everyone_is_answered_rightly(on_thread: bool, plan: list[Arrival], max_rows: int, max_wait_s: float) -> None:
    async def scenario() -> None:
        double = Double()
        executor = ThreadPoolExecutor(1) if on_thread else None
        batcher = make(double, max_rows=max_rows, max_queue_rows=60, max_wait_s=max_wait_s, executor=executor)
        now = asyncio.get_running_loop().time
        pending: list[tuple[Arrival, asyncio.Future[Answer]]] = []
        for arrival in plan:
            try:
                future = batcher.submit(rows_of(*arrival.values), deadline=now() - 1 if arrival.is_late else FOREVER)
            except Overloaded:
                assert batcher.waiting_rows + len(arrival.values) > 60
                continue
            pending.append((arrival, future))
            if arrival.cancel_after_turns is not None:
                asyncio.get_running_loop().create_task(_cancel_later(future, arrival.cancel_after_turns))
            for _ in range(arrival.pause_turns):
                await asyncio.sleep(0)
        answers = await asyncio.gather(*(future for _, future in pending), return_exceptions=True)
        for (arrival, _), answer in zip(pending, answers, strict=True):
            check_answer(arrival, answer)
        assert all(rows <= max_rows for rows in double.rows_per_call)
        for _ in range(1000):  # what was cancelled is dropped in a turn of its own, or runs on the thread to its end
            if batcher.is_idle:
                break
            await asyncio.sleep(0.01)
        assert batcher.is_idle
        assert batcher.waiting_rows == 0
        if executor is not None:
            executor.shutdown()

    go(scenario())


async def _cancel_later(future: "asyncio.Future[Answer]", turns: int) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)
    future.cancel()


def check_answer(arrival: Arrival, answer: Answer | BaseException) -> None:
    if isinstance(answer, asyncio.CancelledError):
        assert arrival.cancel_after_turns is not None
    elif isinstance(answer, DeadlineExceeded):
        assert arrival.is_late
    elif isinstance(answer, ModelRejectedInput):
        assert all(arrival.values[row] == POISON for row in answer.rows)
        assert answer.rows
    else:
        assert isinstance(answer, Answer)
        assert answer.outputs["y"].ravel().tolist() == [2 * value for value in arrival.values]
        assert POISON not in arrival.values
