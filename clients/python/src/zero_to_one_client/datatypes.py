"""The names that the Open Inference Protocol has for types, and elements of BYTES as they lie in a body."""

import struct
from typing import Any, Final

from zero_to_one_client.errors import InvalidRequest, UnexpectedAnswer

BYTES: Final = "BYTES"
# in the words of NumPy; a half-precision number of the kind "brain float" has none
DTYPES: Final = {
    "BOOL": "bool",
    "UINT8": "uint8",
    "UINT16": "uint16",
    "UINT32": "uint32",
    "UINT64": "uint64",
    "INT8": "int8",
    "INT16": "int16",
    "INT32": "int32",
    "INT64": "int64",
    "FP16": "float16",
    "FP32": "float32",
    "FP64": "float64",
}
_DATATYPES: Final = {dtype: datatype for datatype, dtype in DTYPES.items()}
_LENGTH: Final = struct.Struct("<I")


def datatype_of(array: Any) -> str:
    """Return the protocol's name of what an array holds: ``FP32`` for float32, ``BYTES`` for texts.

    Raises:
        InvalidRequest: It has none.
    """
    if array.dtype.kind in "OSU":
        return BYTES
    datatype = _DATATYPES.get(array.dtype.name)
    if datatype is None:
        raise InvalidRequest(f"the protocol has no name for {array.dtype}; it knows {', '.join(_DATATYPES)} and texts")
    return datatype


def elements(array: Any) -> list[bytes]:
    """Return the elements of an array of texts or bytes, in C order.

    Raises:
        InvalidRequest: One is neither.
    """
    found = []
    for element in array.ravel().tolist():
        if not isinstance(element, (str, bytes)):
            raise InvalidRequest(f"expected text or bytes, found {type(element).__name__}")
        try:
            found.append(element.encode() if isinstance(element, str) else element)
        except UnicodeEncodeError as exc:
            raise InvalidRequest(f"half a surrogate pair is no text: {exc}") from exc
    return found


def pack(found: list[bytes]) -> bytes:
    """Return elements of BYTES as they lie in a body: each behind its length, four bytes, little-endian."""
    return b"".join(_LENGTH.pack(len(element)) + element for element in found)


def unpack(data: bytes) -> list[bytes]:
    """Return the elements of BYTES that lie in a body.

    Raises:
        UnexpectedAnswer: The lengths lead beyond its end.
    """
    found, place = [], 0
    while place < len(data):
        start = place + _LENGTH.size
        if start > len(data):
            raise UnexpectedAnswer(f"BYTES: no length at byte {place} of {len(data)}")
        (length,) = _LENGTH.unpack_from(data, place)
        place = start + length
        if place > len(data):
            raise UnexpectedAnswer(f"BYTES: an element of {length} bytes at byte {start} of {len(data)}")
        found.append(data[start:place])
    return found
