"""What every kind of task does with rows, and how rows are read.

Shape suffixes: C classes.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np

from app.bundle.manifest import GenericTensors, TabularRegression, TaskSettings, TensorSpec
from app.tensors import Array, Tensors
from training.errors import PackageRefused
from training.export.golden import response
from training.export.verify import PROBABILITIES

Requests = list[Any]


class Kind(ABC):
    """One kind of task, with the settings of one model."""

    inputs: tuple[TensorSpec, ...]

    @property
    @abstractmethod
    def settings(self) -> TaskSettings:
        """The task of the manifest."""

    @property
    def labels(self) -> tuple[str, ...] | None:
        """The labels, where there are any."""
        settings = self.settings
        return None if isinstance(settings, GenericTensors | TabularRegression) else getattr(settings, "labels", None)

    @abstractmethod
    def draw(self, generator: np.random.Generator, count: int, steps: int) -> Requests:
        """Return requests at the edges of what can be asked, and random ones.

        Args:
            generator: Decides the random ones.
            count: How many of these.
            steps: Length of open axes, where all rows must have the same.
        """

    @abstractmethod
    def tensors(self, requests: Requests) -> Tensors:
        """Return the tensors of requests.

        Raises:
            PackageRefused: One is not what the model takes; the message names the row.
        """

    @abstractmethod
    def requests(self, arrays: Mapping[str, Array]) -> Requests:
        """Return the requests that become the rows of arrays.

        Raises:
            PackageRefused: The arrays are others than the model takes.
        """

    def responses(self, outputs: Tensors) -> Requests:
        """Return the predictions that a service would answer with."""
        assert self.labels is not None
        return [response(row_C, self.labels) for row_C in outputs[PROBABILITIES]]


def member_of(request: Any, key: str, index: int) -> Any:
    """Return what a request holds behind its one key.

    Raises:
        PackageRefused: It is no such object.
    """
    if not isinstance(request, dict) or set(request) != {key}:
        raise PackageRefused(f'row {index} is not of the form {{"{key}": ...}}')
    return request[key]


def number_of(value: Any, index: int, name: str) -> float:
    """Return a number of a row.

    Raises:
        PackageRefused: It is none.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise PackageRefused(f"row {index}: {name} is no number")
    return float(value)


def array_of(value: Any, index: int, dtype: str = "float64") -> Array:
    """Return a row as an array of a dtype.

    Raises:
        PackageRefused: It holds something else than numbers (or truth values), or is ragged.
    """
    try:
        array = np.array(value)
        if array.dtype.kind not in ("b" if dtype == "bool" else "iuf"):
            raise ValueError(f"expected numbers, found {array.dtype}")
        if np.dtype(dtype).kind in "iu" and array.dtype.kind == "f" and np.any(array != np.floor(array)):
            raise ValueError("expected whole numbers")
        if dtype != "bool" and array.size:
            # a cast would wrap around in silence
            most = np.finfo(dtype) if np.dtype(dtype).kind == "f" else np.iinfo(dtype)
            if not (array.min() >= most.min and array.max() <= most.max):
                raise ValueError(f"expected numbers of {dtype}, found {array.min()} to {array.max()}")
        return array.astype(dtype)
    except (TypeError, ValueError, OverflowError) as exc:
        raise PackageRefused(f"row {index} cannot be read: {exc}") from exc


def only_array(arrays: Mapping[str, Array], shape: tuple[int, ...]) -> Array:
    """Return the one array of a file, float64, whose rows have a shape.

    Raises:
        PackageRefused: There are more, or of another shape.
    """
    if len(arrays) != 1:
        raise PackageRefused(f"expected one array of rows beside labels or targets, found {', '.join(sorted(arrays))}")
    (rows,) = arrays.values()
    if rows.shape[1:] != shape or rows.dtype.kind not in "iuf":
        raise PackageRefused(f"the rows are {rows.dtype} of shape {rows.shape}, expected numbers of (rows, {shape})")
    return rows.astype(np.float64)


def expect_shape(row: Array, shape: tuple[int, ...], index: int) -> None:
    """Refuse a row of another shape."""
    if row.shape != shape:
        raise PackageRefused(f"row {index} has the shape {row.shape}, expected {shape}")


def expect_within(array: Array, low: float, high: float, name: str) -> None:
    """Refuse numbers outside the bounds."""
    if array.size and not (array.min() >= low and array.max() <= high):
        raise PackageRefused(
            f"{name!r} has numbers from {array.min():g} to {array.max():g}, and the bounds are {low:g} to {high:g}"
        )
