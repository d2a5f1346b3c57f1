"""What golden rows are made of: pictures at the edges that no data set holds, and the answer of a classifier.

Shape suffixes: H height, W width, C classes.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.tensors import Array

NUM_REAL_ROWS = 20


def edge_images(height: int, width: int) -> NDArray[np.uint8]:
    """Return pictures at the edges of what can be asked: uint8, shape (8, height, width).

    They are all black, all white, a checkerboard, a horizontal and a vertical gradient, one white pixel in the middle,
    one in the last corner, and noise.
    """
    rows_HW, columns_HW = np.indices((height, width))
    middle_HW, corner_HW = np.zeros((2, height, width), np.uint8)
    middle_HW[height // 2, width // 2] = 255
    corner_HW[-1, -1] = 255
    images: list[Array] = [
        np.zeros((height, width)),
        np.full((height, width), 255),
        (rows_HW + columns_HW) % 2 * 255,
        columns_HW * 255 // max(width - 1, 1),
        rows_HW * 255 // max(height - 1, 1),
        middle_HW,
        corner_HW,
        np.random.default_rng(0).integers(0, 256, (height, width)),
    ]
    return np.stack(images).astype(np.uint8)


def response(probabilities_C: Array, classes: tuple[str, ...]) -> dict[str, Any]:
    """Return the prediction that a request should be answered with, from float32 probabilities of shape (C,)."""
    index = int(probabilities_C.argmax())
    return {
        "label": classes[index],
        "index": index,
        "probability": float(probabilities_C[index]),
        "probabilities": {label: float(p) for label, p in zip(classes, probabilities_C, strict=True)},
    }
