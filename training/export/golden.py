"""The golden rows of a bundle: edges that no data set holds, real pictures, and the trainer's own answers.

Shape suffixes: B golden rows, H height, W width, C classes.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.bundle.golden import GoldenRows
from app.tensors import Array
from training.export.verify import PROBABILITIES, Run

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


def make_golden(run: Run, validation_images: NDArray[np.uint8], classes: tuple[str, ...]) -> GoldenRows:
    """Build golden rows of the edges and of the first validation pictures; none is of the test set.

    Args:
        run: The eager network as it is served, taking ``image``, float32 of shape (B, H, W).
        validation_images: uint8, shape (N, H, W).
        classes: The label of each class index.
    """
    edges_BHW = edge_images(*validation_images.shape[1:])
    images_BHW = np.concatenate([edges_BHW, validation_images[:NUM_REAL_ROWS]])
    inputs = {"image": images_BHW.astype(np.float32)}
    outputs = run(inputs)
    return GoldenRows(
        requests=[{"image": image_HW.tolist()} for image_HW in images_BHW],
        inputs=inputs,
        outputs=outputs,
        responses=[response(probabilities_C, classes) for probabilities_C in outputs[PROBABILITIES]],
    )


def response(probabilities_C: Array, classes: tuple[str, ...]) -> dict[str, Any]:
    """Return the prediction that a request should be answered with, from float32 probabilities of shape (C,)."""
    index = int(probabilities_C.argmax())
    return {
        "label": classes[index],
        "index": index,
        "probability": float(probabilities_C[index]),
        "probabilities": {label: float(p) for label, p in zip(classes, probabilities_C, strict=True)},
    }
