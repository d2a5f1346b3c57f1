"""Named tensors in, named tensors out: for models that fit no other task."""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import MISSING, AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema, create_model

from app.bundle.loader import Bundle
from app.bundle.manifest import GenericTensors, Manifest, TensorBounds, TensorSpec
from app.errors import BundleError, Fault, InvalidInput, UnsupportedMedia, quoted
from app.tasks import Limits, NaturalInput
from app.tasks.decoding.faults import MAX_MEMBERS, pointer
from app.tasks.decoding.named import InputRule, NamedRows
from app.tasks.decoding.numbers import custom_fault
from app.tasks.decoding.raw import RawRows
from app.tasks.decoding.strict_json import JsonLimits
from app.tasks.decoding.tensors import RowSpec, output_schema, tensor_type
from app.tasks.shared.bodies import STRICT, read_instances, read_options, request_model, response_model, type_prefix
from app.tasks.shared.ragged import MAX_ARRAYS_TOGETHER, MAX_NUMBERS_TOGETHER, expect_affordable
from app.tensors import LENGTHS, Array, Tensors, concat, concat_padded

EXAMPLE_LENGTH = 4
# of one input: NumPy knows no more than 64, and JSON of half as many is nobody's model
MAX_AXES = 32


class TensorsTask:
    """The inputs of the manifest, each by its name and without the batch axis; see :class:`app.tasks.Task`.

    Beside ``lengths`` rows are padded by the core, and ``lengths`` may be left out: a row is then as long as it is.
    Without it, all rows of one request must have the same shape, as nobody could tell padding from what is real.

    Raises:
        BundleError: The settings name what is not there, or leave an axis without a bound.
    """

    media_types: tuple[str, ...] = ()

    def __init__(self, manifest: Manifest, settings: GenericTensors, limits: Limits) -> None:
        self._expect_known(manifest, settings)
        self._limits = limits
        try:
            self._rows = tuple(
                RowSpec.of(spec, settings.bounds.get(spec.name, TensorBounds()), settings.max_lengths)
                for spec in manifest.inputs
            )
        except ValueError as exc:
            raise BundleError(f"tensors: {exc}") from exc
        self._expect_possible_rows()
        self._has_lengths = any(spec.name == LENGTHS for spec in manifest.inputs)
        self._outputs = tuple(spec.name for spec in manifest.outputs)
        self._most_numbers = max(MAX_NUMBERS_TOGETHER, sum(math.prod(row.most) for row in self._rows))
        self.json_limits = self._limits_of_json()
        self.raw = self._raw_rows()
        self.named = NamedRows(
            [
                InputRule(
                    spec=row.spec,
                    low=row.low,
                    high=row.high,
                    lengths={axis: range(1, most + 1) for axis, most in settings.max_lengths.items()},
                )
                for row in self._rows
            ],
            max_rows=limits.max_instances,
            max_numbers=self._most_numbers + limits.max_instances,
        )
        self.natural: NaturalInput | None = None
        prefix = type_prefix(manifest)
        # the names may be any text, so they are aliases, and Python's own names are numbers
        fields: dict[str, Any] = {
            f"input_{index}": (tensor_type(row), Field(alias=row.spec.name)) for index, row in enumerate(self._rows)
        }
        if self._has_lengths:
            index = next(i for i, row in enumerate(self._rows) if row.spec.name == LENGTHS)
            told = "how many steps of the row count, from the first; all without it"
            fields[f"input_{index}"] = (
                tensor_type(self._rows[index]) | MISSING,
                Field(default=MISSING, alias=LENGTHS, description=told),
            )
        inputs: Any = create_model(f"{prefix}Inputs", __config__=STRICT, **fields)
        self.request_model = request_model(manifest, limits, inputs=(inputs, ...))
        outputs: Any = create_model(
            f"{prefix}Outputs",
            __config__=STRICT,
            **{f"output_{index}": _output_field(spec) for index, spec in enumerate(manifest.outputs)},
        )
        self.response_model = response_model(manifest, outputs=(outputs, ...))
        self.options_model: type[BaseModel] = _options_model(f"{prefix}Options", self._outputs)

    def decode_fast(self, body: bytes) -> None:
        """Decline: the shapes of any model are read by one reader, the strict one; see :class:`app.tasks.Task`."""

    def decode_json(self, document: object) -> Tensors:
        """Validate whatever is there; see :class:`app.tasks.Task`."""
        members = {"inputs": len(self._rows) + MAX_MEMBERS}
        instances = read_instances(self.request_model, document, self._limits, members=members)
        names = [row.spec.name for row in self._rows]
        rows = [dict(zip(names, vars(instance.inputs).values(), strict=True)) for instance in instances]
        for index, row in enumerate(rows):
            self._expect_consistent(row, index)
        self._expect_same_shapes(rows)
        self._expect_affordable(rows)
        parts = [{name: array[None] for name, array in row.items()} for row in rows]
        return concat_padded(parts) if self._has_lengths else concat(parts)

    def decode_file(self, data: bytes) -> Tensors:
        """Refuse: tensors have no file format here; see :class:`app.tasks.Task`."""
        raise UnsupportedMedia("this model takes application/json")

    def parse_options(self, query: Mapping[str, str]) -> tuple[str, ...]:
        """Read ``outputs``; see :class:`app.tasks.Task`."""
        if not query:
            return self._outputs
        options: Any = read_options(self.options_model, query)
        asked = options.outputs.split(",")
        return tuple(name for name in self._outputs if name in asked)

    def encode(self, outputs: Tensors, options: Sequence[str]) -> list[dict[str, Any]]:
        """Return what was asked for of every row; see :class:`app.tasks.Task`."""
        columns = [outputs[name].tolist() for name in options]
        return [{"outputs": dict(zip(options, row, strict=True))} for row in zip(*columns, strict=True)]

    def columns(self, outputs: Tensors) -> dict[str, Array]:
        """Return none: an output may be of any shape; see :class:`app.tasks.Task`."""
        return {}

    def conversion(self) -> None:
        """Say nothing: numbers are taken as they come; see :class:`app.tasks.Task`."""

    def example(self) -> dict[str, Any]:
        """Return a request with a row that rises from -1 to 1, within the bounds; see :class:`app.tasks.Task`."""
        axes = {axis for row in self._rows for axis in row.spec.shape[1:] if isinstance(axis, str)}
        lengths = {axis: min(EXAMPLE_LENGTH, self._rows[0].max_lengths[axis]) for axis in axes}
        if self._has_lengths:  # what follows the first axis of each is padded alike
            steps = {row.spec.shape[1] for row in self._rows if row.spec.name != LENGTHS}
            lengths |= dict.fromkeys((str(axis) for axis in steps), min(lengths[str(axis)] for axis in steps))
        inputs = {row.spec.name: row.example(lengths) for row in self._rows if row.spec.name != LENGTHS}
        return {"instances": [{"inputs": inputs}]}

    def _expect_known(self, manifest: Manifest, settings: GenericTensors) -> None:
        inputs = {spec.name for spec in manifest.inputs}
        axes = {axis for spec in manifest.inputs for axis in spec.shape[1:] if isinstance(axis, str)}
        if unknown := sorted(set(settings.bounds) - inputs):
            raise BundleError(f"tensors: the bounds name no input: {', '.join(unknown)}")
        if LENGTHS in settings.bounds:
            raise BundleError(f"tensors: {LENGTHS!r} is bounded by the row, and has no bounds of its own")
        if axes != set(settings.max_lengths):
            raise BundleError(
                f"tensors needs a greatest length of each open axis ({', '.join(sorted(axes)) or 'there is none'}), "
                f"and max_lengths is of: {', '.join(sorted(settings.max_lengths)) or 'none'}"
            )
        if inputs == {LENGTHS}:
            raise BundleError(f"tensors: {LENGTHS!r} is of another input, and there is none")
        if not manifest.outputs:
            raise BundleError("tensors needs an output")

    def _expect_possible_rows(self) -> None:
        """Refuse inputs whose least row no body could hold; its example alone could take all memory."""
        for row in self._rows:
            fixed = [length for length in row.spec.shape[1:] if isinstance(length, int)]
            if len(row.spec.shape) > MAX_AXES:
                raise BundleError(f"tensors: the input {row.spec.name!r} has more than {MAX_AXES} axes")
            if (numbers := math.prod(fixed)) > MAX_NUMBERS_TOGETHER:
                raise BundleError(
                    f"tensors: a row of the input {row.spec.name!r} has {numbers} numbers at least, and "
                    f"{MAX_NUMBERS_TOGETHER} are the most that JSON is read for"
                )

    def _raw_rows(self) -> RawRows | None:
        """Return the reader of plain bytes: of one input, no more than whose second axis is open."""
        rows = [row for row in self._rows if row.spec.name != LENGTHS]
        if len(rows) != 1 or any(isinstance(axis, str) for axis in rows[0].spec.shape[2:]):
            return None
        (row,) = rows
        is_open = len(row.spec.shape) > 1 and isinstance(row.spec.shape[1], str)
        return RawRows(
            row.spec,
            low=row.low,
            high=row.high,
            lengths=range(1, row.most[0] + 1) if is_open else None,
            has_lengths=self._has_lengths,
            max_rows=max(1, min(self._limits.max_instances, self._most_numbers // math.prod(row.most))),
        )

    def _limits_of_json(self) -> JsonLimits:
        """Return what a body may hold; no more than rows may have together, however many rows it has."""
        instances, inputs = self._limits.max_instances, len(self._rows)
        numbers = min(instances * sum(math.prod(row.most) for row in self._rows), self._most_numbers)
        arrays = sum(row.num_arrays for row in self._rows)
        return JsonLimits(
            arrays=1 + min(instances * arrays, max(MAX_ARRAYS_TOGETHER, arrays)),
            objects=1 + 2 * instances,
            members=2 + instances * (1 + inputs),
            values=1 + instances * inputs + numbers,
        )

    def _expect_consistent(self, row: dict[str, Any], index: int) -> None:
        """Hold the open axes of one row against each other; fill in ``lengths`` and cut off what lies behind it.

        Raises:
            InvalidInput: Two disagree, or the length is none of the row's.
        """
        lengths: dict[str, tuple[str, int]] = {}
        for spec in (each.spec for each in self._rows if each.spec.name != LENGTHS):
            for depth, axis in enumerate(spec.shape[1:]):
                if not isinstance(axis, str):
                    continue
                # beside `lengths`, what comes first is one axis, whatever each input calls it
                key = LENGTHS if self._has_lengths and depth == 0 else axis
                length = row[spec.name].shape[depth]
                first, expected = lengths.setdefault(key, (spec.name, length))
                if length != expected:
                    message = f"expected {expected} along {axis!r}, as in {first!r}, found {length}"
                    place = pointer("instances", index, "inputs", spec.name)
                    raise InvalidInput(Fault(code="wrong_shape", pointer=place, message=message))
        if not self._has_lengths:
            return
        steps = lengths[LENGTHS][1] if LENGTHS in lengths else 0
        given = row[LENGTHS]
        length = steps if given is MISSING else int(given)
        if not 1 <= length <= steps:
            message = f"expected a length from 1 to {steps}, the steps of the row, found {length}"
            place = pointer("instances", index, "inputs", LENGTHS)
            raise InvalidInput(Fault(code="out_of_range", pointer=place, message=message))
        for name, array in row.items():
            row[name] = np.array(length, np.int64) if name == LENGTHS else array[:length]

    def _expect_same_shapes(self, rows: Sequence[dict[str, Array]]) -> None:
        """Refuse rows that cannot share an array: of different shapes, but for the axis that is padded."""
        padded = 1 if self._has_lengths else 0
        for index, row in enumerate(rows):
            for name, array in row.items():
                expected = rows[0][name].shape
                if array.shape[padded:] != expected[padded:]:
                    message = (
                        f"the rows of one request must have the same shape, the first has {list(expected)}, this "
                        f"one {list(array.shape)}; send them in requests of their own"
                    )
                    place = pointer("instances", index, "inputs", name)
                    raise InvalidInput(Fault(code="different_shape", pointer=place, message=message))

    def _expect_affordable(self, rows: Sequence[dict[str, Array]]) -> None:
        """Refuse rows that take too much memory together once they are padded."""
        numbers = sum(len(rows) * max(row[name].size for row in rows) for name in rows[0])
        expect_affordable(numbers, self._most_numbers)


def create(bundle: Bundle, limits: Limits) -> TensorsTask:
    """Return the task of a bundle; see :func:`app.tasks.create`."""
    assert isinstance(bundle.manifest.task, GenericTensors)
    return TensorsTask(bundle.manifest, bundle.manifest.task, limits)


def _output_field(spec: TensorSpec) -> Any:
    schema = output_schema(spec) | {"title": spec.name, "description": "absent where not asked for"}
    return Annotated[Any, WithJsonSchema(schema)] | MISSING, Field(default=MISSING, alias=spec.name)


def _options_model(name: str, outputs: tuple[str, ...]) -> type[BaseModel]:
    """Return the type of the query parameters: which outputs are answered."""

    def known(names: str) -> str:
        for each in names.split(","):
            if each not in outputs:
                message = f"expected names out of {', '.join(outputs)}, with commas between, found {quoted(each)!r}"
                raise custom_fault("unknown_output", message)
        return names

    choice = "|".join(each.replace(".", r"\.") for each in outputs)
    field = Field(
        default=",".join(outputs),
        description="Outputs of the model, with commas between; all without it.",
        json_schema_extra={"pattern": f"^({choice})(,({choice}))*$"},
    )
    config = ConfigDict(frozen=True, extra="forbid")
    model: type[BaseModel] = create_model(
        name, __config__=config, outputs=(Annotated[str, AfterValidator(known)], field)
    )
    return model
