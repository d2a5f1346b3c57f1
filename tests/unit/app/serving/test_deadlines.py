"""Whoever waits is answered by the deadline, whatever the backend does."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from app.errors import DeadlineExceeded
from tests.support.doubling import Double, go, make, rows_of
from tests.support.jobs import FOREVER


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
