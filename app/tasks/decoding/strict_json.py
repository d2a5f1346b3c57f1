"""The strict reading of a JSON body: what RFC 8259 leaves open is refused, and the fault is named.

Numbers outside JSON (``NaN``, ``Infinity``) and beyond float64 are let through to the validator, which refuses them
with a pointer to their place.
"""

import json
from collections import Counter
from typing import Any

from app.errors import MalformedBody, quoted

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def parse_json(body: bytes) -> Any:
    """Parse a body.

    Raises:
        MalformedBody: It is empty, not UTF-8, starts with a byte order mark, is not JSON, nests too deep, holds an
            integer of thousands of digits, or names a key twice.
    """
    if body.startswith(_BYTE_ORDER_MARK):
        raise MalformedBody("the body starts with a byte order mark, which JSON does not allow; send plain UTF-8")
    try:
        return json.loads(body.decode(), object_pairs_hook=_distinct_keys)
    except UnicodeDecodeError as exc:
        raise MalformedBody(f"the body is not UTF-8: {exc.reason} at byte {exc.start}") from exc
    except json.JSONDecodeError as exc:
        raise MalformedBody(f"the body is not JSON: {exc}") from exc
    except RecursionError as exc:
        raise MalformedBody("the body nests too deep") from exc
    except ValueError as exc:  # an integer of more digits than Python converts
        raise MalformedBody(f"the body holds a number that cannot be read: {exc}") from exc


def _distinct_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        ((twice, _),) = Counter(key for key, _ in pairs).most_common(1)
        raise MalformedBody(f"the key {quoted(twice)!r} stands twice in one object")
    return members
