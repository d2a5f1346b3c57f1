"""The elements of one tensor: from JSON, from bytes, from strings behind their lengths, to one flat array; and back."""

import struct
from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from app.errors import Fault, InvalidInput
from app.protocols.open_inference.datatypes import BYTES, DTYPES
from app.tasks.decoding.named import input_pointer
from app.tasks.decoding.numbers import kind_of
from app.tensors import Array

_LENGTH = struct.Struct("<I")


def read_binary(name: str, datatype: str, data: memoryview, count: int) -> Array:
    """Return the elements of a tensor that came as bytes; a view of them where they lie well.

    Raises:
        InvalidInput: They are not as many bytes as ``count`` elements have.
    """
    if datatype == BYTES:
        return read_strings(name, data, count)
    dtype = DTYPES[datatype]
    if len(data) != count * dtype.itemsize:
        told = f"its shape asks for {count * dtype.itemsize} bytes, {datatype} times {count}, found {len(data)}"
        raise InvalidInput(fault(name, "wrong_length", told))
    if dtype == np.bool_:
        # bytes other than 0 and 1 are no truth values, and whatever reads them as such may do anything
        flags = np.frombuffer(data, np.uint8)
        if flags.size and flags.max() > 1:
            raise InvalidInput(fault(name, "out_of_range", f"expected bytes of 0 and 1, found {flags.max()}"))
        return flags.view(np.bool_)
    array = np.frombuffer(data, dtype)
    # behind JSON of any length, numbers may lie across the words that runtimes read
    return array if array.flags.aligned else array.copy()


def read_strings(name: str, data: memoryview, count: int) -> Array:
    """Return the elements of a BYTES tensor, each behind its length in four bytes; an object array of ``bytes``.

    Raises:
        InvalidInput: A length lies, or they are not as many as ``count``.
    """
    values = np.empty(count, object)
    place = 0
    for index in range(count):
        start = place + _LENGTH.size
        if start > len(data):
            told = f"its shape asks for {count} elements, and its bytes end behind {index}"
            raise InvalidInput(fault(name, "wrong_length", told))
        (length,) = _LENGTH.unpack_from(data, place)
        place = start + length
        if place > len(data):
            told = f"element {index} says that it has {length} bytes, and {len(data) - start} are left"
            raise InvalidInput(fault(name, "wrong_length", told))
        values[index] = bytes(data[start:place])
    if place != len(data):
        told = f"its shape asks for {count} elements, and {len(data) - place} bytes stand behind the last"
        raise InvalidInput(fault(name, "wrong_length", told))
    return values


def to_bytes(array: Array) -> bytes:
    """Return the elements as the protocol has them: little-endian, in C order; strings behind their length."""
    if array.dtype != np.object_:
        return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
    return b"".join(_LENGTH.pack(len(value)) + value for value in array.reshape(-1))


def read_json(name: str, datatype: str, shape: tuple[int, ...], data: list[Any], count: int) -> Array:
    """Return the elements of a tensor whose data stand in the JSON, in one array or nested as its shape is.

    Raises:
        InvalidInput: They are not as many as ``count``, nested otherwise than ``shape``, or not what ``datatype`` says.
    """
    if data and isinstance(data[0], list):
        flat: list[Any] = []
        _flatten(name, data, shape, (), flat)
    else:
        flat = data
    if len(flat) != count:
        raise InvalidInput(
            fault(name, "wrong_length", f"its shape asks for {count} elements, its data have {len(flat)}")
        )
    if datatype == BYTES:
        return _strings(name, flat)
    dtype = DTYPES[datatype]
    if dtype.kind == "f":
        _expect_types(name, flat, (int, float), "a number")
        try:
            wide = np.array(flat, np.float64)
        except OverflowError:
            raise InvalidInput(fault(name, "out_of_range", f"it has a number beyond what {datatype} holds")) from None
        with np.errstate(over="ignore"):  # what is too large becomes infinite, and is found by its bounds
            return wide.astype(dtype)
    if dtype.kind == "b":
        _expect_types(name, flat, (bool,), "true or false")
        return np.array(flat, np.bool_)
    return _whole(name, datatype, flat)


def _flatten(name: str, part: Any, shape: Sequence[int], place: tuple[int, ...], flat: list[Any]) -> None:
    depth = len(place)
    at = list(place)
    if depth == len(shape):
        if isinstance(part, list):
            raise InvalidInput(fault(name, "wrong_shape", f"its data are nested deeper than its shape, at {at}"))
        flat.append(part)
        return
    if not isinstance(part, list):
        found = kind_of(part)
        told = f"expected {shape[depth]} {'elements' if depth + 1 == len(shape) else 'arrays'} at {at}, found {found}"
        raise InvalidInput(fault(name, "wrong_shape", told))
    if len(part) != shape[depth]:
        told = f"expected {shape[depth]} elements at {at}, as its shape says, found {len(part)}"
        raise InvalidInput(fault(name, "wrong_shape", told))
    if depth + 1 == len(shape) and not any(isinstance(element, list) for element in part):
        flat.extend(part)
        return
    for index, each in enumerate(part):
        _flatten(name, each, shape, (*place, index), flat)


def _strings(name: str, flat: list[Any]) -> Array:
    _expect_types(name, flat, (str,), "a string")
    values = np.empty(len(flat), object)
    for index, text in enumerate(flat):
        try:
            values[index] = text.encode()
        except UnicodeEncodeError:
            raise InvalidInput(fault(name, "not_utf8", f"element {index} holds half of a surrogate pair")) from None
    return values


def _whole(name: str, datatype: str, flat: list[Any]) -> Array:
    """Return whole numbers one by one: through a float, those beyond 2**53 would become others."""
    _expect_types(name, flat, (int, float), "a whole number")
    dtype = DTYPES[datatype]
    for index, number in enumerate(flat):
        if isinstance(number, float) and not number.is_integer():
            raise InvalidInput(fault(name, "not_whole", f"{datatype} takes whole numbers, found {number} at [{index}]"))
    numbers = [int(number) for number in flat]
    bounds = np.iinfo(cast("np.dtype[np.signedinteger[Any]]", dtype))
    low, high = int(bounds.min), int(bounds.max)
    for index, number in enumerate(numbers):
        if not low <= number <= high:
            told = f"{datatype} holds numbers from {low} to {high}, found {str(number)[:32]} at [{index}]"
            raise InvalidInput(fault(name, "out_of_range", told))
    return np.array(numbers, dtype)


def _expect_types(name: str, flat: list[Any], types: tuple[type, ...], expected: str) -> None:
    if set(map(type, flat)) <= set(types):
        return
    index, value = next((i, v) for i, v in enumerate(flat) if type(v) not in types)
    raise InvalidInput(fault(name, "wrong_type", f"expected {expected}, found {kind_of(value)} at [{index}]"))


def fault(name: str, code: str, message: str) -> Fault:
    """Return a fault of an input."""
    return Fault(pointer=input_pointer(name), code=code, message=message)
