"""What peaks leave behind is given back, so that memory follows the load and not the largest that ever was."""

import asyncio
import itertools
import logging
import time
from collections.abc import Callable, Mapping

from app import memory
from app.serving.calls import Calls
from app.serving.versions import Model, State, Version
from app.tensors import Tensors, take, trim

logger = logging.getLogger("app.thrift")

TRIM_S = 5.0
# the next batches find the memory of the runtimes gone, and have the system clear some megabytes for them again
SETTLE_S = 60.0
# for a thread on which another batch runs, or hangs; whoever hangs is found by its health
PATIENCE_S = 1.0
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
        trim_s: Seconds between two looks at the heap; more where one takes over a thousandth of it, up to ``settle_s``.
        settle_s: Seconds between two questions to the runtimes, where looks do not take long; a multiple of the others.
        clock: Monotonic seconds.
    """
    took_s = 0.0
    for turn in itertools.count(1):
        await asyncio.sleep(min(max(trim_s, _MOST_OFTEN * took_s), settle_s))
        if turn % round(settle_s / trim_s) == 0:
            await _settle_all(models)
        begun_at = clock()
        memory.trim()
        took_s = clock() - begun_at


async def _settle_all(models: Mapping[str, Model]) -> None:
    for version in _cheapest_of_each_runtime(models):
        try:
            await _settle(version)
        except Exception as exc:  # its canary finds out what else is wrong with it
            logger.warning("%s gives no memory back: %s", version.label, exc)


async def _settle(version: Version) -> None:
    calls, batcher, golden = version.calls, version.batcher, version.golden
    if version.state is not State.READY or calls is None or batcher is None or golden is None:
        return  # it has gone while another one was waited for
    row = trim(take(golden.inputs, 0, 1))
    if batcher.executor is None:
        _call(calls, row)
        return
    settling = asyncio.get_running_loop().run_in_executor(batcher.executor, _call, calls, row)
    settling.add_done_callback(lambda done: done.cancelled() or done.exception())  # or asyncio would tell of it
    done, _ = await asyncio.wait({settling}, timeout=PATIENCE_S)
    if done:
        settling.result()


def _call(calls: Calls, row: Tensors) -> None:
    try:
        calls.settle(row)
    except Exception:
        raise
    except BaseException as exc:  # as a panic of PyO3, which must not end what goes on for as long as the service
        raise RuntimeError(f"{type(exc).__name__}: {exc}") from exc


def _cheapest_of_each_runtime(models: Mapping[str, Model]) -> list[Version]:
    ready = [
        version
        for model in models.values()
        for version in model.versions
        if version.state is State.READY and version.device == "cpu"
    ]
    ready.sort(key=lambda version: version.costs.row_s if version.costs is not None else 0.0, reverse=True)
    return list({type(version.backend): version for version in ready}.values())
