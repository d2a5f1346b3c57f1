"""Proof that an artifact answers as the trained network does, measured on the bytes that are shipped.

Shape suffixes: N rows of the split, C classes.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np
import onnxruntime
import torch
from torch import nn

from app.bundle.golden import expect_close
from app.bundle.manifest import Parity, Tolerance
from app.tensors import Array, Tensors, concat, num_rows, take, trim
from training.errors import NotProven

Run: TypeAlias = Callable[[Tensors], Tensors]

LATENCY_ROWS = (1, 32)
MIN_TIMED = 3
PROBABILITIES = "probabilities"
VALUE = "value"


def onnx_runner(data: bytes) -> Run:
    """Return a function that runs an ONNX model on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def run(inputs: Tensors) -> Tensors:
        return dict(zip(names, session.run(names, inputs), strict=True))

    return run


def eager_runner(served: nn.Module, output_names: tuple[str, ...]) -> Run:
    """Return a function that calls a served module, whose inputs are those of the tensors, in their order."""

    def run(inputs: Tensors) -> Tensors:
        with torch.inference_mode():
            outputs = served(*(torch.tensor(array) for array in inputs.values()))
        return {name: output.numpy() for name, output in zip(output_names, outputs, strict=True)}

    return run


def run_in_batches(run: Run, inputs: Tensors, max_rows: int) -> Tensors:
    """Run a whole split, ``max_rows`` at a time, as the service would: no batch is padded beyond its longest row."""
    starts = range(0, num_rows(inputs), max_rows)
    return concat([run(trim(take(inputs, start, start + max_rows))) for start in starts])


def parity(actual: Tensors, expected: Tensors) -> Parity:
    """Compare the answers of an artifact with those of the eager network, row by row: probabilities, or all outputs."""
    if PROBABILITIES not in expected:
        largest = max(max_differences(actual, expected).values())
        return Parity(rows=num_rows(expected), max_abs_difference=largest)
    actual_NC, expected_NC = actual[PROBABILITIES], expected[PROBABILITIES]
    return Parity(
        rows=len(expected_NC),
        max_abs_difference=float(np.abs(actual_NC.astype(np.float64) - expected_NC).max()),
        label_agreement=float((actual_NC.argmax(axis=1) == expected_NC.argmax(axis=1)).mean()),
    )


def expect_proven(
    actual: Tensors, expected: Tensors, tolerance: Tolerance | Mapping[str, Tolerance], *, what: str
) -> None:
    """Refuse outputs that lie outside the tolerance, of all or of each, which the manifest will promise.

    Raises:
        NotProven: They do; the message names the output, the row and the difference.
    """
    try:
        expect_close(actual, expected, tolerance, what=what)
    except Exception as exc:  # the service's own error, which training does not import
        raise NotProven(str(exc)) from exc


def alone(run: Run, inputs: Tensors) -> Tensors:
    """Run every row by itself."""
    return run_in_batches(run, inputs, 1)


def max_differences(actual: Tensors, expected: Tensors) -> dict[str, float]:
    """Return the largest absolute difference of each output."""
    return {
        name: float(np.abs(actual[name].astype(np.float64) - array.astype(np.float64)).max())
        for name, array in expected.items()
    }


def latency_ms(
    run: Run,
    inputs: Tensors,
    *,
    repeats: int = 200,
    budget_s: float = 3.0,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Return the median milliseconds of a call, by its number of rows.

    Args:
        run: Runs the artifact.
        inputs: At least 32 rows.
        repeats: Calls that are timed.
        budget_s: Seconds after which no further call is timed; three calls are in any case.
        clock: Seconds.
    """
    medians: dict[str, float] = {}
    for num in LATENCY_ROWS:
        batch = trim(take(inputs, 0, num))
        _timed_ms(run, batch, clock)
        started, timed = clock(), [_timed_ms(run, batch, clock)]
        while len(timed) < repeats and (len(timed) < MIN_TIMED or clock() - started < budget_s):
            timed.append(_timed_ms(run, batch, clock))
        # the first calls warm the caches
        medians[str(num)] = round(statistics.median(timed[len(timed) // 10 :]), 4)
    return medians


def _timed_ms(run: Run, batch: dict[str, Array], clock: Callable[[], float]) -> float:
    started = clock()
    run(batch)
    return (clock() - started) * 1e3
