"""Where a reconstruction fails, and what the numbers of a code do to a picture.

Shape suffixes: B rows of the batch, H height, W width, K numbers of the code, D numbers that are varied, V values.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from app.tensors import Array


def error_map(images_BHW: Array, reconstructions_BHW: Array, *, low: float = 0.0, high: float = 255.0) -> Array:
    """Return the squared difference of every pixel, on the scale that the service reports errors on.

    Args:
        images_BHW: What went in, any real dtype.
        reconstructions_BHW: What came out, in the same unit.
        low: Of the unit; 0 on the scale.
        high: Of the unit; 1 on the scale.

    Returns:
        float32, shape (B, H, W); its mean over a picture is the picture's ``error``.

    Raises:
        ValueError: The shapes differ.
    """
    if images_BHW.shape != reconstructions_BHW.shape:
        raise ValueError(f"pictures {images_BHW.shape} and reconstructions {reconstructions_BHW.shape} differ in shape")
    errors: Array = (((images_BHW.astype(np.float64) - reconstructions_BHW) / (high - low)) ** 2).astype(np.float32)
    return errors


def widest(codes_BK: Array, count: int) -> list[int]:
    """Return the indices of the numbers of the code that vary most between pictures, the widest first."""
    order_K = np.argsort(-codes_BK.std(axis=0), kind="stable")
    return [int(index) for index in order_K[:count]]


def traverse(decode: Callable[[Tensor], Tensor], code_K: Array, codes_BK: Array, dims: list[int], num: int) -> Array:
    """Vary one number of a code at a time and decode.

    Args:
        decode: Turns codes, float32 of shape (B, K), into pictures of shape (B, H, W).
        code_K: Where the others stay.
        codes_BK: Of many pictures: each number is led from its 5% to its 95% quantile among them.
        dims: Which numbers are varied.
        num: Values of each.

    Returns:
        float32, shape (D, V, H, W).
    """
    codes_DVK = np.tile(code_K.astype(np.float32), (len(dims), num, 1))
    for row, dim in enumerate(dims):
        low, high = np.quantile(codes_BK[:, dim], [0.05, 0.95])
        codes_DVK[row, :, dim] = np.linspace(low, high, num)
    with torch.no_grad():
        pictures = decode(torch.from_numpy(codes_DVK.reshape(-1, len(code_K)))).numpy()
    varied: Array = pictures.reshape(len(dims), num, *pictures.shape[1:])
    return varied
