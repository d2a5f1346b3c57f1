"""A few test rows of a data set in one small file, so that the tests of the service need no data set.

Shape suffixes: N rows, T steps of the longest series, K channels.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from app.tensors import Array
from training.data import Pictures, Sequences
from training.examples import pad

NUM_PICTURES = 512
SERIES_OF_EACH_CLASS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Fixture:
    """What is kept of a data set.

    Attributes:
        file_name: Of the file.
        arrays: From the data set to what the file holds.
    """

    file_name: str
    arrays: Callable[[Any], Mapping[str, Array]]


def picture_arrays(data: Pictures) -> dict[str, Array]:
    """Return the first test rows: ``images``, uint8 of shape (512, H, W), and ``labels``, uint8 of shape (512,)."""
    rows = data.test
    return {"images": rows.images[:NUM_PICTURES], "labels": rows.labels[:NUM_PICTURES].astype(np.uint8)}


def series_arrays(data: Sequences) -> dict[str, Array]:
    """Return the first ten test rows of each class, in the order of the source.

    Returns:
        ``series``, float32 of shape (N, T, K), filled up with zeros; ``lengths``, int64 of shape (N,); ``labels``,
        uint8 of shape (N,).
    """
    labels = data.test.labels
    of_class = [np.flatnonzero(labels == index)[:SERIES_OF_EACH_CLASS] for index in range(len(data.classes))]
    rows = data.test.take(np.sort(np.concatenate(of_class)))
    series_NTK, lengths_N = pad(rows.series)
    return {"series": series_NTK, "lengths": lengths_N, "labels": rows.labels.astype(np.uint8)}


# by the name of the data set
FIXTURES = {
    "fashion_mnist": Fixture(file_name="fashion_mnist_test_512.npz", arrays=picture_arrays),
    "japanese_vowels": Fixture(file_name="japanese_vowels_test_90.npz", arrays=series_arrays),
}


def write_fixture(name: str, data: Any, path: Path) -> None:
    """Write what is kept of a data set; the same data gives the same file.

    Args:
        name: Of the data set, one of ``FIXTURES``.
        data: The data set.
        path: Of the file; its folder is made where it is missing.

    Raises:
        OSError: The file may not be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **FIXTURES[name].arrays(data))
