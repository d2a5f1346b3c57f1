"""The proof that comes before readiness: golden replay through the very backend that will answer, then warm-up."""

import time
from collections.abc import Callable

import numpy as np

from app.bundle.golden import GoldenRows, expect_close
from app.bundle.manifest import Manifest
from app.errors import BackendFailed, BundleNotProven
from app.serving.isolation import run_checked
from app.tensors import Tensors, concat, take

WARM_UP_BATCHES = 5

Run = Callable[[Tensors], Tensors]


def promised(run: Run, manifest: Manifest) -> Run:
    """Hold every answer of a backend against the names, dtypes and shapes that the manifest promises.

    The function returned raises :class:`BackendFailed` where they differ.
    """

    def checked(inputs: Tensors) -> Tensors:
        outputs = run(inputs)
        for spec in manifest.outputs:
            array = outputs.get(spec.name)
            if array is None or not spec.describes(array):
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
    max_rows = manifest.batching.max_rows
    tolerances = {name: manifest.golden.tolerance_of(key, name) for name in golden.outputs}
    try:
        batched = concat(
            [run_checked(run, take(golden.inputs, i, i + max_rows)) for i in range(0, len(golden), max_rows)]
        )
        alone = concat([run_checked(run, take(golden.inputs, i, i + 1)) for i in range(len(golden))])
    except BackendFailed as exc:
        raise BundleNotProven(f"golden replay: {exc}") from exc
    expect_close(batched, golden.outputs, tolerances, what="golden replay")
    expect_close(alone, batched, manifest.golden.batch_tolerance, what="golden rows alone against the same in a batch")


def is_well(run: Run, manifest: Manifest, golden: GoldenRows, key: str) -> bool:
    """Tell whether the golden rows still come out as the trainer measured them."""
    try:
        prove(run, manifest, golden, key)
    except BundleNotProven:
        return False
    return True


def warm_up(run: Run, inputs: Tensors, rows: int, *, clock: Callable[[], float] = time.monotonic) -> float:
    """Run full batches made of the given inputs, and return the seconds of the fastest.

    The others say what else the machine was doing, not what a batch costs.
    """
    full: Tensors = {name: np.resize(array, (rows, *array.shape[1:])) for name, array in inputs.items()}
    seconds: list[float] = []
    for _ in range(WARM_UP_BATCHES):
        started_at = clock()
        run(full)
        seconds.append(clock() - started_at)
    return min(seconds)
