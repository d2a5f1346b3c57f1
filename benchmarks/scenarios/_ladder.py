"""The way of a request as a ladder of servers: each does one thing more than the one before it.

What a step costs is the difference of two servers under the same load: nothing is timed inside a request, so nothing is
distorted. Where no model runs, the server sleeps for as long as one would, so that as many requests gather: what a
system call costs depends on how many come at once. ``python -m benchmarks.scenarios._ladder STEP``; every step but the
last writes the same fixed answer.
"""

import asyncio
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import uvloop

from app.serving.jobs import Outcome
from app.tensors import Tensors
from benchmarks import pictures
from benchmarks.scenarios._stripped_app import BUNDLE, HEAD, Connection, Core, Run, serve

# in the order in which they build on one another
WIRE, PARSE, QUEUE, DECODE, MODEL, ENCODE = STEPS = ("wire", "parse", "queue", "decode", "model", "encode")
# a full batch of the CNN takes about as long; asleep, which costs nothing
PAUSE_S = 0.002


class Gathering:
    """Writes answers as a batch does: those of all who came while the last ones were made to wait.

    Args:
        fixed: The answer.
    """

    def __init__(self, fixed: bytes) -> None:
        self._fixed = fixed
        self._waiting: list[Callable[[bytes], None]] = []

    def add(self, write: Callable[[bytes], None]) -> None:
        """Answer through this function, soon."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._flush)
        self._waiting.append(write)

    def _flush(self) -> None:
        time.sleep(PAUSE_S)
        waiting, self._waiting = self._waiting, []
        for write in waiting:
            write(self._fixed)


class _Fixed(Connection):
    """Answers with the same bytes whatever it was asked."""

    def __init__(self, core: Core, gathering: Gathering) -> None:
        super().__init__(core)
        self._gathering = gathering

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)


class _Unread(_Fixed):
    """Looks at nothing but the last bytes, which tell that a body is whole."""

    def data_received(self, data: bytes) -> None:
        if data.endswith(b"]]}]}"):
            self._gathering.add(self.write)


class _Parsed(_Fixed):
    """Parses HTTP."""

    def on_message_complete(self) -> None:
        self._body = b""
        self._gathering.add(self.write)


class _Queued(Connection):
    """Parses HTTP, waits for its batch, and does not look at what comes of it.

    Args:
        core: Runs the batch.
        fixed: The answer.
        tensors: What is queued in place of what was sent; None to decode it.
    """

    def __init__(self, core: Core, fixed: bytes, tensors: Tensors | None) -> None:
        super().__init__(core)
        self._fixed = fixed
        self._tensors = tensors

    def on_message_complete(self) -> None:
        body, self._body = self._body, b""
        self._core.enqueue(self._core.decode(body) if self._tensors is None else self._tensors, self._answer)

    def _answer(self, outcome: Outcome) -> None:
        if self._transport is not None:
            self._transport.write(self._fixed)


def asleep(run: Run) -> Run:
    """Return a backend that sleeps, and answers with the last row of a past answer over and over."""
    kept: Tensors = {}

    def answer(inputs: Tensors) -> Tensors:
        rows = len(next(iter(inputs.values())))
        if len(next(iter(kept.values()), ())) < rows:
            kept.update({name: np.repeat(array[-1:], 1024, axis=0) for name, array in run(inputs).items()})
        time.sleep(PAUSE_S)
        return {name: array[:rows] for name, array in kept.items()}

    return answer


async def connector(step: str, folder: Path) -> Callable[[], asyncio.Protocol]:
    """Return what makes the connections of a step.

    Args:
        step: One of ``STEPS``.
        folder: Of the bundle.
    """
    core = Core(folder) if step in (MODEL, ENCODE) else Core(folder, asleep)
    sent = pictures.bodies(1)[0]
    body = core.encode(await core.submit(sent))
    fixed = HEAD % len(body) + body
    gathering, tensors = Gathering(fixed), core.decode(sent)
    connect: dict[str, Callable[[], asyncio.Protocol]] = {
        WIRE: lambda: _Unread(core, gathering),
        PARSE: lambda: _Parsed(core, gathering),
        QUEUE: lambda: _Queued(core, fixed, tensors),
        DECODE: lambda: _Queued(core, fixed, None),
        MODEL: lambda: _Queued(core, fixed, None),
        ENCODE: lambda: Connection(core),
    }
    return connect[step]


async def _main(step: str) -> None:
    await serve(await connector(step, Path(os.environ[BUNDLE])))


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_main(sys.argv[1]))
