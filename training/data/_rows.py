"""The kinds of rows that networks take: pictures, named numbers, series and texts."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


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


@dataclass(frozen=True, slots=True, kw_only=True)
class SequenceRows:
    """Series of one number of channels, each of its own length, and their classes.

    Attributes:
        series: Of each row, float32 of shape (T_i, channels).
        labels: int64, shape (N,).
    """

    series: tuple[NDArray[np.float32], ...]
    labels: NDArray[np.int64]

    def __post_init__(self) -> None:
        if len(self.series) != len(self.labels):
            raise ValueError(f"there are {len(self.series)} series and {len(self.labels)} labels")
        channels = {each.shape[1:] for each in self.series}
        if len(channels) > 1 or any(len(shape) != 1 for shape in channels):
            raise ValueError(
                f"every series must have the shape (length, channels), of one number of channels: {channels}"
            )

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: NDArray[np.int64]) -> "SequenceRows":
        """Return the rows at ``indices``, int64 of shape (M,); the series themselves are shared, not copied."""
        return SequenceRows(series=tuple(self.series[index] for index in indices), labels=self.labels[indices])


@dataclass(frozen=True, slots=True, kw_only=True)
class TextRows:
    """Texts and their classes.

    Attributes:
        texts: Of each row, its text as people read it.
        labels: int64, shape (N,).
    """

    texts: tuple[str, ...]
    labels: NDArray[np.int64]

    def __post_init__(self) -> None:
        if len(self.texts) != len(self.labels):
            raise ValueError(f"there are {len(self.texts)} texts and {len(self.labels)} labels")

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: NDArray[np.int64]) -> "TextRows":
        """Return the rows at ``indices``, int64 of shape (M,)."""
        return TextRows(texts=tuple(self.texts[index] for index in indices), labels=self.labels[indices])
