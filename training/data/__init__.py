"""The data sets: every module of this folder whose name has no leading underscore is one, found by its file name.

Such a module defines ``load(data_dir: Path | None) -> DataSet``, which raises
:class:`training.errors.DataError` where the files are missing or damaged. Its rows are of the kind that its networks
take: :class:`Rows` of pictures, :class:`TableRows` of named numbers.
"""

import importlib
import pkgutil
from collections.abc import Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from app.bundle.manifest import Feature, Target

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
class TableRows:
    """Rows of a table, and what is to be told of each.

    Attributes:
        features: float64, shape (N, F).
        targets: int64 of shape (N,), the class of each row; or float64, a number.
    """

    features: NDArray[np.float64]
    targets: NDArray[Any]

    def __post_init__(self) -> None:
        if len(self.features) != len(self.targets):
            raise ValueError(f"there are {len(self.features)} rows of features and {len(self.targets)} targets")

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, indices: NDArray[np.int64]) -> "TableRows":
        """Return the rows at ``indices``, int64 of shape (M,), as a copy."""
        return TableRows(features=self.features[indices], targets=self.targets[indices])

    def and_rows(self, other: "TableRows") -> "TableRows":
        """Return these rows, and the others behind them."""
        return TableRows(
            features=np.concatenate([self.features, other.features]),
            targets=np.concatenate([self.targets, other.targets]),
        )


RowsT = TypeVar("RowsT", bound=Sized)


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSet(Generic[RowsT]):
    """A data set, split.

    Attributes:
        name: As people write it.
        license: SPDX identifier.
        classes: The label of each class index; empty where a number is told.
        files: SHA-256 of the content of each source file, uncompressed.
        train: What the weights are fitted to.
        validation: What choices are made on.
        test: Looked at once, after all choices.
    """

    name: str
    license: str
    classes: tuple[str, ...]
    files: dict[str, str]
    train: RowsT
    validation: RowsT
    test: RowsT


Pictures = DataSet[Rows]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table(DataSet[TableRows]):
    """A data set whose rows are named numbers.

    Attributes:
        features: The columns, in their order.
        target: The number that is told; None where it is a class.
    """

    features: tuple[Feature, ...]
    target: Target | None = None


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


def load(name: str, data_dir: Path | None = None) -> DataSet[Any]:
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
    data: DataSet[Any] = importlib.import_module(f"{__name__}.{name}").load(data_dir)
    return data
