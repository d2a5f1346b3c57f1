"""The data sets: every module of this folder whose name has no leading underscore is one, found by its file name.

Such a module defines ``load(data_dir: Path | None) -> DataSet``, which raises
:class:`training.errors.DataError` where the files are missing or damaged.
"""

import importlib
import pkgutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

# One split for every seed and architecture, so that their validation scores can be compared.
SPLIT_SEED = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Pictures and their classes.

    Attributes:
        images: uint8, shape (N, height, width).
        labels: int64, shape (N,).
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def __post_init__(self) -> None:
        if len(self.images) != len(self.labels):
            raise ValueError(f"there are {len(self.images)} images and {len(self.labels)} labels")

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: NDArray[np.int64]) -> "Rows":
        """Return the rows at ``indices``, int64 of shape (M,), as a copy."""
        return Rows(images=self.images[indices], labels=self.labels[indices])


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSet:
    """A data set, split.

    Attributes:
        name: As people write it.
        license: SPDX identifier.
        classes: The label of each class index.
        files: SHA-256 of the content of each source file, uncompressed.
        train: What the weights are fitted to.
        validation: What choices are made on.
        test: Looked at once, after all choices.
    """

    name: str
    license: str
    classes: tuple[str, ...]
    files: dict[str, str]
    train: Rows
    validation: Rows
    test: Rows


def split(rows: Rows, num_validation: int, *, seed: int = SPLIT_SEED) -> tuple[Rows, Rows]:
    """Split rows by a seeded shuffle into (train, validation), each in its original order.

    Raises:
        ValueError: One side would be empty.
    """
    if not 0 < num_validation < len(rows):
        raise ValueError(f"cannot take {num_validation} validation rows out of {len(rows)}")
    order = np.random.default_rng(seed).permutation(len(rows))
    return rows.take(np.sort(order[num_validation:])), rows.take(np.sort(order[:num_validation]))


def names() -> list[str]:
    """Return the names of all data sets, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))


def load(name: str, data_dir: Path | None = None) -> DataSet:
    """Read a data set.

    Args:
        name: One of :func:`names`.
        data_dir: Where its files lie; without it the data set looks in its usual places.

    Raises:
        ValueError: There is no such data set.
        DataError: Its files are missing, damaged or others.
    """
    if name not in names():
        raise ValueError(f"there is no data set {name!r}, there are: {', '.join(names())}")
    data: DataSet = importlib.import_module(f"{__name__}.{name}").load(data_dir)
    return data
