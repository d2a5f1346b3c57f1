"""Named arrays that share their first axis: what every door, task, batcher and backend hands to the next.

Rows of different lengths (series, texts) share an array all the same: the shorter ones are filled up with zeros along
the second axis, and an array named ``lengths``, int64 of shape (B,), tells how much of each row is real.

Shape suffixes used across the package: B rows of a batch, H height, W width, C channels or classes, T steps of a series
or tokens of a text.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
Tensors: TypeAlias = dict[str, Array]

LENGTHS = "lengths"


def num_rows(tensors: Tensors) -> int:
    """Return the length of the first axis, which all arrays share.

    Raises:
        ValueError: There is no array, one has no axis, or two disagree.
    """
    counts: set[int] = {array.shape[0] if array.ndim else -1 for array in tensors.values()}
    if len(counts) != 1 or -1 in counts:
        shapes = {name: array.shape for name, array in tensors.items()}
        raise ValueError(f"tensors must share their first axis, got the shapes {shapes}")
    return counts.pop()


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
    if LENGTHS not in tensors:
        return tensors
    longest = int(tensors[LENGTHS].max(initial=0))
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


def all_finite(tensors: Tensors) -> bool:
    """Tell whether no floating-point array holds NaN or an infinity."""
    return all(bool(np.isfinite(array).all()) for array in tensors.values() if array.dtype.kind == "f")
