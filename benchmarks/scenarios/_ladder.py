"""The way of a request as a ladder of servers: each does one thing more than the one before it.

What a step costs is the difference of two servers under the same load: nothing is timed inside a request, so nothing is
distorted. ``python -m benchmarks.scenarios._ladder STEP``; every step but the last writes the same fixed answer.
"""

import asyncio
import os
import sys
from pathlib import Path

import numpy as np
import uvloop

from app.serving.jobs import Outcome
from app.tensors import Tensors
from benchmarks import pictures
from benchmarks.scenarios._stripped_app import BUNDLE, HEAD, Connection, Core, Run, serve

# in the order in which they build on one another
WIRE, PARSE, DECODE, QUEUE, MODEL, ENCODE = STEPS = ("wire", "parse", "decode", "queue", "model", "encode")


def connection(step: str, core: Core, fixed: bytes) -> asyncio.Protocol:
    """Return the connection of a step.

    Args:
        step: One of ``STEPS``.
        core: Decodes, runs and encodes, as far as the step goes.
        fixed: What all but the last step answer.
    """
    if step == WIRE:
        return _Unread(core, fixed)
    return (
        {PARSE: _Parsed, DECODE: _Decoded, QUEUE: _Answered, MODEL: _Answered}[step](core, fixed)
        if (step != ENCODE)
        else Connection(core)
    )


class _Fixed(Connection):
    """Answers with the same bytes whatever it was asked."""

    def __init__(self, core: Core, fixed: bytes) -> None:
        super().__init__(core)
        self._fixed = fixed

    def write(self) -> None:
        if self._transport is not None:
            self._transport.write(self._fixed)


class _Unread(_Fixed):
    """Looks at nothing but the last bytes, which tell that a body is whole."""

    def data_received(self, data: bytes) -> None:
        if data.endswith(b"]]}]}"):
            self.write()


class _Parsed(_Fixed):
    """Parses HTTP."""

    def on_message_complete(self) -> None:
        self._body = b""
        self.write()


class _Decoded(_Fixed):
    """Reads the JSON too."""

    def on_message_complete(self) -> None:
        body, self._body = self._body, b""
        self._core.decode(body)
        self.write()


class _Answered(_Fixed):
    """Waits for its batch too, and does not look at what comes of it."""

    def _answer(self, outcome: Outcome) -> None:
        self.write()


def costs_nothing(run: Run) -> Run:
    """Return a backend that answers with the rows of a past answer, the last of them over and over."""
    kept: Tensors = {}

    def answer(inputs: Tensors) -> Tensors:
        rows = len(next(iter(inputs.values())))
        if len(next(iter(kept.values()), ())) < rows:
            kept.update({name: np.repeat(array[-1:], 1024, axis=0) for name, array in run(inputs).items()})
        return {name: array[:rows] for name, array in kept.items()}

    return answer


async def _main(step: str) -> None:
    folder = Path(os.environ[BUNDLE])
    core = Core(folder, costs_nothing) if step == QUEUE else Core(folder)
    body = core.encode(await core.submit(pictures.bodies(1)[0]))
    fixed = HEAD % len(body) + body
    await serve(lambda: connection(step, core, fixed))


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_main(sys.argv[1]))
