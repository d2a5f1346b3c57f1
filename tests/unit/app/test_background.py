import asyncio
import logging

import pytest

from app.background import beside


def test_what_fails_is_told_at_once_and_keeps_nothing_from_its_end(caplog: pytest.LogCaptureFixture) -> None:
    ended: list[str] = []

    async def fail() -> None:
        raise ZeroDivisionError("no clock")

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("work")

    async def serve() -> None:
        async with beside(fail(), work()):
            for _ in range(3):  # turns of the loop
                await asyncio.sleep(0)
            assert caplog.records
            assert ended == []
        ended.append("service")

    with caplog.at_level(logging.ERROR):
        asyncio.run(serve())
    assert ended == ["work", "service"]
    (told,) = caplog.records
    assert told.exc_info is not None
    assert isinstance(told.exc_info[1], ZeroDivisionError)
