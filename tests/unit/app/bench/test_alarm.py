import asyncio
import time
from collections.abc import Callable

import pytest

from app.bench.alarm import Alarm, _LoopAlarm, open_alarm

pytestmark = pytest.mark.anyio

Opener = Callable[[asyncio.AbstractEventLoop, Callable[[], None]], Alarm]


@pytest.fixture(params=[open_alarm, _LoopAlarm], ids=["of the system", "of the loop"])
def opener(request: pytest.FixtureRequest) -> Opener:
    found: Opener = request.param
    return found


async def test_it_rings_when_it_is_time_and_not_before(opener: Opener) -> None:
    rang = asyncio.Event()
    alarm = opener(asyncio.get_running_loop(), rang.set)
    due_ns = time.perf_counter_ns() + 30_000_000
    alarm.set(due_ns)
    await rang.wait()
    assert time.perf_counter_ns() >= due_ns - 1_000_000  # the loop's own clock may round a millisecond down
    alarm.close()


async def test_what_is_past_rings_at_once_and_each_time_that_it_is_set(opener: Opener) -> None:
    rings = asyncio.Queue[None]()
    alarm = opener(asyncio.get_running_loop(), lambda: rings.put_nowait(None))
    for at_ns in (0, 1, time.perf_counter_ns()):
        alarm.set(at_ns)
        await rings.get()
    alarm.close()


async def test_the_last_time_set_is_the_one_that_counts(opener: Opener) -> None:
    rings: list[int] = []
    alarm = opener(asyncio.get_running_loop(), lambda: rings.append(time.perf_counter_ns()))
    alarm.set(time.perf_counter_ns() + 5_000_000)
    alarm.set(time.perf_counter_ns() + 3_600_000_000_000)
    await asyncio.sleep(0.05)
    assert rings == []
    alarm.close()


async def test_one_that_is_closed_stays_silent(opener: Opener) -> None:
    rings: list[None] = []
    alarm = opener(asyncio.get_running_loop(), lambda: rings.append(None))
    alarm.set(time.perf_counter_ns() + 5_000_000)
    alarm.close()
    alarm.close()
    await asyncio.sleep(0.05)
    assert rings == []
