"""A backend that doubles, and a batcher in front of it."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np

from app.serving.batcher import Batcher
from app.tensors import Tensors

POISON = 13.0


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
