"""Rows as plain bytes: the numbers of the one input as they lie in memory, for callers who want no JSON at all."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from app.bundle.manifest import TensorSpec
from app.errors import Fault, InvalidInput, TooManyInstances
from app.tensors import LENGTHS, Array, Tensors

MEDIA_TYPE = "application/octet-stream"
MAX_FAULTS = 8


class RawRows:
    """Reads bodies of bytes: little-endian, in C order, row after row, without any header.

    How many rows there are follows from the length of the body. Where the model takes rows of different lengths, a body
    is one row, and its length follows instead.

    Args:
        spec: Of the input, as the manifest has it; its first axis is the batch.
        low: Least number that is accepted; or one for each place of the last axis, shape (F,).
        high: Greatest number that is accepted, likewise.
        lengths: Of the second axis, where that is an open one; None where the shape is fixed.
        has_lengths: Whether the model wants to be told the length.
        max_rows: Most rows of one body.
    """

    def __init__(
        self,
        spec: TensorSpec,
        *,
        low: float | Array,
        high: float | Array,
        lengths: range | None = None,
        has_lengths: bool = False,
        max_rows: int,
    ) -> None:
        self._name = spec.name
        self._is_bool = spec.dtype == "bool"
        # bytes other than 0 and 1 are no truth values, and whatever reads them as such may do anything
        self._dtype = np.dtype(np.uint8 if self._is_bool else spec.dtype).newbyteorder("<")
        # as the numbers are: what JSON takes at a bound is the nearest number of the input's own dtype
        self._low, self._high = (np.asarray(bound).astype(self._dtype)[()] for bound in (low, high))
        self._lengths = lengths
        self._has_lengths = has_lengths
        self._shape = tuple(axis for axis in spec.shape[1 if lengths is None else 2 :] if isinstance(axis, int))
        self._unit_bytes = math.prod(self._shape) * self._dtype.itemsize
        self._max_units = max_rows if lengths is None else lengths[-1]
        self._least_units = 1 if lengths is None else lengths[0]

    @property
    def dtype(self) -> "np.dtype[Any]":
        """Of the numbers of a body."""
        return self._dtype

    @property
    def row_shape(self) -> tuple[int, ...] | None:
        """Shape of a row; None where rows are of different lengths."""
        return self._shape if self._lengths is None else None

    def decode_fast(self, body: bytes | memoryview) -> Tensors | None:
        """Return the tensors of a body, as :meth:`decode` does; None where it is not good."""
        count, rest = divmod(len(body), self._unit_bytes)
        if rest or not self._least_units <= count <= self._max_units:
            return None
        flat: Array = np.frombuffer(body, self._dtype)
        return self._tensors(flat, count) if self._is_within(flat) else None

    def decode(self, body: bytes) -> Tensors:
        """Return the tensors of a body; the array is a view of its bytes, and not to be written to.

        Raises:
            InvalidInput: The body has another length than rows have, or a number lies outside its range.
            TooManyInstances: It holds more rows than the limit.
        """
        tensors = self.decode_fast(body)
        if tensors is not None:
            return tensors
        count, rest = divmod(len(body), self._unit_bytes)
        if rest or not self._least_units <= count <= self._max_units:
            raise self._wrong_length(len(body), count, rest)
        raise InvalidInput(*self._faults(np.frombuffer(body, self._dtype)))

    def describe(self) -> str:
        """Say what a body is, in one line."""
        shape = " x ".join(map(str, self._shape)) or "1"
        dtype = "bool (one byte, 0 or 1)" if self._is_bool else self._dtype.name
        each = f"{self._unit_bytes} bytes each: {dtype}, little-endian, {shape}"
        if self._lengths is None:
            return f"rows of {each}"
        return f"one row of {self._least_units} to {self._max_units} steps, {each}"

    def _tensors(self, flat: Array, count: int) -> Tensors:
        if self._is_bool:
            flat = flat.view(np.bool_)
        if self._lengths is None:
            return {self._name: flat.reshape(count, *self._shape)}
        tensors = {self._name: flat.reshape(1, count, *self._shape)}
        if self._has_lengths:
            tensors[LENGTHS] = np.array([count], np.int64)
        return tensors

    def _is_within(self, flat: Array) -> bool:
        if not self._low.ndim:
            # NaN is found as the greatest and as the least, and is neither; two places are found faster than the values
            return bool(flat[flat.argmax()] <= self._high and flat[flat.argmin()] >= self._low)
        rows_BF = flat.reshape(-1, len(self._low))
        return bool(((rows_BF >= self._low) & (rows_BF <= self._high)).all())

    def _wrong_length(self, num_bytes: int, count: int, rest: int) -> InvalidInput | TooManyInstances:
        if not rest and self._lengths is None and count:
            return TooManyInstances(count, self._max_units)
        unit = "rows" if self._lengths is None else "steps"
        found = f"found {num_bytes} bytes, which are {count} {unit}" + (f" and {rest} bytes" if rest else "")
        return InvalidInput(Fault(pointer="#", code="wrong_length", message=f"expected {self.describe()}; {found}"))

    def _faults(self, flat: Array) -> Sequence[Fault]:
        """Name the first numbers that are out of range, by their place in the body."""
        width = math.prod(self._shape) if self._lengths is None else flat.size
        rows = flat.reshape(-1, len(self._low)) if self._low.ndim else flat
        wrong = np.flatnonzero(~((rows >= self._low) & (rows <= self._high)))[:MAX_FAULTS]
        faults = []
        for place in wrong:
            bounds = (bound[place % len(bound)] if bound.ndim else bound for bound in (self._low, self._high))
            low, high = (float(bound) for bound in bounds)
            faults.append(
                Fault(
                    pointer="#",
                    code="out_of_range" if np.isfinite(flat[place]) else "not_finite",
                    message=f"expected a number from {low:g} to {high:g}, found {flat[place]} as number "
                    f"{place % width} of row {place // width}",
                )
            )
        return faults
