"""The ``sequence`` of an instance: steps, each a list of numbers. Validated whole, with every fault."""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Annotated, Any

from pydantic import PlainValidator, ValidationError, WithJsonSchema
from pydantic_core import InitErrorDetails

from app.bundle.manifest import SequenceInput
from app.errors import Limit
from app.tasks.decoding.numbers import custom_fault, float_array, kind_of, number_fault
from app.tensors import Array

MAX_FAULTS_PER_SERIES = 8


def series_type(spec: SequenceInput) -> Any:
    """Return the annotated type of one series: a validator to float32 ``(length, channels)``, and its JSON schema."""
    return Annotated[Any, PlainValidator(_validator(spec)), WithJsonSchema(_json_schema(spec))]


def _validator(spec: SequenceInput) -> Callable[[object], Array]:
    def validate(value: object) -> Array:
        faults = list(islice(_faults(value, spec), MAX_FAULTS_PER_SERIES))
        if faults:
            raise ValidationError.from_exception_data("sequence", faults)
        return float_array(value, "float32")

    return validate


def _json_schema(spec: SequenceInput) -> dict[str, Any]:
    number = {"type": "number", "format": "float", "minimum": spec.low, "maximum": spec.high}
    step = {"type": "array", "items": number, "minItems": spec.num_channels, "maxItems": spec.num_channels}
    return {
        "title": "Sequence",
        "type": "array",
        "items": step,
        "minItems": spec.min_length,
        "maxItems": spec.max_length,
        "description": f"{spec.min_length} to {spec.max_length} steps in their order, each of {spec.num_channels} "
        f"numbers from {spec.low:g} to {spec.high:g}",
    }


def _faults(value: object, spec: SequenceInput) -> Iterator[InitErrorDetails]:
    expected = f"expected {spec.min_length} to {spec.max_length} steps of {spec.num_channels} numbers"
    if not isinstance(value, list):
        yield InitErrorDetails(type=custom_fault("wrong_type", f"{expected}, found {kind_of(value)}"), input=None)
        return
    if not spec.min_length <= len(value) <= spec.max_length:
        is_short = len(value) < spec.min_length
        limit = Limit("min_length", spec.min_length) if is_short else Limit("max_length", spec.max_length)
        wrong_length = custom_fault("too_short" if is_short else "too_long", f"{expected}, found {len(value)}", limit)
        yield InitErrorDetails(type=wrong_length, input=None)
        return
    for t, step in enumerate(value):
        if not isinstance(step, list):
            message = f"expected a step of {spec.num_channels} numbers, found {kind_of(step)}"
            yield InitErrorDetails(type=custom_fault("wrong_type", message), loc=(t,), input=None)
            continue
        if len(step) != spec.num_channels:
            message = f"expected a step of {spec.num_channels} numbers, found {len(step)}"
            yield InitErrorDetails(type=custom_fault("wrong_shape", message), loc=(t,), input=None)
        for channel, number in enumerate(step):
            if fault := number_fault(number, spec.low, spec.high):
                yield InitErrorDetails(type=fault, loc=(t, channel), input=None)
