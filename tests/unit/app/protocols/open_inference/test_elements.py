"""The elements of a tensor come out as they went in, or it is told why not."""

import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from app.errors import InvalidInput
from app.protocols.open_inference.datatypes import DTYPES
from app.protocols.open_inference.elements import read_binary, read_json, read_strings, to_bytes

NUMBERS = [name for name in DTYPES if name != "BOOL"]


@given(st.data(), st.sampled_from(list(DTYPES)), st.integers(0, 7))
def test_bytes_are_read_wherever_they_lie(data: st.DataObject, datatype: str, offset: int) -> None:
    array = data.draw(arrays(DTYPES[datatype], 5))
    packed = bytes(offset) + array.tobytes()
    read = read_binary("x", datatype, memoryview(packed)[offset:], 5)
    assert read.dtype == DTYPES[datatype]
    assert read.flags.aligned
    assert read.tobytes() == array.tobytes()


@pytest.mark.parametrize("num_bytes", [0, 3, 15, 17, 20])
def test_bytes_of_another_length_are_refused(num_bytes: int) -> None:
    with pytest.raises(InvalidInput, match=f"input:x: its shape asks for 16 bytes, FP32 times 4, found {num_bytes}"):
        read_binary("x", "FP32", memoryview(bytes(num_bytes)), 4)


def test_bytes_that_are_no_truth_values_are_refused() -> None:
    with pytest.raises(InvalidInput, match="expected bytes of 0 and 1, found 7"):
        read_binary("x", "BOOL", memoryview(b"\0\1\7"), 3)


@given(st.lists(st.binary(max_size=9), max_size=5))
def test_strings_come_out_as_they_went_in(values: list[bytes]) -> None:
    packed = np.empty(len(values), object)
    packed[:] = values
    assert read_strings("x", memoryview(to_bytes(packed)), len(values)).tolist() == values


@given(st.binary(max_size=40), st.integers(0, 4))
def test_strings_whose_lengths_lie_are_refused_and_never_more_is_read(data: bytes, count: int) -> None:
    told = ""
    try:
        values = read_strings("x", memoryview(data), count)
    except InvalidInput as refused:
        told = str(refused)
    assert told.startswith("input:x: ") if told else to_bytes(values) == data


def test_a_length_of_four_gigabytes_is_no_memory() -> None:
    with pytest.raises(InvalidInput, match="element 0 says that it has 4294967295 bytes, and 2 are left"):
        read_strings("x", memoryview(struct.pack("<I", 2**32 - 1) + b"ab"), 1)


@given(st.data(), st.sampled_from(["UINT8", "INT32", "INT64", "FP32", "FP64"]))
def test_json_is_read_flat_or_nested(data: st.DataObject, datatype: str) -> None:
    dtype = DTYPES[datatype]
    elements = st.floats(width=32, allow_nan=False, allow_infinity=False) if dtype.kind == "f" else None
    array = data.draw(arrays(dtype, (2, 1, 3), elements=elements))
    for written in (array.tolist(), array.reshape(-1).tolist()):
        read = read_json("x", datatype, (2, 1, 3), written, 6)
        assert read.dtype == dtype
        assert np.array_equal(read, array.reshape(-1))


@pytest.mark.parametrize(
    ("datatype", "data", "told"),
    [
        ("FP32", [1, 2, 3], "its shape asks for 4 elements, its data have 3"),
        ("FP32", [1, 2, 3, 4, 5], "its shape asks for 4 elements, its data have 5"),
        ("FP32", [[1, 2], [3]], r"expected 2 elements at \[1\], as its shape says, found 1"),
        ("FP32", [[1, 2], 3], r"expected 2 elements at \[1\], found a number"),
        ("FP32", [[1, 2], [3, [4]]], r"its data are nested deeper than its shape, at \[1, 1\]"),
        ("FP32", [[1, 2, 3, 4]], r"expected 2 elements at \[\], as its shape says, found 1"),
        ("FP32", [1, 2, 3, "4"], r"expected a number, found a string at \[3\]"),
        ("FP32", [1, 2, 3, None], "found null"),
        ("FP32", [1, 2, 3, True], "found a boolean"),
        ("FP32", [1, [2], 3, 4], "found an array"),
        ("FP32", [1, 2, 3, 10**399], "it has a number beyond what FP32 holds"),
        ("INT64", [1, 2, 3, 4.5], r"INT64 takes whole numbers, found 4.5 at \[3\]"),
        ("INT64", [1, 2, 3, 2**63], "INT64 holds numbers from"),
        ("INT64", [1, 2, 3, float("inf")], "INT64 takes whole numbers, found inf"),
        ("UINT8", [1, 2, 3, 256], "UINT8 holds numbers from 0 to 255, found 256"),
        ("BOOL", [True, False, 1, 0], "expected true or false, found a number"),
        ("BYTES", ["a", "b", "c", 4], "expected a string, found a number"),
        ("BYTES", ["a", "b", "c", "\ud800"], "element 3 holds half of a surrogate pair"),
    ],
)
def test_json_that_is_not_what_shape_and_datatype_say_is_refused(datatype: str, data: list[Any], told: str) -> None:
    with pytest.raises(InvalidInput, match=told):
        read_json("x", datatype, (2, 2), data, 4)


def test_what_is_too_large_for_float32_is_left_to_the_bounds() -> None:
    assert read_json("x", "FP32", (1,), [1e39], 1).tolist() == [float("inf")]
