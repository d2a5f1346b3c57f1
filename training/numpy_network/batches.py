"""Mini-batches, one after the other from a generator: only the current one is copied."""

from collections.abc import Iterator

import numpy as np

from app.tensors import Array


def mini_batches(
    inputs_NI: Array, targets_NK: Array, *, batch_size: int, rng: np.random.Generator
) -> Iterator[tuple[Array, Array]]:
    """Yield every row once, in an order drawn anew, as inputs (B, I) and targets (B, K).

    Args:
        inputs_NI: The rows.
        targets_NK: Their targets.
        batch_size: Rows of each batch; the last one holds what is left.
        rng: Decides the order.

    Raises:
        ValueError: There are not as many targets as inputs, or the batch size is not positive.
    """
    if len(inputs_NI) != len(targets_NK):
        raise ValueError(f"there are {len(inputs_NI)} inputs and {len(targets_NK)} targets")
    if batch_size < 1:
        raise ValueError(f"batch_size must be 1 or more, got {batch_size}")
    order_N = rng.permutation(len(inputs_NI))
    for start in range(0, len(order_N), batch_size):
        indices_B = order_N[start : start + batch_size]
        yield inputs_NI[indices_B], targets_NK[indices_B]
