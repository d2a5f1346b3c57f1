"""Occlusion: hide a part of the input and see what the output loses (Zeiler and Fergus, arXiv:1311.2901).

It needs no gradients, so it explains every artifact: see :func:`training.explain.scores.without_gradients`.

Shape suffixes: B rows of the batch.
"""

import torch
from captum.attr import FeatureAblation, Occlusion
from torch import Tensor

from training.explain.scores import Forward


def occlude(
    forward: Forward,
    inputs: Tensor,
    targets_B: Tensor | None,
    *,
    window: tuple[int, ...],
    stride: tuple[int, ...],
    baseline: float = 0.0,
) -> Tensor:
    """Slide a window over the input and hide what is under it.

    Args:
        forward: Returns outputs of shape (B, C), or (B,); need not be differentiable.
        inputs: float32, shape (B, ...).
        targets_B: The output that is explained for each row, int64; None where there is only one.
        window: Its length along each axis but the first, such as (4, 4) pixels or (1, 12): one step, all channels.
        stride: How far it moves at once along each axis; at most its length.
        baseline: What stands where something is hidden.

    Returns:
        float32, of the shape of ``inputs``: what the output loses, on average over the windows that hide a number.

    Raises:
        ValueError: The window is larger than the input, or the stride than the window.
    """
    shape = tuple(inputs.shape[1:])
    if len(window) != len(shape) or len(stride) != len(shape):
        raise ValueError(f"window and stride must have {len(shape)} lengths, got {window} and {stride}")
    for length, of_window, of_stride in zip(shape, window, stride, strict=True):
        if not 0 < of_stride <= of_window <= length:
            raise ValueError(f"need 0 < stride <= window <= input on every axis, got {stride}, {window} and {shape}")
    with torch.no_grad():
        values: Tensor = Occlusion(forward).attribute(
            inputs, sliding_window_shapes=window, strides=stride, baselines=baseline, target=targets_B
        )
    return values.float()


def ablate(forward: Forward, inputs_BF: Tensor, targets_B: Tensor | None, *, baseline_1F: Tensor) -> Tensor:
    """Put the baseline in the place of one feature at a time.

    Args:
        forward: Returns outputs of shape (B, C), or (B,); need not be differentiable.
        inputs_BF: float32, shape (B, F).
        targets_B: The output that is explained for each row, int64; None where there is only one.
        baseline_1F: What stands for a feature that is not known, such as its mean; float32, shape (1, F).

    Returns:
        float32, shape (B, F): what the output loses.
    """
    with torch.no_grad():
        values: Tensor = FeatureAblation(forward).attribute(inputs_BF, baselines=baseline_1F, target=targets_B)
    return values.float()
