"""The fast reading of a JSON body, straight into arrays. It only accepts.

pysimdjson's ``as_buffer`` flattens whatever it is given: ragged rows and further nesting come out as plain numbers. So
everything is checked here that it does not check, and any doubt is answered with None: the strict reading then accepts
the body or names its faults. A property test feeds both with the same bodies and demands the same verdict.
"""

import re
from codecs import BOM_UTF8
from typing import Any

import numpy as np
import simdjson

from app.tensors import Array

KEPT_BODY_BYTES = 64 * 1024
_NUMBERS = frozenset((int, float))


class FastDecoder:
    """One parser, whose buffers are used again; for one thread.

    Args:
        model: The name that a ``"model"`` in the body has to have.
        max_instances: Bodies of more instances are left to the strict reading.
    """

    def __init__(self, model: str, *, max_instances: int) -> None:
        self._model = model
        self._max_instances = max_instances
        self._parser = simdjson.Parser()

    def matrices(self, body: bytes, key: str, shape: tuple[int, int], low: float, high: float) -> Array | None:
        """Read ``{"instances": [{key: [[number, ...], ...]}, ...]}``, with or without ``"model"`` beside it.

        Args:
            body: JSON.
            key: The one key of every instance.
            shape: Rows and columns of every matrix.
            low: Least number that is accepted.
            high: Greatest number that is accepted.

        Returns:
            float32, shape ``(instances, *shape)``; or None for any other body.
        """
        if body.startswith(BOM_UTF8):  # the parser would let it through
            return None
        try:
            return self._matrices(body, key, shape, low, high)
        except (ValueError, TypeError, KeyError, RuntimeError):
            # not JSON, not numbers, not there, or too deep for the parser
            return None

    def rows(self, body: bytes, key: str, names: tuple[str, ...], low_F: Array, high_F: Array) -> Array | None:
        """Read ``{"instances": [{key: {name: number, ...}}, ...]}``, with or without ``"model"`` beside it.

        Args:
            body: JSON.
            key: The one key of every instance.
            names: The members of every row, in any order.
            low_F: Least number that is accepted of each, float64.
            high_F: Greatest number that is accepted of each, float64.

        Returns:
            float64, shape ``(instances, names)``; or None for any other body.
        """
        if body.startswith(BOM_UTF8):
            return None
        try:
            return self._rows(body, key, names, low_F, high_F)
        except (ValueError, TypeError, KeyError, RuntimeError):
            return None

    def _instances(self, body: bytes) -> simdjson.Array | None:
        # a parser keeps the memory of its largest body for good
        parser = self._parser if len(body) <= KEPT_BODY_BYTES else simdjson.Parser()
        document = parser.parse(body)
        if not isinstance(document, simdjson.Object):
            return None
        # two members are this one and "model", each once; a repeated key counts twice in len()
        if len(document) != 1 and not (len(document) == 2 and document["model"] == self._model):
            return None
        instances = document["instances"]
        if not isinstance(instances, simdjson.Array) or not 0 < len(instances) <= self._max_instances:
            return None
        return instances

    def _rows(self, body: bytes, key: str, names: tuple[str, ...], low_F: Array, high_F: Array) -> Array | None:
        instances = self._instances(body)
        if instances is None:
            return None
        rows: list[list[Any]] = []
        for instance in instances:
            if not isinstance(instance, simdjson.Object) or len(instance) != 1:
                return None
            row = instance[key]
            if not isinstance(row, simdjson.Object) or len(row) != len(names):
                return None
            members = row.as_dict()
            rows.append([members[name] for name in names])  # a repeated key leaves one of the names missing
            if not _NUMBERS.issuperset(map(type, rows[-1])):  # to NumPy, a boolean or a string of digits is one too
                return None
        rows_BF = np.array(rows, np.float64)
        return rows_BF if (rows_BF >= low_F).all() and (rows_BF <= high_F).all() else None

    def _matrices(self, body: bytes, key: str, shape: tuple[int, int], low: float, high: float) -> Array | None:
        instances = self._instances(body)
        if instances is None:
            return None
        # one bracket for the list, one for every matrix, one for every row: then no element is itself an array
        if body.count(b"[") != 1 + len(instances) * (1 + shape[0]):
            return None
        matrices = np.empty((len(instances), *shape), np.float32)
        for index, instance in enumerate(instances):
            if not isinstance(instance, simdjson.Object) or len(instance) != 1:
                return None
            flat = _flat(instance[key], shape)
            if flat is None or flat.min() < low or flat.max() > high:
                return None
            matrices[index] = flat.reshape(shape)
        return matrices


def _flat(rows: object, shape: tuple[int, int]) -> Array | None:
    """Return the numbers of a matrix in one array, float64; None where its rows are not of this shape."""
    height, width = shape
    if not isinstance(rows, simdjson.Array) or len(rows) != height:
        return None
    for row in rows:
        if not isinstance(row, simdjson.Array) or len(row) != width:
            return None
    flat: Array = np.frombuffer(rows.as_buffer(of_type="d"))  # raises for what is not a number
    return flat if flat.size == height * width else None


_MODEL = rb'"model"\s*:\s*"([a-z0-9_-]{1,64})"\s*'
_MODEL_FIRST = re.compile(rb"\s*\{\s*" + _MODEL + rb",")
_MODEL_LAST = re.compile(rb",\s*" + _MODEL + rb"\}\s*$")


def guess_model(body: bytes) -> str | None:
    """Return the ``"model"`` that a plain body seems to name first or last; only a look at both ends, so a guess."""
    found = _MODEL_FIRST.match(body) or _MODEL_LAST.search(body, max(0, len(body) - 128))
    return found[1].decode() if found else None
