"""Jobs of a queue, made and taken without a backend."""

import asyncio
from typing import Any

import numpy as np

from app.bundle.manifest import TensorSpec
from app.serving.jobs import FutureJob, Slice
from app.serving.queue import JobQueue
from app.serving.window_queue import WindowQueue
from app.tensors import LENGTHS, Tensors

FOREVER = float("inf")
SERIES = (
    TensorSpec(name="series", dtype="float32", shape=("batch", "steps", 2)),
    TensorSpec(name=LENGTHS, dtype="int64", shape=("batch",)),
)
GRIDS = (TensorSpec(name="grid", dtype="float32", shape=("batch", "height", 3, "width")),)


def job(loop: asyncio.AbstractEventLoop, tensors: Tensors, **changes: Any) -> FutureJob:
    """Return a job of the given inputs."""
    rows = len(next(iter(tensors.values())))
    return FutureJob(tensors, rows, **({"deadline": FOREVER, "future": loop.create_future()} | changes))


def grid(height: int, width: int, rows: int = 1) -> Tensors:
    """Return rows of a shape that a model may leave open."""
    return {"grid": np.ones((rows, height, 3, width), np.float32)}


def drain(queue: JobQueue | WindowQueue) -> list[list[Slice]]:
    """Take batches until nothing waits."""
    taken: list[list[Slice]] = []
    while batch := queue.take(now=1.0):
        taken.append(batch)
    assert (len(queue), queue.waiting_rows) == (0, 0)
    return taken


def num_rows_of(batch: list[Slice]) -> int:
    """Return the rows of a batch."""
    return sum(part.stop - part.start for part in batch)
