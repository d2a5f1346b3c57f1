"""The nearest neighbor under dynamic time warping, for series: hard to beat where rows are few.

Warping is after Sakoe and Chiba (1978), without a window; all channels are warped together, and steps are compared by
their squared Euclidean distance.

Shape suffixes: N training series, M test series, P pairs of a chunk, T steps (the shorter are padded), D channels.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from app.tensors import Array
from training.baselines.baseline import Baseline
from training.metrics import label_scores

# Pairs that are warped at once; their tables of T x T costs must fit the memory.
PAIRS_AT_ONCE = 8192


def nearest_neighbor(
    series: Sequence[Array],
    labels_N: NDArray[np.int64],
    test_series: Sequence[Array],
    test_labels_M: NDArray[np.int64],
    *,
    num_classes: int,
) -> Baseline:
    """Give each test series the class of the training series that it is nearest to; of equals, the first.

    Args:
        series: Of the training and the validation rows, each any float dtype of shape (length, channels).
        labels_N: Their classes.
        test_series: Scored on.
        test_labels_M: Their classes.
        num_classes: How many there are.

    Raises:
        ValueError: A series is empty, or their channels do not match.
    """
    predicted_M = labels_N[warped_distances(test_series, series).argmin(axis=1)]
    return Baseline(
        name="dtw_1nn",
        description="Nearest neighbor under dynamic time warping",
        metrics=label_scores(predicted_M, test_labels_M, num_classes).named(),
        predictions=predicted_M,
    )


def warped_distances(firsts: Sequence[Array], seconds: Sequence[Array]) -> NDArray[np.float64]:
    """Return the distance of every first series from every second one, float64 of shape (M, N).

    It is the smallest sum of squared distances along any way through both series, from both starts to both ends.

    Raises:
        ValueError: A series is empty, or their channels do not match.
    """
    first_MTD, first_lengths_M = _padded(firsts)
    second_NTD, second_lengths_N = _padded(seconds)
    if first_MTD.shape[2] != second_NTD.shape[2]:
        raise ValueError(
            f"series of {first_MTD.shape[2]} channels have no distance from those of {second_NTD.shape[2]}"
        )
    num_seconds = len(seconds)
    rows_at_once = max(1, PAIRS_AT_ONCE // num_seconds)
    distances_MN = np.empty((len(firsts), num_seconds))
    for start in range(0, len(firsts), rows_at_once):
        chunk = slice(start, start + rows_at_once)
        sums_TTP = _accumulated(_step_distances(first_MTD[chunk], second_NTD))
        ends_P = np.repeat(first_lengths_M[chunk], num_seconds) - 1, np.tile(second_lengths_N, len(firsts[chunk])) - 1
        distances_MN[chunk] = sums_TTP[(*ends_P, np.arange(sums_TTP.shape[2]))].reshape(-1, num_seconds)
    return distances_MN


def _padded(series: Sequence[Array]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    lengths_N = np.array([len(each) for each in series])
    if not len(series) or not lengths_N.min():
        raise ValueError("a series without steps has no distance from any other")
    padded_NTD = np.zeros((len(series), lengths_N.max(), series[0].shape[1]))
    for row_TD, each in zip(padded_NTD, series, strict=True):
        row_TD[: len(each)] = each
    return padded_NTD, lengths_N


def _step_distances(first_MTD: Array, second_NTD: Array) -> NDArray[np.float64]:
    """Return the squared distances of all steps, float64 of shape (T, T, P), pairs in the order of (M, N)."""
    squares_MTNT = (first_MTD**2).sum(2)[:, :, None, None] + (second_NTD**2).sum(2)[None, None]
    squares_MTNT -= 2 * np.tensordot(first_MTD, second_NTD, axes=(2, 2))
    num_pairs = len(first_MTD) * len(second_NTD)
    steps_TTP = squares_MTNT.transpose(1, 3, 0, 2).reshape(*squares_MTNT.shape[1::2], num_pairs)
    # rounding may take the distance of equal steps a little below 0
    distances_TTP: NDArray[np.float64] = np.maximum(steps_TTP, 0.0)
    return distances_TTP


def _accumulated(steps_TTP: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum up, in place: each cell becomes the smallest sum of any way to it. Padding lies behind every real end."""
    np.cumsum(steps_TTP[0], axis=0, out=steps_TTP[0])
    np.cumsum(steps_TTP[:, 0], axis=0, out=steps_TTP[:, 0])
    for row in range(1, steps_TTP.shape[0]):
        for column in range(1, steps_TTP.shape[1]):
            nearest_P = np.minimum(steps_TTP[row - 1, column], steps_TTP[row, column - 1])
            steps_TTP[row, column] += np.minimum(nearest_P, steps_TTP[row - 1, column - 1])
    return steps_TTP
