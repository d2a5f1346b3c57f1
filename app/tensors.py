"""Named arrays that share their first axis: what every door, task, batcher and backend hands to the next.

Shape suffixes used across the package: B rows of a batch, H height, W width, C channels or classes.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
Tensors: TypeAlias = dict[str, Array]


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


def all_finite(tensors: Tensors) -> bool:
    """Tell whether no floating-point array holds NaN or an infinity."""
    return all(bool(np.isfinite(array).all()) for array in tensors.values() if array.dtype.kind == "f")
