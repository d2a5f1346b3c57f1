"""The ``image`` of an instance: rows of numbers, or an encoded file as base64. Validated whole, with every fault."""

import base64
import binascii
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Annotated, Any

import numpy as np
from pydantic import PlainValidator, ValidationError, WithJsonSchema
from pydantic_core import InitErrorDetails, PydanticCustomError

from app.preprocess.image import FORMATS, ImageInput, ImageRefused, decode_image
from app.tasks.decoding.numbers import custom_fault, kind_of, number_fault
from app.tensors import Array

MAX_FAULTS_PER_PICTURE = 8


def picture_type(spec: ImageInput, *, max_pixels: int) -> Any:
    """Return the annotated type of one picture: a validator to float32 ``(height, width)``, and its JSON schema."""
    return Annotated[Any, PlainValidator(_validator(spec, max_pixels)), WithJsonSchema(_json_schema(spec))]


def _validator(spec: ImageInput, max_pixels: int) -> Callable[[object], Array]:
    def validate(value: object) -> Array:
        if isinstance(value, str):
            return _from_base64(value, spec, max_pixels)
        faults = list(islice(_matrix_faults(value, spec), MAX_FAULTS_PER_PICTURE))
        if faults:
            raise ValidationError.from_exception_data("image", faults)
        return np.array(value, np.float64).astype(np.float32)

    return validate


def _json_schema(spec: ImageInput) -> dict[str, Any]:
    number = {"type": "number", "minimum": spec.low, "maximum": spec.high}
    row = {"type": "array", "items": number, "minItems": spec.width, "maxItems": spec.width}
    return {
        "title": "Image",
        "anyOf": [
            {
                "type": "array",
                "items": row,
                "minItems": spec.height,
                "maxItems": spec.height,
                "description": f"{spec.height} rows of {spec.width} grey values from {spec.low:g} to {spec.high:g}",
            },
            {
                "type": "string",
                "contentEncoding": "base64",
                "pattern": "^(data:[^,]*,)?[A-Za-z0-9+/]+={0,2}$",
                "description": f"a {' or '.join(FORMATS)} file as base64, bare or as a data: URL; {describe(spec)}",
            },
        ],
    }


def describe(spec: ImageInput) -> str:
    """Say in a sentence what is done to files of another size or mode."""
    conversion = spec.conversion
    size = f"{spec.width}x{spec.height} (width x height)"
    color = "is turned grey (ITU-R 601-2 luma)" if conversion.color == "luma" else "is refused"
    if conversion.resize == "reject":
        resize = f"any other size than {size} is refused"
    elif conversion.fit == "pad":
        resize = (
            f"another size is fitted into {size} keeping its aspect ratio ({conversion.resize} filter), the rest is "
            f"filled with {conversion.background}"
        )
    else:
        resize = f"another size is stretched to {size} ({conversion.resize} filter)"
    return f"color {color}, transparency is put on {conversion.background}, {resize}"


def _from_base64(text: str, spec: ImageInput, max_pixels: int) -> Array:
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise PydanticCustomError("not_base64", "expected base64, found {reason}", {"reason": str(exc)}) from exc
    try:
        return decode_image(data, spec, max_pixels=max_pixels)
    except ImageRefused as exc:
        raise custom_fault(exc.code, str(exc)) from exc


def _matrix_faults(value: object, spec: ImageInput) -> Iterator[InitErrorDetails]:
    expected = f"expected {spec.height} rows of {spec.width} numbers, or a string of base64"
    if not isinstance(value, list):
        yield InitErrorDetails(type=custom_fault("wrong_type", f"{expected}, found {kind_of(value)}"), input=None)
        return
    if len(value) != spec.height:
        yield InitErrorDetails(type=custom_fault("wrong_shape", f"{expected}, found {len(value)} rows"), input=None)
    for y, row in enumerate(value):
        if not isinstance(row, list):
            message = f"expected a row of {spec.width} numbers, found {kind_of(row)}"
            yield InitErrorDetails(type=custom_fault("wrong_type", message), loc=(y,), input=None)
            continue
        if len(row) != spec.width:
            message = f"expected a row of {spec.width} numbers, found {len(row)}"
            yield InitErrorDetails(type=custom_fault("wrong_shape", message), loc=(y,), input=None)
        for x, number in enumerate(row):
            if fault := number_fault(number, spec.low, spec.high):
                yield InitErrorDetails(type=fault, loc=(y, x), input=None)
