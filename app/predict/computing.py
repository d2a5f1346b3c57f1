"""The rows of a chunk through the model, in full batches; a row that the model fails on is set aside alone.

Rows of different lengths are sorted, so that those of a batch are nearly of one length and little is padded, and come
out in the order of the input all the same. Rows of shapes that cannot be padded run with those of their own shape.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from app.predict.decoding import Decoded, single_rows
from app.predict.errors import Stopped
from app.predict.rows import Rejection
from app.serving.isolation import BatchResult
from app.tensors import LENGTHS, Array, Tensors, batches, concat, concat_padded, num_fitting, num_rows, take

REJECTED = "model_rejected_input"


@dataclass(frozen=True, slots=True)
class Answers:
    """What the model made of the good rows of a chunk.

    Attributes:
        rows_B: Numbers of the rows in the chunk, rising.
        parts: Their outputs, in that order: one set of arrays where all rows have the same shapes, else one for each
            row.
    """

    rows_B: Array
    parts: list[Tensors]

    def predictions(self, encode: Callable[[Tensors], list[dict[str, Any]]]) -> list[dict[str, Any]]:
        """Return one prediction for each row."""
        return [prediction for part in self.parts for prediction in encode(part)]


def compute(
    decoded: Decoded,
    run: Callable[[Tensors], BatchResult],
    *,
    first_row: int,
    max_rows: int,
    max_elements: int | None,
) -> tuple[Answers, list[Rejection]]:
    """Run the rows of a chunk.

    Args:
        decoded: They.
        run: Calls the backend; see :meth:`app.predict.model.Runner.run`.
        first_row: Number of the chunk's first row in the input.
        max_rows: Most rows of a batch.
        max_elements: Most rows times padded length of a batch.

    Returns:
        The answers, and the rows that the model itself fails on.

    Raises:
        Stopped: The model fails on its golden rows too.
    """
    done: list[tuple[Array, Tensors]] = []
    rejections: list[Rejection] = []
    for places_B, batch in _batches(decoded.parts, max_rows=max_rows, max_elements=max_elements):
        result = run(batch)
        if result.sick_because is not None:
            raise Stopped(f"the model can answer nobody: {result.sick_because}")
        rows_B = decoded.rows_B[places_B]
        if result.rejected_rows:
            rejections += [
                Rejection(
                    row=first_row + int(rows_B[place]),
                    code=REJECTED,
                    message=f"the model fails on it: {result.rejected_because}",
                )
                for place in result.rejected_rows
            ]
            good = np.setdiff1d(np.arange(len(rows_B)), result.rejected_rows)
            if len(good):
                done.append((rows_B[good], {name: array[good] for name, array in result.outputs.items()}))
        else:
            done.append((rows_B, result.outputs))
    return _in_order(done), rejections


def _batches(
    parts: Iterable[Tensors], *, max_rows: int, max_elements: int | None
) -> Iterator[tuple[Array, Tensors]]:  # fmt: skip
    """Yield batches, each with the places of its rows among all."""
    parts = list(parts)
    if not parts:
        return
    if LENGTHS in parts[0]:
        yield from _by_length(parts, max_rows=max_rows, max_elements=max_elements)
        return
    if len(parts) == 1:
        groups = [(np.arange(num_rows(parts[0])), parts[0])]
    else:
        by_shape: dict[Any, list[int]] = {}
        for place, part in enumerate(parts):
            by_shape.setdefault(tuple(array.shape[1:] for array in part.values()), []).append(place)
        groups = [(np.array(places), concat([parts[place] for place in places])) for places in by_shape.values()]
    for places_B, together in groups:
        start = 0
        for batch in batches(together, max_rows=max_rows):
            stop = start + num_rows(batch)
            yield places_B[start:stop], batch
            start = stop


def _by_length(
    parts: list[Tensors], *, max_rows: int, max_elements: int | None
) -> Iterator[tuple[Array, Tensors]]:  # fmt: skip
    rows = [row for part in parts for row in (single_rows(part) if num_rows(part) != 1 else (part,))]
    lengths_B = np.array([int(row[LENGTHS][0]) for row in rows], np.int64)
    order_B = np.argsort(lengths_B, kind="stable")
    start = 0
    while start < len(order_B):
        places_B = order_B[start : start + max_rows]
        if max_elements is not None:
            places_B = places_B[: max(1, num_fitting(lengths_B[places_B], max_elements))]
        yield places_B, concat_padded([rows[place] for place in places_B])
        start += len(places_B)


def _in_order(done: list[tuple[Array, Tensors]]) -> Answers:
    if not done:
        return Answers(np.arange(0), [])
    rows_B = np.concatenate([rows for rows, _ in done])
    order_B = np.argsort(rows_B, kind="stable")
    shapes = {tuple((name, array.shape[1:]) for name, array in outputs.items()) for _, outputs in done}
    if len(shapes) == 1:
        joined = concat([outputs for _, outputs in done])
        is_sorted = bool((order_B[1:] > order_B[:-1]).all())
        parts = [joined if is_sorted else {name: array[order_B] for name, array in joined.items()}]
        return Answers(rows_B[order_B], parts)
    singles = [take(outputs, place, place + 1) for rows, outputs in done for place in range(len(rows))]
    return Answers(rows_B[order_B], [singles[place] for place in order_B])
