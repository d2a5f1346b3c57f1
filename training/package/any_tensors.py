"""Rows of the task ``tensors``."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from app.bundle.manifest import GenericTensors, TaskSettings, TensorSpec
from app.tensors import LENGTHS, Array, Tensors
from training.errors import PackageRefused
from training.examples import pad
from training.package.kind import Kind, Requests, array_of, expect_shape, expect_within, member_of


class AnyTensors(Kind):
    """Tensors as they are; all rows of one shape, but beside ``lengths``."""

    def __init__(self, settings: GenericTensors, inputs: tuple[TensorSpec, ...]) -> None:
        self._settings = settings
        self.inputs = inputs
        self._has_lengths = any(spec.name == LENGTHS for spec in inputs)

    @property
    def settings(self) -> TaskSettings:
        """See :class:`Kind`."""
        return self._settings

    def draw(self, generator: np.random.Generator, count: int, steps: int) -> Requests:
        """Return the least, the greatest, and numbers between, of rows of the same shape; see :class:`Kind`."""
        rows: Requests = []
        for index in range(count + 2):
            length = steps if not self._has_lengths or index < 2 else int(generator.integers(1, steps + 1))
            rows.append({"inputs": {s.name: self._draw(s, generator, index, length) for s in self._own()}})
        return rows

    def tensors(self, requests: Requests) -> Tensors:
        """See :class:`Kind`."""
        rows: list[Tensors] = []
        for index, request in enumerate(requests):
            inputs = member_of(request, "inputs", index)
            names = {spec.name for spec in self.inputs}
            if not isinstance(inputs, dict) or not names - {LENGTHS} <= set(inputs) <= names:
                raise PackageRefused(f"row {index} has not the inputs {', '.join(sorted(names))}")
            rows.append({spec.name: self._row(inputs[spec.name], spec, index) for spec in self._own()})
        if self._has_lengths:
            padded = {spec.name: pad([row[spec.name] for row in rows]) for spec in self._own()}
            lengths_B = next(iter(padded.values()))[1]
            return {spec.name: lengths_B if spec.name == LENGTHS else padded[spec.name][0] for spec in self.inputs}
        for index, row in enumerate(rows):
            for name, array in row.items():
                expect_shape(array, rows[0][name].shape, index)
        return {spec.name: np.stack([row[spec.name] for row in rows]) for spec in self.inputs}

    def requests(self, arrays: Mapping[str, Array]) -> Requests:
        """See :class:`Kind`."""
        names = [spec.name for spec in self.inputs]
        if set(arrays) != set(names):
            raise PackageRefused(f"expected arrays named {', '.join(names)}, found {', '.join(sorted(arrays))}")
        rows: Requests = []
        for index in range(min(len(array) for array in arrays.values())):
            row = {spec.name: arrays[spec.name][index] for spec in self._own()}
            if self._has_lengths:
                row = {name: array[: int(arrays[LENGTHS][index])] for name, array in row.items()}
            rows.append({"inputs": {name: array.tolist() for name, array in row.items()}})
        return rows

    def responses(self, outputs: Tensors) -> Requests:
        """See :class:`Kind`."""
        columns = {name: array.tolist() for name, array in outputs.items()}
        return [{"outputs": dict(zip(columns, row, strict=True))} for row in zip(*columns.values(), strict=True)]

    def _own(self) -> Sequence[TensorSpec]:
        return [spec for spec in self.inputs if spec.name != LENGTHS]

    def _bounds(self, spec: TensorSpec) -> tuple[float, float]:
        """Return the bounds that the service will hold an input to."""
        dtype = np.dtype(spec.dtype)
        info = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype) if dtype.kind in "iu" else None
        low, high = (0, 1) if info is None else (info.min, info.max)
        bounds = self._settings.bounds.get(spec.name)
        if bounds is not None:
            low = low if bounds.low is None else bounds.low
            high = high if bounds.high is None else bounds.high
        return (float(low), float(high)) if dtype.kind == "f" else (int(np.ceil(low)), int(np.floor(high)))

    def _draw(self, spec: TensorSpec, generator: np.random.Generator, index: int, steps: int) -> Any:
        maximum = self._settings.max_lengths
        shape = tuple(min(steps, maximum[axis]) if isinstance(axis, str) else axis for axis in spec.shape[1:])
        low, high = self._bounds(spec)
        if index < 2:
            return np.full(shape, (low, high)[index], spec.dtype).tolist()
        if np.dtype(spec.dtype).kind == "f":
            return generator.uniform(low, high, shape).astype(spec.dtype).clip(low, high).tolist()
        return generator.integers(int(low), int(high), shape, endpoint=True).astype(spec.dtype).tolist()

    def _row(self, value: Any, spec: TensorSpec, index: int) -> Array:
        row = array_of(value, index, spec.dtype)
        lengths = self._settings.max_lengths
        fits = row.ndim == len(spec.shape) - 1 and all(
            1 <= length <= lengths[axis] if isinstance(axis, str) else length == axis
            for axis, length in zip(spec.shape[1:], row.shape, strict=True)
        )
        if not fits:
            raise PackageRefused(f"row {index} of {spec.name!r} has the shape {row.shape}, expected {spec.shape[1:]}")
        expect_within(row, *self._bounds(spec), spec.name)
        return row
