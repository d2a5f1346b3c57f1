"""Requests for inference that are wrong in their tensors, whichever wire they come by.

They ask :func:`tests.support.kinds.kind_bundle` of the kind ``tensors``: ``matrix`` FP32 [rows, 1 to 4, 2], ``count``
INT64 [rows] from 0 to 9, ``flags`` BOOL [rows, 3].
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

MODEL = "tensors"
_FORMATS = {"FP32": "<f4", "FP64": "<f8", "INT64": "<i8", "INT32": "<i4", "BOOL": "?", "UINT8": "u1"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """One input as its sender describes it.

    Attributes:
        name: Of the input.
        datatype: Claimed.
        shape: Claimed.
        data: The elements; of BYTES texts.
        raw: As bytes; by default those of the elements.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: Sequence[Any]
    raw: bytes = b""

    @property
    def as_bytes(self) -> bytes:
        """The elements as bytes, of the datatype that is claimed, or of any where there is no such."""
        if self.raw:
            return self.raw
        if self.datatype == "BYTES":
            return strings(*(text.encode() for text in self.data))
        return np.array(self.data, _FORMATS.get(self.datatype, "<f4")).tobytes()


@dataclass(frozen=True, slots=True, kw_only=True)
class BadRequest:
    """A request that is refused.

    Attributes:
        what: Is wrong with it.
        inputs: Its tensors.
        names: What the refusal names.
        outputs: Those asked for.
        is_too_large: Whether it asks for more than one request may have.
    """

    what: str
    inputs: tuple[Tensor, ...]
    names: str
    outputs: tuple[str, ...] = ()
    is_too_large: bool = field(default=False)


def strings(*values: bytes) -> bytes:
    """Return elements of BYTES, each behind its length."""
    return b"".join(struct.pack("<I", len(value)) + value for value in values)


MATRIX = Tensor(name="matrix", datatype="FP32", shape=(1, 2, 2), data=(0.5, -1.0, 2.0, 3.0))
COUNT = Tensor(name="count", datatype="INT64", shape=(1,), data=(3,))
FLAGS = Tensor(name="flags", datatype="BOOL", shape=(1, 3), data=(True, False, True))
GOOD = (MATRIX, COUNT, FLAGS)


def _matrix(what: str, **changes: Any) -> BadRequest:
    return BadRequest(what=what, inputs=(replace(MATRIX, **changes), COUNT, FLAGS), names="matrix")


def _count(what: str, **changes: Any) -> BadRequest:
    return BadRequest(what=what, inputs=(MATRIX, replace(COUNT, **changes), FLAGS), names="count")


def _shape(*shape: int) -> BadRequest:
    return _matrix(f"the shape {list(shape)[:4]}", shape=shape)


BAD_REQUESTS: tuple[BadRequest, ...] = (
    _matrix("data longer than the shape", data=(1.0,) * 5),
    _matrix("data shorter than the shape", data=(1.0,) * 3),
    _matrix("data for a row more", data=(1.0,) * 8),
    _matrix("no data", data=()),
    _matrix("bytes that are no whole number of elements", data=(1.0,) * 3, raw=bytes(15)),
    _shape(),
    _shape(4),
    _shape(2, 2),
    _shape(1, 1, 2, 2),
    _shape(1, 2, 3),
    _shape(1, 4),
    _shape(0, 2, 2),
    _shape(1, 0, 2),
    _shape(-1, 2, 2),
    _shape(1, -2, -2),
    _shape(1, 5, 2),
    _shape(2**63 - 1, 2, 2),
    _shape(1, 2**62, 2),
    _shape(2**32, 2**32, 2),
    _shape(-(2**63), 2, 2),
    _shape(*([1] * 1000)),
    _shape(2, 1, 2),
    _matrix("an unknown datatype", datatype="FP31"),
    _matrix("no datatype", datatype=""),
    _matrix("a datatype of NumPy", datatype="float32"),
    _matrix("FP64 for FP32", datatype="FP64"),
    _matrix("FP16 for FP32", datatype="FP16", raw=bytes(8)),
    _matrix("BF16 for FP32", datatype="BF16", raw=bytes(8)),
    _matrix("INT64 for FP32", datatype="INT64", data=(1, 2, 3, 4)),
    _matrix("BYTES for FP32", datatype="BYTES", data=("1", "2", "3", "4")),
    _count("FP32 for INT64", datatype="FP32", data=(3.0,)),
    _count("INT32 for INT64", datatype="INT32"),
    _count("BOOL for INT64", datatype="BOOL", data=(True,)),
    _count("a number above its bound", data=(10,)),
    _count("a number below its bound", data=(-1,)),
    _count("more rows than the others", shape=(2,), data=(1, 2)),
    BadRequest(what="an input twice", inputs=(*GOOD, COUNT), names="count"),
    BadRequest(what="every input twice", inputs=GOOD * 2, names="matrix"),
    BadRequest(what="an input missing", inputs=(MATRIX, FLAGS), names="count"),
    BadRequest(what="an input too many", inputs=(*GOOD, replace(COUNT, name="other")), names="other"),
    BadRequest(what="an input of no name", inputs=(replace(MATRIX, name=""), COUNT, FLAGS), names="matrix"),
    BadRequest(what="an input in another case", inputs=(replace(MATRIX, name="Matrix"), COUNT, FLAGS), names="Matrix"),
    BadRequest(what="an unknown output", inputs=GOOD, outputs=("scores", "nothing"), names="nothing"),
    BadRequest(what="an output twice", inputs=GOOD, outputs=("total", "total"), names="total"),
    BadRequest(
        what="more rows than one request may have",
        inputs=(
            replace(MATRIX, shape=(1025, 1, 2), data=(0.0,) * 2050),
            replace(COUNT, shape=(1025,), data=(0,) * 1025),
            replace(FLAGS, shape=(1025, 3), data=(True,) * 3075),
        ),
        names="1025",
        is_too_large=True,
    ),
)

# bytes alone can say these
BAD_BYTES: tuple[BadRequest, ...] = (
    _matrix("NaN", raw=struct.pack("<4f", 1, float("nan"), 2, 3)),
    _matrix("an infinity", raw=struct.pack("<4f", 1, 2, 3, float("-inf"))),
    _count("one byte too many", raw=bytes(9)),
    BadRequest(what="a truth value of 2", inputs=(MATRIX, COUNT, replace(FLAGS, raw=b"\1\0\2")), names="flags"),
)

# of the kind `text_classification`: what stands in the one input `text`, BYTES, and its shape
BAD_STRINGS: tuple[tuple[str, bytes, tuple[int, ...]], ...] = (
    ("an element longer than what is left", struct.pack("<I", 100) + b"the cat", (1,)),
    ("an element of 4 GiB", b"\xff\xff\xff\xff" + b"the cat", (1,)),
    ("an element a byte too long", struct.pack("<I", 8) + b"the cat", (1,)),
    ("an element a byte too short", struct.pack("<I", 6) + b"the cat", (1,)),
    ("half of a length", b"\7\0", (1,)),
    ("no elements", b"", (1,)),
    ("an element too few", strings(b"the cat"), (2,)),
    ("an element too many", strings(b"the cat", b"the dog"), (1,)),
    ("an element that is empty", strings(b""), (1,)),
    ("an element that is no UTF-8", strings(b"caf\xe9"), (1,)),
    ("no row", strings(), (0,)),
    ("a negative row", strings(b"the cat"), (-1,)),
    ("rows without end", strings(b"the cat"), (2**62,)),
    ("three axes", strings(b"the cat"), (1, 1, 1)),
    ("two columns", strings(b"the", b"cat"), (1, 2)),
)
