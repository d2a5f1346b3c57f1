"""The strict reading of a JSON body: what RFC 8259 leaves open is refused, and the fault is named.

Numbers outside JSON (``NaN``, ``Infinity``) and beyond float64 are let through to the validator, which refuses them
with a pointer to their place.
"""

import json
import math
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from app.errors import Limit, MalformedBody, TooManyValues, quoted

# what a faulty body may hold beyond a good one, so that its faults are named
_SLACK = 65_536
_MAX_DIGITS = 400
# the parser holds the interpreter until it calls Python; a longer body's floats are read there, so others run meanwhile
_PARSED_AT_ONCE_BYTES = 2**18


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonLimits:
    """What the largest good body of a task holds. The parser is not interrupted, so it is not begun on more.

    What stands in strings does not count: a text may hold any of the marks.

    Attributes:
        name: Of all of them on the card.
    """

    arrays: int
    objects: int
    members: int
    values: int
    name: str = "max_json"

    @classmethod
    def loosest(cls, limits: Iterable["JsonLimits"]) -> "JsonLimits":
        """Return limits that hold for every body that one of the given ones allows."""
        every = list(limits)
        return cls(
            arrays=max((each.arrays for each in every), default=0),
            objects=max((each.objects for each in every), default=0),
            members=max((each.members for each in every), default=0),
            values=max((each.values for each in every), default=0),
        )


def parse_json(body: bytes, limits: JsonLimits) -> Any:
    """Parse a body.

    Raises:
        TooManyValues: It holds more than any good body does.
        MalformedBody: It is empty, not UTF-8, starts with a byte order mark, is not JSON, nests too deep, holds an
            integer of thousands of digits, or names a key twice.
    """
    if body.startswith(BOM_UTF8):
        raise MalformedBody("the body starts with a byte order mark, which JSON does not allow; send plain UTF-8")
    _expect_within(limits, body)
    try:
        parse_float = float if len(body) <= _PARSED_AT_ONCE_BYTES else _float
        return json.loads(body.decode(), object_pairs_hook=_distinct_keys, parse_int=_integer, parse_float=parse_float)
    except UnicodeDecodeError as exc:
        raise MalformedBody(f"the body is not UTF-8: {exc.reason} at byte {exc.start}") from exc
    except json.JSONDecodeError as exc:
        raise MalformedBody(f"the body is not JSON: {exc}") from exc
    except RecursionError as exc:
        raise MalformedBody("the body nests too deep") from exc
    except ValueError as exc:  # an integer of more digits than Python converts
        raise MalformedBody(f"the body holds a number that cannot be read: {exc}") from exc


def _expect_within(limits: JsonLimits, body: bytes) -> None:
    outside: bytes | None = None
    for kind, mark, most in (
        ("arrays", b"[", limits.arrays),
        ("objects", b"{", limits.objects),
        ("members", b":", limits.members),
        ("values", b",", limits.values),
    ):
        if body.count(mark) <= most + _SLACK:
            continue
        if outside is None:
            outside = _outside_strings(body)
        if (count := outside.count(mark)) > most + _SLACK:
            raise TooManyValues(kind, count, Limit(f"{limits.name}.{kind}", most))


def _outside_strings(body: bytes) -> bytes:
    """Return what stands outside of strings; beyond the first fault of a body that is no JSON, anything may come."""
    if b"\\" in body:
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    codes = np.frombuffer(body, np.uint8)
    is_quote = codes == ord('"')
    # an odd number of quotes before it: inside; the sum may wrap around, since 256 is even
    is_outside = np.cumsum(is_quote, dtype=np.uint8) & 1 == 0
    return bytes(codes[is_outside])


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= _MAX_DIGITS else math.inf  # the validator names the place


def _float(digits: str) -> float:
    return float(digits)


def _distinct_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        ((twice, _),) = Counter(key for key, _ in pairs).most_common(1)
        raise MalformedBody(f"the key {quoted(twice)!r} stands twice in one object")
    return members
