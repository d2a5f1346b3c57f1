"""The first test pictures in one small file, so that the tests of the service need no data set."""

from pathlib import Path

import numpy as np

from training.data import Pictures

NUM_ROWS = 512


def write_fixture(data: Pictures, path: Path) -> None:
    """Write the first test rows as ``images``, uint8 of shape (512, H, W), and ``labels``, uint8 of shape (512,).

    The same data gives the same file.

    Raises:
        OSError: The file may not be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        np.savez_compressed(
            file, images=data.test.images[:NUM_ROWS], labels=data.test.labels[:NUM_ROWS].astype(np.uint8)
        )
