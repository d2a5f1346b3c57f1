"""Named arrays that share their first axis: what every door, task, batcher and backend hands to the next.

Rows of different lengths (series, texts) share an array all the same: the shorter ones are filled up with zeros along
the second axis, and an array named ``lengths``, int64 of shape (B,), tells how much of each row is real. The elements
of a batch are its rows times their padded length, whatever one element holds (the channels of a step, a token).

Shape suffixes used across the package: B rows of a batch, H height, W width, C channels or classes, T steps of a series
or tokens of a text.
"""

from collections.abc import Iterator, Sequence
from math import isfinite
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
Tensors: TypeAlias = dict[str, Array]

LENGTHS = "lengths"
# of more, the BLAS library may use several threads for a sum of squares
_FEW_NUMBERS = 4096


def num_rows(tensors: Tensors) -> int:
    """Return the length of the first axis, which all arrays share.

    Raises:
        ValueError: There is no array, one has no axis, or two disagree.
    """
    rows = -1
    for array in tensors.values():  # no comprehension: every request and every batch passes here
        if not array.ndim or (rows >= 0 and array.shape[0] != rows):
            rows = -1
            break
        rows = array.shape[0]
    if rows < 0:
        shapes = {name: array.shape for name, array in tensors.items()}
        raise ValueError(f"tensors must share their first axis, got the shapes {shapes}")
    return rows


def concat(parts: Sequence[Tensors]) -> Tensors:
    """Join parts along the first axis; a single part is returned as it is, without a copy."""
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def take(tensors: Tensors, start: int, stop: int) -> Tensors:
    """Return rows ``start`` to ``stop`` of every array, as views."""
    return {name: array[start:stop] for name, array in tensors.items()}


def trim(tensors: Tensors) -> Tensors:
    """Cut off the padding that no row needs, as views; tensors without ``lengths`` are returned as they are."""
    lengths_B = tensors.get(LENGTHS)
    if lengths_B is None:
        return tensors
    # most requests are of one row, which needs no reduction
    longest = int(lengths_B[0]) if len(lengths_B) == 1 else int(lengths_B.max(initial=0))
    return {name: array if name == LENGTHS else array[:, :longest] for name, array in tensors.items()}


def concat_padded(parts: Sequence[Tensors]) -> Tensors:
    """Join parts with ``lengths`` along the first axis, each filled up with zeros to the longest of all."""
    if len(parts) == 1:
        return parts[0]
    joined: Tensors = {}
    for name, first in parts[0].items():
        arrays = [part[name] for part in parts]
        if name == LENGTHS:
            joined[name] = np.concatenate(arrays)
            continue
        longest = max(array.shape[1] for array in arrays)
        padded = np.zeros((sum(len(array) for array in arrays), longest, *first.shape[2:]), first.dtype)
        start = 0
        for array in arrays:
            padded[start : start + len(array), : array.shape[1]] = array
            start += len(array)
        joined[name] = padded
    return joined


def num_fitting(lengths_B: Array, max_elements: int, *, rows: int = 0, longest: int = 0) -> int:
    """Count how many of the first rows may join a batch, which is padded to the longest of all that it then holds.

    Args:
        lengths_B: Of the rows that would join, int64, shape (B,).
        max_elements: Most rows times padded length.
        rows: That are in the batch already.
        longest: Length of the longest of them.
    """
    longest_B = np.maximum.accumulate(np.maximum(lengths_B, longest))
    elements_B = np.arange(rows + 1, rows + 1 + len(lengths_B)) * longest_B
    return int(elements_B.searchsorted(max_elements, side="right"))  # they never fall


def batches(tensors: Tensors, *, max_rows: int, max_elements: int | None = None) -> Iterator[Tensors]:
    """Yield the rows in their order, as views, in as few batches as the bounds allow; none keeps needless padding.

    Args:
        tensors: With ``lengths`` where there is a bound on elements.
        max_rows: Most rows of a batch.
        max_elements: Most rows times padded length; a single row longer than that is a batch by itself.
    """
    start, total = 0, num_rows(tensors)
    while start < total:
        stop = min(start + max_rows, total)
        if max_elements is not None:
            stop = start + max(1, num_fitting(tensors[LENGTHS][start:stop], max_elements))
        yield trim(take(tensors, start, stop))
        start = stop


def count_elements(tensors: Tensors) -> tuple[int, int]:
    """Return the rows times padded length, and how many of these are padding; none of either without ``lengths``."""
    lengths_B = tensors.get(LENGTHS)
    if lengths_B is None:
        return 0, 0
    padded = max((array.shape[1] for name, array in tensors.items() if name != LENGTHS), default=0)
    elements = len(lengths_B) * padded
    return elements, elements - int(lengths_B.sum())


def all_finite(tensors: Tensors) -> bool:
    """Tell whether no floating-point array holds NaN or an infinity."""
    for array in tensors.values():
        if array.dtype.kind != "f":
            continue
        # a sum of squares is finite only where all are: half the time of a look at each, for what most models answer
        if array.size <= _FEW_NUMBERS and isfinite(np.vdot(array, array)):
            continue
        if not np.isfinite(array).all():  # or the squares were too large
            return False
    return True
