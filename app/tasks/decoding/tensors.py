"""One input of a ``tensors`` request: nested numbers of the shape of a row. Validated whole, with every fault."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Annotated, Any

import numpy as np
from pydantic import PlainValidator, ValidationError, WithJsonSchema
from pydantic_core import InitErrorDetails, PydanticCustomError

from app.bundle.manifest import TensorBounds, TensorSpec
from app.errors import Limit
from app.tasks.decoding.numbers import custom_fault, float_array, kind_of, number_fault
from app.tensors import Array

MAX_FAULTS_PER_TENSOR = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class RowSpec:
    """What one row of an input may be.

    Attributes:
        spec: Of the manifest; its first axis is the batch.
        low: Least number that is accepted; an int for whole numbers.
        high: Greatest number that is accepted.
        max_lengths: By the name of an axis.
    """

    spec: TensorSpec
    low: float
    high: float
    max_lengths: Mapping[str, int]

    @classmethod
    def of(cls, spec: TensorSpec, bounds: TensorBounds, max_lengths: Mapping[str, int]) -> "RowSpec":
        """Return what an input takes: within the bounds, and within what its dtype holds.

        Raises:
            ValueError: Nothing is left, or bounds are set on truth values.
        """
        if spec.dtype == "bool":
            if bounds != TensorBounds():
                raise ValueError(f"the input {spec.name!r} takes true and false, which have no bounds")
            return cls(spec=spec, low=0, high=1, max_lengths=max_lengths)
        dtype = np.dtype(spec.dtype)
        low: float
        high: float
        if dtype.kind == "f":
            low, high = float(np.finfo(dtype).min), float(np.finfo(dtype).max)
        else:
            low, high = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
        low = low if bounds.low is None else max(low, bounds.low)
        high = high if bounds.high is None else min(high, bounds.high)
        if dtype.kind != "f":
            low, high = math.ceil(low), math.floor(high)
        if low > high:
            raise ValueError(f"no number of {spec.dtype} lies within the bounds of the input {spec.name!r}")
        return cls(spec=spec, low=low, high=high, max_lengths=max_lengths)

    @property
    def most(self) -> tuple[int, ...]:
        """The lengths of the largest row."""
        return tuple(self.max_lengths[axis] if isinstance(axis, str) else axis for axis in self.spec.shape[1:])

    @property
    def num_arrays(self) -> int:
        """Arrays that the JSON of the largest row holds."""
        return sum(math.prod(self.most[:depth]) for depth in range(len(self.most)))

    def example(self, lengths: Mapping[str, int]) -> Any:
        """Return a row, as JSON holds it, that rises from -1 to 1 within the bounds; truth values are all false."""
        shape = tuple(lengths[axis] if isinstance(axis, str) else axis for axis in self.spec.shape[1:])
        if self.spec.dtype == "bool":
            return np.zeros(shape, np.bool_).tolist()
        if np.dtype(self.spec.dtype).kind != "f":
            whole = int(min(max(0, self.low), self.high))
            return np.full(shape, whole, self.spec.dtype).tolist()
        ramp = np.linspace(-1, 1, math.prod(shape)).round(3)
        return ramp.clip(self.low, self.high).reshape(shape).tolist()


def tensor_type(row: RowSpec) -> Any:
    """Return the annotated type of one input of an instance: a validator to an array, and its JSON schema."""
    return Annotated[Any, PlainValidator(_validator(row)), WithJsonSchema(_json_schema(row))]


def output_schema(spec: TensorSpec) -> dict[str, Any]:
    """Return the JSON schema of one row of an output."""
    return _nested({"type": _json_type(spec.dtype)}, [None if isinstance(a, str) else (a, a) for a in spec.shape[1:]])


def _validator(row: RowSpec) -> Callable[[object], Array]:
    is_float = np.dtype(row.spec.dtype).kind == "f"

    def validate(value: object) -> Array:
        lengths: list[int] = []
        faults = list(islice(_faults(value, row, (), lengths), MAX_FAULTS_PER_TENSOR))
        if faults:
            raise ValidationError.from_exception_data("tensor", faults)
        # whole numbers one by one: through a float, those beyond 2**53 would become others
        return float_array(value, row.spec.dtype) if is_float else _whole(value, row)

    return validate


def _whole(value: object, row: RowSpec) -> Array:
    flat: list[int] = []

    def collect(part: Any, depth: int) -> None:
        if depth == 0:
            flat.append(int(part))
            return
        for item in part:
            collect(item, depth - 1)

    shape: list[int] = []
    part: Any = value
    for _ in row.spec.shape[1:]:
        shape.append(len(part))
        part = part[0]
    collect(value, len(shape))
    return np.array(flat, row.spec.dtype).reshape(shape)


def _faults(
    value: object, row: RowSpec, place: tuple[int, ...], lengths: list[int]
) -> Iterator[InitErrorDetails]:  # fmt: skip
    """Yield what is wrong with a value; the first length of an open axis is that of all its arrays."""
    depth = len(place)
    axes = row.spec.shape[1:]
    if depth == len(axes):
        if fault := _number_fault(value, row):
            yield InitErrorDetails(type=fault, loc=place, input=None)
        return
    if fault := _array_fault(value, row, depth, lengths):
        yield InitErrorDetails(type=fault, loc=place, input=None)
        return
    assert isinstance(value, list)
    if len(lengths) == depth:
        lengths.append(len(value))
    if depth + 1 < len(axes):
        for index, item in enumerate(value):
            yield from _faults(item, row, (*place, index), lengths)
        return
    for index, item in enumerate(value):
        if fault := _number_fault(item, row):
            yield InitErrorDetails(type=fault, loc=(*place, index), input=None)


def _array_fault(value: object, row: RowSpec, depth: int, lengths: list[int]) -> PydanticCustomError | None:
    axis = row.spec.shape[1 + depth]
    what = "numbers" if depth + 2 == len(row.spec.shape) else "arrays"
    most = row.max_lengths[axis] if isinstance(axis, str) else axis
    expected = f"expected an array of {f'1 to {most}' if isinstance(axis, str) else axis} {what}"
    if not isinstance(value, list):
        return custom_fault("wrong_type", f"{expected}, found {kind_of(value)}")
    if isinstance(axis, str):
        if not value:
            return custom_fault("too_short", f"{expected}, found 0")
        if len(value) > most:
            return custom_fault("too_long", f"{expected}, found {len(value)}", Limit(f"max_lengths.{axis}", most))
        if len(lengths) > depth and len(value) != lengths[depth]:
            message = f"expected an array of {lengths[depth]} {what}, as the one before, found {len(value)}"
            return custom_fault("wrong_shape", message)
    elif len(value) != axis:
        return custom_fault("wrong_shape", f"{expected}, found {len(value)}")
    return None


def _number_fault(value: object, row: RowSpec) -> PydanticCustomError | None:
    dtype = row.spec.dtype
    if dtype == "bool":
        if value is True or value is False:
            return None
        return custom_fault("wrong_type", f"expected true or false, found {kind_of(value)}")
    if fault := number_fault(value, row.low, row.high):
        return fault
    if isinstance(value, float) and np.dtype(dtype).kind != "f" and not value.is_integer():
        return custom_fault("not_whole", f"expected a whole number, found {value!r}")
    return None


def _json_type(dtype: str) -> str:
    return "boolean" if dtype == "bool" else "number" if dtype.startswith("float") else "integer"


def _json_schema(row: RowSpec) -> dict[str, Any]:
    number: dict[str, Any] = {"type": _json_type(row.spec.dtype)}
    if row.spec.dtype != "bool":
        number |= {"minimum": row.low, "maximum": row.high}
    lengths = [(1, row.max_lengths[axis]) if isinstance(axis, str) else (axis, axis) for axis in row.spec.shape[1:]]
    shape = ", ".join(map(str, row.spec.shape[1:]))
    described = f"{row.spec.dtype} of shape ({shape})" if shape else f"one {row.spec.dtype}"
    return _nested(number, lengths) | {"title": row.spec.name, "description": described}


def _nested(schema: dict[str, Any], lengths: "list[tuple[int, int] | None] | list[tuple[int, int]]") -> dict[str, Any]:
    for bounds in reversed(lengths):
        schema = {"type": "array", "items": schema}
        if bounds is not None:
            schema |= {"minItems": bounds[0], "maxItems": bounds[1]}
    return schema
