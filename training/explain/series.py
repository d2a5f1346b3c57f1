"""When, and on which channel, a series speaks for a class.

Shape suffixes: B rows of the batch, T steps of the longest row, K channels, C classes.
"""

import torch
from torch import Tensor

from training.explain.gradients import NUM_STEPS, Attribution, integrated_gradients
from training.explain.scores import Forward


def step_attributions(
    forward: Forward,
    series_BTK: Tensor,
    lengths_B: Tensor,
    targets_B: Tensor,
    *,
    baseline_K: Tensor,
    num_steps: int = NUM_STEPS,
) -> Attribution:
    """Share the output of a class out among the numbers of each series, by integrated gradients.

    Args:
        forward: Called with series and lengths; returns outputs of shape (B, C).
        series_BTK: float32, filled up to T.
        lengths_B: Real steps of each row, int64.
        targets_B: The class that is explained for each row, int64.
        baseline_K: A step that says nothing, such as the mean of every channel; float32.
        num_steps: Points on the line from the baseline to the series.

    Returns:
        Attributions of the shape of the series, 0 where there is padding.
    """
    real_BT1 = (torch.arange(series_BTK.shape[1]) < lengths_B[:, None])[:, :, None]
    # what the padding holds must not matter; where it equals the baseline it gets nothing, whatever the network does
    clean_BTK = torch.where(real_BT1, series_BTK, baseline_K)
    baseline_1TK = baseline_K.expand(1, *series_BTK.shape[1:])
    return integrated_gradients(
        forward, clean_BTK, targets_B, baseline=baseline_1TK, extra=(lengths_B,), num_steps=num_steps
    )


def mean_by_progress(values_BTK: Tensor, lengths_B: Tensor, num_bins: int) -> Tensor:
    """Average the size of attributions over series of different lengths.

    Args:
        values_BTK: Attributions.
        lengths_B: Real steps of each row, int64, at least 1.
        num_bins: Parts of equal duration that each series is cut into.

    Returns:
        float32, shape (num_bins, K): the mean absolute attribution of a step, from the beginning to the end.
    """
    sums = torch.zeros(num_bins, values_BTK.shape[2])
    counts = torch.zeros(num_bins, 1)
    for values_TK, length in zip(values_BTK, lengths_B.tolist(), strict=True):
        bins_T = torch.arange(length) * num_bins // length
        sums.index_add_(0, bins_T, values_TK[:length].abs())
        counts.index_add_(0, bins_T, torch.ones(length, 1))
    return sums / counts.clamp(min=1)
