"""A canary: one golden row after the other, asked as a client asks, whose answers are known.

It goes through the version's own queue and shares batches with whoever else waits, so it sees what clients see. That it
waits means nothing, since clients wait too; and a queue that is full refuses it, which means nothing either.
"""

import asyncio
import itertools
from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal, TypeAlias

import numpy as np

from app.bundle.golden import GoldenRows, expect_close
from app.bundle.manifest import Manifest, Tolerance
from app.errors import BundleNotProven, ModelNotReady, Overloaded, ServingError
from app.serving.batcher import Batcher
from app.serving.jobs import Answer
from app.tensors import LENGTHS, Tensors, take, trim

# of the golden rows, the shortest, where they differ in length: they come often, and are to cost little
MOST_ROWS = 16

Outcome: TypeAlias = Literal["right", "wrong", "failed", "refused"]


class Canary:
    """Asks one version.

    Args:
        batcher: Its queue.
        manifest: Holds the tolerances.
        golden: Whose rows are asked.
        key: Of the artifact that is served.
        on_answer: Told what became of each row, and why where that is not right. Whoever is out of rotation is not
            asked, and nothing is told.
    """

    def __init__(
        self,
        batcher: Batcher,
        manifest: Manifest,
        golden: GoldenRows,
        key: str,
        *,
        on_answer: Callable[[Outcome, str], None],
    ) -> None:
        self._batcher = batcher
        self._on_answer = on_answer
        self._tolerances = _tolerances(manifest, golden, key)
        self._rows = itertools.cycle([
            (trim(take(golden.inputs, row, row + 1)), take(golden.outputs, row, row + 1)) for row in _cheapest(golden)
        ])  # fmt: skip
        self._asked: asyncio.Future[Answer] | None = None

    def ask(self) -> None:
        """Ask the next row, unless the last one still waits for its answer."""
        if self._asked is not None and not self._asked.done():
            return
        inputs, expected = next(self._rows)
        try:
            self._asked = self._batcher.ask_canary(inputs)
        except Overloaded as exc:
            self._on_answer("refused", str(exc))
        except ModelNotReady:
            pass
        else:
            self._asked.add_done_callback(partial(self._judge, expected))

    def _judge(self, expected: Tensors, asked: "asyncio.Future[Answer]") -> None:
        if asked.cancelled():
            return
        error = asked.exception()
        if error is None:
            why = self._fault(asked.result().outputs, expected)
            self._on_answer("wrong" if why else "right", why)
        elif isinstance(error, Overloaded):
            self._on_answer("refused", str(error))
        elif isinstance(error, ServingError) and not isinstance(error, ModelNotReady):
            self._on_answer("failed", f"a golden row: {error}")

    def _fault(self, outputs: Tensors, expected: Tensors) -> str:
        """Return what is wrong with an answer; empty where nothing is."""
        try:
            expect_close(outputs, expected, self._tolerances, what="a golden row")
        except BundleNotProven as exc:
            return str(exc)
        return ""


def _tolerances(manifest: Manifest, golden: GoldenRows, key: str) -> Mapping[str, Tolerance]:
    """Return how far each output may lie from the trainer's: alone, and by the company of a batch besides."""
    company = manifest.golden.batch_tolerance
    alone = {name: manifest.golden.tolerance_of(key, name) for name in golden.outputs}
    return {
        name: Tolerance(atol=each.atol + company.atol, rtol=each.rtol + company.rtol) for name, each in alone.items()
    }


def _cheapest(golden: GoldenRows) -> list[int]:
    rows = np.arange(len(golden))
    if LENGTHS in golden.inputs:
        rows = np.argsort(golden.inputs[LENGTHS], kind="stable")
    return [int(row) for row in rows[:MOST_ROWS]]
