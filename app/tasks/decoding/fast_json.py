"""The fast reading of a JSON body, straight into arrays. It only accepts.

pysimdjson's ``as_buffer`` flattens whatever it is given: ragged rows and further nesting come out as plain numbers. So
everything is checked here that it does not check, and any doubt is answered with None: the strict reading then accepts
the body or names its faults. A property test feeds both with the same bodies and demands the same verdict.
"""

import re
from codecs import BOM_UTF8
from collections.abc import Callable, Iterable
from typing import Any, TypeVar, cast

import numpy as np
import simdjson

from app.tasks.decoding.parsers import parser_for
from app.tensors import Array

T = TypeVar("T")

_NUMBERS = frozenset((int, float))


class FastDecoder:
    """Reads the bodies of one model.

    Args:
        model: The name that a ``"model"`` in the body has to have.
        max_instances: Bodies of more instances are left to the strict reading.
    """

    def __init__(self, model: str, *, max_instances: int) -> None:
        self._model = model
        self._max_instances = max_instances

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
        height, width = shape
        lengths = range(height, height + 1)

        def read(instances: simdjson.Array) -> Array | None:
            count = len(instances)
            # one bracket for the list, one for every matrix, one for every row: then no element is itself an array
            if body.count(b"[") != 1 + count * (1 + height):
                return None
            if count == 1:  # most requests are of one
                flat = _flat(body, _member(instances[0], key), lengths, width, low, high)
                return None if flat is None else flat.astype(np.float32).reshape(1, height, width)
            matrices = np.empty((count, height * width), np.float32)
            for index, instance in enumerate(instances):
                flat = _flat(body, _member(instance, key), lengths, width, low, high)
                if flat is None:
                    return None
                matrices[index] = flat
            return matrices.reshape(count, height, width)

        return self._read(body, read)

    def series(
        self, body: bytes, key: str, num_channels: int, lengths: range, low: float, high: float
    ) -> list[Array] | None:
        """Read ``{"instances": [{key: [[number, ...], ...]}, ...]}``, with or without ``"model"`` beside it.

        Args:
            body: JSON.
            key: The one key of every instance.
            num_channels: Numbers of every step.
            lengths: How many steps a series may have.
            low: Least number that is accepted.
            high: Greatest number that is accepted.

        Returns:
            For every instance float32, shape ``(steps, num_channels)``; or None for any other body.
        """

        def read(instances: simdjson.Array) -> list[Array] | None:
            series: list[Array] = []
            for instance in instances:
                flat = _flat(body, _member(instance, key), lengths, num_channels, low, high)
                if flat is None:
                    return None
                series.append(flat.reshape(-1, num_channels).astype(np.float32))
            # one bracket for the list, one for every series, one for every step: then no element is itself an array
            return series if body.count(b"[") == 1 + sum(1 + len(steps) for steps in series) else None

        return self._read(body, read)

    def texts(self, body: bytes, key: str) -> list[str] | None:
        """Read ``{"instances": [{key: "..."}, ...]}``, with or without ``"model"`` beside it.

        Args:
            body: JSON.
            key: The one key of every instance.

        Returns:
            The text of every instance, none of them empty; or None for any other body.
        """

        def read(instances: simdjson.Array) -> list[str] | None:
            texts: list[Any] = [_member(instance, key) for instance in instances]
            return texts if all(isinstance(text, str) and text for text in texts) else None

        return self._read(body, read)

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

        def read(instances: simdjson.Array) -> Array | None:
            rows: list[list[Any]] = []
            for instance in instances:
                row = _member(instance, key)
                if not isinstance(row, _Object) or len(row) != len(names):
                    return None
                members = row.as_dict()
                rows.append([members[name] for name in names])  # a repeated key leaves one of the names missing
                if not _NUMBERS.issuperset(map(type, rows[-1])):  # to NumPy, a boolean or a string of digits is one too
                    return None
            rows_BF = np.array(rows, np.float64)
            return rows_BF if (rows_BF >= low_F).all() and (rows_BF <= high_F).all() else None

        return self._read(body, read)

    def _read(self, body: bytes, read: Callable[[simdjson.Array], T | None]) -> T | None:
        """Return what is made of the instances; None where the body has none, or cannot be read."""
        if body.startswith(BOM_UTF8):  # the parser would let it through
            return None
        try:
            instances = self._instances(body)
            return None if instances is None else read(instances)
        except (ValueError, TypeError, KeyError, RuntimeError):
            # not JSON, not numbers, not there, or too deep for the parser
            return None

    def _instances(self, body: bytes) -> simdjson.Array | None:
        document = parser_for(len(body)).parse(body)
        if not isinstance(document, _Object):
            return None
        # two members are this one and "model", each once; a repeated key counts twice in len()
        if len(document) != 1 and not (len(document) == 2 and document["model"] == self._model):
            return None
        instances = document["instances"]
        if not isinstance(instances, _Array) or not 0 < len(instances) <= self._max_instances:
            return None
        return instances


def _member(instance: object, key: str) -> object:
    """Return the one member of an instance; None where it is no object, or has others."""
    return instance[key] if isinstance(instance, _Object) and len(instance) == 1 else None


def _flat(body: bytes, rows: object, lengths: range, width: int, low: float, high: float) -> Array | None:
    """Return the numbers of a matrix in one array, float64; None where it has another shape or they leave the range."""
    if not isinstance(rows, _Array) or len(rows) not in lengths:
        return None
    # raises for what is neither a number nor an array, so whatever has a length below is an array
    flat: Array = np.frombuffer(rows.as_buffer(of_type="d"))
    if {*map(len, cast("Iterable[list[float]]", rows))} != {width}:
        return None
    # the place of the greatest is found in a quarter of the time that the greatest itself takes
    if flat.size != len(rows) * width or not flat[flat.argmax()] <= high:
        return None
    # where no minus is written, no number is below zero
    return flat if (low <= 0 and b"-" not in body) or flat[flat.argmin()] >= low else None


# looked up once: they are asked for at every request
_Array, _Object = simdjson.Array, simdjson.Object

_MODEL = rb'"model"\s*:\s*"([a-z0-9_-]{1,64})"\s*'
_MODEL_FIRST = re.compile(rb"\s*\{\s*" + _MODEL + rb",")
_MODEL_LAST = re.compile(rb",\s*" + _MODEL + rb"\}\s*$")


def guess_model(body: bytes) -> str | None:
    """Return the ``"model"`` that a plain body seems to name first or last; only a look at both ends, so a guess."""
    found = _MODEL_FIRST.match(body) or _MODEL_LAST.search(body, max(0, len(body) - 128))
    return found[1].decode() if found else None
