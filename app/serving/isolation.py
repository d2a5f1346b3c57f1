"""Runs a batch, and when it fails finds the rows that it fails on, so that their neighbors are answered.

Parts of a padded batch are padded no further than their own longest row: what a row costs, and where it fails, does not
depend on rows that are no longer beside it.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from app.errors import BackendFailed
from app.tensors import Tensors, all_finite, concat, count_elements, num_rows, take, trim

logger = logging.getLogger("app.batcher")


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchResult:
    """What became of a batch.

    Attributes:
        outputs: B rows, as many as went in; those of rejected rows hold zeros, and those of a sick model are missing.
        compute_s: Seconds that all calls of the backend took together.
        started_at: When the first of them began, on the clock.
        rejected_rows: Rows that the backend fails on by themselves, while its golden rows pass.
        rejected_because: What it said of the last of them.
        is_split: Whether the batch failed as a whole, and was run in parts.
        sick_because: Why the model can answer nobody; None where it can.
        elements: Rows times padded length of the batch; 0 where rows have no ``lengths``.
        padding_elements: How many of these were padding.
    """

    outputs: Tensors
    compute_s: float
    started_at: float
    rejected_rows: tuple[int, ...] = ()
    rejected_because: str = ""
    is_split: bool = False
    sick_because: str | None = None
    elements: int = 0
    padding_elements: int = 0


def run_isolated(
    run: Callable[[Tensors], Tensors],
    inputs: Tensors,
    *,
    is_well: Callable[[], bool],
    clock: Callable[[], float] = time.monotonic,
) -> BatchResult:
    """Call the backend once; on failure, and if the model is otherwise well, bisect.

    A model that fails its golden rows is not bisected: no row would be found guilty of it.
    """
    started_at = clock()
    try:
        outputs = run_checked(run, inputs)
    except BackendFailed as exc:
        if not is_well():
            return BatchResult(
                outputs={},
                compute_s=clock() - started_at,
                started_at=started_at,
                sick_because=f"the golden rows fail: {exc}",
            )
        return _bisect(run, inputs, exc, started_at, clock)
    compute_s = clock() - started_at
    elements, padding_elements = count_elements(inputs)
    return BatchResult(
        outputs=outputs,
        compute_s=compute_s,
        started_at=started_at,
        elements=elements,
        padding_elements=padding_elements,
    )


def run_checked(run: Callable[[Tensors], Tensors], inputs: Tensors) -> Tensors:
    """Call the backend and check what it hands back.

    Raises:
        BackendFailed: It raised, returned another number of rows, or numbers that are not finite.
    """
    try:
        outputs = run(inputs)
        rows, expected = num_rows(outputs), num_rows(inputs)
    except BaseException as exc:  # a runtime may raise anything, a Rust panic is no Exception: here it becomes ours
        raise BackendFailed(f"{type(exc).__name__}: {exc}") from exc
    if rows != expected:
        raise BackendFailed(f"the backend returned {rows} rows for {expected}")
    if not all_finite(outputs):
        raise BackendFailed("the backend returned NaN or an infinity")
    return outputs


def _bisect(
    run: Callable[[Tensors], Tensors],
    inputs: Tensors,
    first_failure: BackendFailed,
    started_at: float,
    clock: Callable[[], float],
) -> BatchResult:
    """Split until every part runs or is a single row."""
    total = num_rows(inputs)
    pieces: dict[int, Tensors] = {}
    rejected: list[int] = []
    because = first_failure
    stack = [(0, total)] if total == 1 else [(total // 2, total), (0, total // 2)]
    if total == 1:
        stack, rejected = [], [0]
    while stack:
        start, stop = stack.pop()
        try:
            pieces[start] = run_checked(run, trim(take(inputs, start, stop)))
        except BackendFailed as exc:
            because = exc
            if stop - start == 1:
                rejected.append(start)
            else:
                middle = (start + stop) // 2
                stack += [(middle, stop), (start, middle)]
    logger.warning("a batch of %d rows failed, %d of them by themselves: %s", total, len(rejected), because)
    elements, padding_elements = count_elements(inputs)
    return BatchResult(
        outputs=_join(pieces, rejected),
        compute_s=clock() - started_at,
        started_at=started_at,
        rejected_rows=tuple(rejected),
        rejected_because=str(because),
        is_split=True,
        elements=elements,
        padding_elements=padding_elements,
    )


def _join(pieces: dict[int, Tensors], rejected: list[int]) -> Tensors:
    if not pieces:
        return {}
    blank = {name: np.zeros_like(array[:1]) for name, array in next(iter(pieces.values())).items()}
    parts = pieces | dict.fromkeys(rejected, blank)
    return concat([parts[start] for start in sorted(parts)])
