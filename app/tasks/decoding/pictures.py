"""The ``image`` of an instance: rows of numbers, or an encoded file as base64. Validated whole, with every fault."""

import base64
import binascii
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Annotated, Any

import numpy as np
from pydantic import PlainValidator, ValidationError, ValidationInfo, WithJsonSchema
from pydantic_core import InitErrorDetails, PydanticCustomError

from app.errors import Limit
from app.preprocess.image import FORMATS, ImageInput, ImageRefused, decode_image, num_pixels
from app.tasks.decoding.numbers import custom_fault, kind_of, number_fault
from app.tensors import Array

MAX_FAULTS_PER_PICTURE = 8
# how many pictures of the most pixels one request may hold
LARGEST_PICTURES = 4
_MAGIC = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")

# whole groups of four, the last one padded
_BASE64 = "^(data:[^,]*,)?([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{4}|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{2}==)$"


def picture_type(spec: ImageInput) -> Any:
    """Return the annotated type of one picture: a validator to float32 ``(height, width)``, and its JSON schema.

    The context of a validation is a :class:`PixelBudget`.
    """
    return Annotated[Any, PlainValidator(_validator(spec)), WithJsonSchema(_json_schema(spec))]


class PixelBudget:
    """What the pictures of one request may have together: a few large ones, or many small ones.

    Passed as the context of a validation. The picture that uses it up is still decoded, the next one is not.
    """

    def __init__(self, max_pixels: int) -> None:
        self.max_pixels = max_pixels
        self._most = self._left = LARGEST_PICTURES * max_pixels

    def decode(self, data: bytes, spec: ImageInput) -> Array:
        """Decode one more picture; see :func:`app.preprocess.image.decode_image`."""
        if self._left <= 0:
            raise ImageRefused(
                "too_many_pixels",
                f"the pictures of one request may have {self._most} pixels together; send several requests",
                Limit("max_request_pixels", self._most),
            )
        pixels_HW = decode_image(data, spec, max_pixels=self.max_pixels)
        self._left -= num_pixels(data)
        return pixels_HW


def _validator(spec: ImageInput) -> Callable[[object, ValidationInfo], Array]:
    def validate(value: object, info: ValidationInfo) -> Array:
        if isinstance(value, str):
            assert isinstance(info.context, PixelBudget)
            return _from_base64(value, spec, info.context)
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
                "format": "base64-picture",
                "contentEncoding": "base64",
                "pattern": _BASE64,
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


def encoded_picture(data: bytes) -> bytes:
    """Return the file of a picture that comes as it is, or as base64, bare or as a ``data:`` URL.

    Raises:
        ImageRefused: It is none of these.
    """
    if data.startswith(_MAGIC):
        return data
    if data.startswith(b"data:"):
        data = data.partition(b",")[2]
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise ImageRefused("not_base64", f"expected a {' or '.join(FORMATS)} file or base64, found {exc}") from exc


def _from_base64(text: str, spec: ImageInput, budget: PixelBudget) -> Array:
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise PydanticCustomError("not_base64", "expected base64, found {reason}", {"reason": str(exc)}) from exc
    try:
        return budget.decode(data, spec)
    except ImageRefused as exc:
        raise custom_fault(exc.code, str(exc), exc.limit) from exc


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
