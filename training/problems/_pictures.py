"""What problems of grey pictures share: size, range, golden pictures and statistics.

Shape suffixes: N rows of the split, B golden rows, K digits, H height, W width.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from torch.nn import functional

from app.bundle.manifest import InputStatistics, TensorSpec
from app.preprocess.image import ImageInput
from app.tensors import Array, Tensors
from training.data import Rows
from training.export.golden import NUM_REAL_ROWS, edge_images
from training.export.manifest import NUM_BINS

INPUT = "image"
PIXEL_RANGE = (0.0, 255.0)


def image_input(images_NHW: NDArray[np.uint8]) -> ImageInput:
    """Return what the service is to make of any picture."""
    _, height, width = images_NHW.shape
    low, high = PIXEL_RANGE
    return ImageInput(height=height, width=width, mode="L", low=low, high=high)


def image_spec(images_NHW: NDArray[np.uint8]) -> TensorSpec:
    """Return the tensor that goes in."""
    return TensorSpec(name=INPUT, dtype="float32", shape=("batch", *images_NHW.shape[1:]))


def as_inputs(images_NHW: NDArray[np.uint8]) -> Tensors:
    """Return pictures as they are fed to the served network."""
    return {INPUT: images_NHW.astype(np.float32)}


def measured_size(images_NHW: NDArray[np.uint8]) -> dict[str, Any]:
    """Return what every network of pictures is told of its data: their size, and the scale of their pixels."""
    _, height, width = images_NHW.shape
    pixels = pixel_statistics(images_NHW)
    return {
        "height": height,
        "width": width,
        "input_mean": round(pixels.mean, 4),
        "input_std": round(pixels.std, 4),
    }


def golden_pictures(validation: Rows) -> tuple[list[Any], Tensors]:
    """Return requests of golden rows, and the inputs that they become: edges, then the first validation pictures."""
    images_BHW = np.concatenate([edge_images(*validation.images.shape[1:]), validation.images[:NUM_REAL_ROWS]])
    return [{INPUT: image_HW.tolist()} for image_HW in images_BHW], as_inputs(images_BHW)


def digits(height: int, width: int) -> Array:
    """Return pictures of another kind than clothes: scikit-learn's 1,797 handwritten digits, enlarged.

    Returns:
        White on black, float32 from 0 to 255, shape (1797, height, width).
    """
    small_K88 = load_digits().images  # from 0 to 16
    enlarged = functional.interpolate(
        torch.tensor(small_K88[:, None] / 16 * 255), (height, width), mode="bilinear", align_corners=False
    )
    pixels_KHW: Array = enlarged[:, 0].float().numpy()
    return pixels_KHW


def pixel_statistics(images_NHW: NDArray[np.uint8]) -> InputStatistics:
    """Return moments and histogram of pixels."""
    low, high = PIXEL_RANGE
    counts_256 = np.bincount(images_NHW.reshape(-1), minlength=256)
    values_256 = np.arange(256, dtype=np.float64)
    mean = float((counts_256 * values_256).sum() / images_NHW.size)
    variance = float((counts_256 * (values_256 - mean) ** 2).sum() / images_NHW.size)
    histogram, _ = np.histogram(values_256, bins=NUM_BINS, range=(low, high), weights=counts_256 / images_NHW.size)
    return InputStatistics(
        minimum=low,
        maximum=high,
        mean=round(mean, 6),
        std=round(variance**0.5, 6),
        histogram=tuple(float(share) for share in histogram.clip(0, 1)),
    )
