"""Answers of plain bytes: one tensor, described in a header."""

import math
import re
from collections.abc import Mapping
from typing import Any

from zero_to_one_client import extras
from zero_to_one_client.errors import UnexpectedAnswer

_TOLD = re.compile(r"(?P<name>[^;]+); dtype=(?P<dtype>bool|u?int\d+|float\d+); shape=(?P<shape>\d+(,\d+)*)")


def read_tensor(body: bytes, headers: Mapping[str, str]) -> Any:
    """Return the array of an answer in bytes, as ``X-Tensor`` describes it.

    Raises:
        UnexpectedAnswer: The header describes none, or another one.
        MissingExtra: NumPy is not installed.
    """
    numpy = extras.numpy("an answer in bytes")
    found = _TOLD.fullmatch(headers.get("x-tensor", ""))
    if found is None:
        raise UnexpectedAnswer(f"expected X-Tensor to tell name, dtype and shape, found {headers.get('x-tensor')!r}")
    try:
        shape = tuple(map(int, found["shape"].split(",")))
        dtype = numpy.dtype(found["dtype"]).newbyteorder("<")
    except (ValueError, TypeError) as exc:  # too many digits, or bits that no number has
        raise UnexpectedAnswer(f"X-Tensor: {exc}") from exc
    if len(body) != math.prod(shape) * dtype.itemsize:
        raise UnexpectedAnswer(f"expected {found[0]!r}, found {len(body)} bytes")
    # in the byte order of this machine, which costs nothing where that is the same
    return numpy.frombuffer(body, dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)
