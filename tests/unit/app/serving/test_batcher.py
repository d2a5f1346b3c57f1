"""The batcher answers everyone, rightly, whatever comes in whatever order."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import BackendFailed, DeadlineExceeded, ModelNotReady, ModelRejectedInput, Overloaded
from app.serving.batcher import Answer, Batcher
from app.tensors import Tensors

POISON = 13.0
FOREVER = float("inf")


class Double:
    """A backend that doubles its numbers, raises on poison, and remembers the rows of each call."""

    def __init__(self) -> None:
        self.rows_per_call: list[int] = []
        self.is_broken = False
        self.hold: threading.Event | None = None
        self.entered = threading.Event()

    def __call__(self, inputs: Tensors) -> Tensors:
        x = inputs["x"]
        self.rows_per_call.append(len(x))
        self.entered.set()
        if self.hold is not None:
            assert self.hold.wait(10)
        if self.is_broken or (x == POISON).any():
            raise RuntimeError("poison")
        return {"y": x * 2}


def rows_of(*values: float) -> Tensors:
    return {"x": np.array(values, np.float32)[:, None]}


def make(run: Callable[[Tensors], Tensors], **changes: Any) -> Batcher:
    return Batcher(run, **({"is_well": lambda: True, "max_rows": 4, "max_queue_rows": 100} | changes))


def go(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(scenario, 30))


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


def test_request_past_its_deadline_is_dropped_before_it_is_run() -> None:
    async def scenario() -> None:
        double = Double()
        batcher = make(double, clock=lambda: 100.0)
        late = batcher.submit(rows_of(1), deadline=99.0)
        good = batcher.submit(rows_of(2), deadline=101.0)
        with pytest.raises(DeadlineExceeded, match="waited"):
            await late
        assert (await good).outputs["y"].item() == 4
        assert double.rows_per_call == [1]

    go(scenario())


def test_deadline_is_kept_while_the_backend_hangs() -> None:
    async def scenario() -> None:
        double = Double()
        double.hold = threading.Event()
        with ThreadPoolExecutor(1) as executor:
            batcher = make(double, executor=executor)
            now = asyncio.get_running_loop().time
            running = batcher.submit(rows_of(1), deadline=now() + 0.05)
            await asyncio.to_thread(double.entered.wait, 10)
            waiting = batcher.submit(rows_of(2), deadline=now() + 0.05)
            patient = batcher.submit(rows_of(3), deadline=FOREVER)
            with pytest.raises(DeadlineExceeded, match="ran"):
                await running
            with pytest.raises(DeadlineExceeded, match="waited"):
                await waiting
            double.hold.set()
            assert (await patient).outputs["y"].item() == 6
        assert double.rows_per_call == [1, 1]

    go(scenario())


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


def test_executor_that_was_shut_down_is_answered() -> None:
    async def scenario() -> None:
        executor = ThreadPoolExecutor(1)
        executor.shutdown()
        with pytest.raises(BackendFailed, match="shutdown"):
            await make(Double(), executor=executor).submit(rows_of(1), deadline=FOREVER)

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
