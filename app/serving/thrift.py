"""What peaks leave behind is given back, so that memory follows the load and not the largest that ever was."""

import asyncio
import itertools
import logging
import time
from collections.abc import Callable, Mapping

from app import memory
from app.serving.versions import Model, State, Version
from app.tensors import take, trim

logger = logging.getLogger("app.thrift")

TRIM_S = 5.0
# the next batches find the memory of the runtimes gone, and have the system clear some megabytes for them again
SETTLE_S = 60.0
# times as long as a look takes, until the next one: a heap of very many pieces takes longer than most
_MOST_OFTEN = 1000


async def keep_lean(
    models: Mapping[str, Model],
    *,
    trim_s: float = TRIM_S,
    settle_s: float = SETTLE_S,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Give back, again and again, free pages of the heap and what the runtimes keep of their largest batches.

    All versions of a runtime share its memory in a process, so the one that costs least is asked, where its batches
    run. What other threads compute at that moment stays until the next time.

    Args:
        models: By name; more may come.
        trim_s: Seconds between two looks at the heap; more where one takes over a thousandth of it.
        settle_s: Seconds between two questions to the runtimes; a multiple of the others.
        clock: Monotonic seconds.
    """
    took_s = 0.0
    for turn in itertools.count(1):
        await asyncio.sleep(max(trim_s, _MOST_OFTEN * took_s))
        if turn % round(settle_s / trim_s) == 0:
            await _settle_all(models)
        begun_at = clock()
        memory.trim()
        took_s = clock() - begun_at


async def _settle_all(models: Mapping[str, Model]) -> None:
    for version in _cheapest_of_each_runtime(models):
        try:
            await _settle(version)
        except Exception as exc:  # its canary finds out what is wrong with it
            logger.warning("%s gives no memory back: %s", version.label, exc)


async def _settle(version: Version) -> None:
    assert version.backend is not None
    assert version.golden is not None
    row = trim(take(version.golden.inputs, 0, 1))
    if version.executor is None:
        version.backend.settle(row)
    else:
        await asyncio.get_running_loop().run_in_executor(version.executor, version.backend.settle, row)


def _cheapest_of_each_runtime(models: Mapping[str, Model]) -> list[Version]:
    ready = [
        version
        for model in models.values()
        for version in model.versions
        if version.state is State.READY and version.device == "cpu"
    ]
    ready.sort(key=lambda version: version.costs.row_s if version.costs is not None else 0.0, reverse=True)
    return list({type(version.backend): version for version in ready}.values())
