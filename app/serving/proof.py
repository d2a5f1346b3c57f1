"""The proof that comes before readiness: golden replay through the very backend that will answer, then warm-up.

Golden rows of different lengths run as requests do: a batch is padded to its longest row, and a row alone to no more
than its own length. So a network that lets padding, or a neighbor, into its answer is not proven.
"""

import time
from collections.abc import Callable, Iterable

import numpy as np

from app.bundle.golden import GoldenRows, expect_close
from app.bundle.manifest import Batching, Manifest
from app.errors import BackendFailed, BundleNotProven
from app.serving.isolation import run_checked
from app.tensors import LENGTHS, Tensors, batches, concat, num_rows, trim

WARM_UP_BATCHES = 5

Run = Callable[[Tensors], Tensors]


def promised(run: Run, manifest: Manifest) -> Run:
    """Hold every answer of a backend against the names, dtypes and shapes that the manifest promises.

    The function returned raises :class:`BackendFailed` where they differ.
    """
    # what numpy compares fast; most outputs leave no axis open but that of the batch
    fixed = [(spec, np.dtype(spec.dtype), spec.shape[1:]) for spec in manifest.outputs]

    def checked(inputs: Tensors) -> Tensors:
        outputs = run(inputs)
        for spec, dtype, shape in fixed:
            array = outputs.get(spec.name)
            if array is None or (
                not (array.dtype == dtype and array.shape[1:] == shape and array.ndim) and not spec.describes(array)
            ):
                found = "nothing" if array is None else f"{array.dtype} of shape {array.shape}"
                raise BackendFailed(f"expected {spec.name!r} as {spec.dtype} of shape {spec.shape}, found {found}")
        return outputs

    return checked


def prove(run: Run, manifest: Manifest, golden: GoldenRows, key: str) -> None:
    """Replay the golden rows: in batches against the trainer's outputs, and each alone against its batch.

    Args:
        run: Calls the backend.
        manifest: Holds the tolerances and the rows of a batch.
        golden: What is replayed.
        key: Of the artifact that the backend has loaded.

    Raises:
        BundleNotProven: Something comes out otherwise than measured; the message says what, where and by how much.
    """
    tolerances = {name: manifest.golden.tolerance_of(key, name) for name in golden.outputs}
    bounds = manifest.batching
    batched = _replay(run, batches(golden.inputs, max_rows=bounds.max_rows, max_elements=bounds.max_elements))
    alone = _replay(run, batches(golden.inputs, max_rows=1))
    expect_close(batched, golden.outputs, tolerances, what="golden replay")
    expect_close(alone, batched, manifest.golden.batch_tolerance, what="golden rows alone against the same in a batch")


def _replay(run: Run, inputs: Iterable[Tensors]) -> Tensors:
    """Return the outputs of all batches, joined."""
    try:
        outputs = [run_checked(run, batch) for batch in inputs]
    except BackendFailed as exc:
        raise BundleNotProven(f"golden replay: {exc}") from exc
    try:
        return concat(outputs)
    except (KeyError, ValueError) as exc:  # outputs come and go, or are as wide as their batch
        shapes = sorted({str({name: array.shape[1:] for name, array in part.items()}) for part in outputs})
        raise BundleNotProven(f"golden replay: rows come out in different shapes: {', '.join(shapes)}") from exc


def is_well(run: Run, manifest: Manifest, golden: GoldenRows, key: str) -> bool:
    """Tell whether the golden rows still come out as the trainer measured them."""
    try:
        prove(run, manifest, golden, key)
    except BundleNotProven:
        return False
    return True


def fastest_s(run: Run, batch: Tensors, *, clock: Callable[[], float] = time.monotonic) -> float:
    """Run a batch several times, and return the seconds of the fastest.

    The others say what else the machine was doing, not what a batch costs.
    """
    seconds: list[float] = []
    for _ in range(WARM_UP_BATCHES):
        started_at = clock()
        run(batch)
        seconds.append(clock() - started_at)
    return min(seconds)


def full_batch(inputs: Tensors, batching: Batching) -> Tensors:
    """Return a batch of as many rows as the bounds allow, the given ones over and over, the longest first.

    Rows of different lengths make the batch of the longest of them.
    """
    order, rows = np.arange(num_rows(inputs)), batching.max_rows
    if LENGTHS in inputs:
        order = np.argsort(-inputs[LENGTHS], kind="stable")
        if batching.max_elements is not None:
            longest = max(1, int(inputs[LENGTHS][order[0]]))
            rows = max(1, min(rows, batching.max_elements // longest))
    order = np.resize(order, rows)  # of the rows, not of each array: a row keeps its length
    return trim({name: array[order] for name, array in inputs.items()})
