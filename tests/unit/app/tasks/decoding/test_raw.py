"""Plain bytes are taken where they are rows, and told what is wrong with them where they are not."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from app.bundle.manifest import DType, TensorSpec
from app.errors import InvalidInput, TooManyInstances
from app.tasks.decoding.raw import RawRows
from app.tensors import LENGTHS

DTYPES: tuple[DType, ...] = ("float32", "float64", "int64", "int32", "uint8")


def spec_of(dtype: DType, *axes: int | str) -> TensorSpec:
    return TensorSpec(name="x", dtype=dtype, shape=("batch", *axes))


@given(st.data(), st.sampled_from(DTYPES), st.integers(1, 5))
def test_rows_come_out_as_they_went_in(data: st.DataObject, dtype: DType, count: int) -> None:
    rows = data.draw(arrays(dtype, (count, 2, 3), elements=st.integers(0, 200)))
    reader = RawRows(spec_of(dtype, 2, 3), low=0, high=200, max_rows=5)
    read = reader.decode(rows.tobytes())["x"]
    assert read.dtype == rows.dtype
    assert np.array_equal(read, rows)


@given(arrays(np.float32, (2, 3), elements=st.floats(width=32)))
def test_exactly_the_numbers_within_the_bounds_are_taken(rows: np.ndarray) -> None:
    reader = RawRows(spec_of("float32", 3), low=-1, high=2.5, max_rows=2)
    wrong = np.flatnonzero(~((rows >= -1) & (rows <= 2.5)))
    if not len(wrong):
        assert np.array_equal(reader.decode(rows.tobytes())["x"], rows)
        return
    with pytest.raises(InvalidInput) as refused:
        reader.decode(rows.tobytes())
    places = [fault.message.rpartition("as ")[2] for fault in refused.value.faults]
    assert places == [f"number {place % 3} of row {place // 3}" for place in wrong]


@given(arrays(np.float32, (2, 2), elements=st.floats(width=32)))
def test_each_feature_has_its_own_bounds(rows: np.ndarray) -> None:
    low, high = np.array([0.0, -10.0]), np.array([1.0, 10.0])
    reader = RawRows(spec_of("float32", 2), low=low, high=high, max_rows=2)
    if ((rows >= low) & (rows <= high)).all():
        assert np.array_equal(reader.decode(rows.tobytes())["x"], rows)
    else:
        with pytest.raises(InvalidInput):
            reader.decode(rows.tobytes())


@given(st.integers(0, 200))
def test_a_row_of_open_length_is_as_long_as_its_bytes(num_bytes: int) -> None:
    reader = RawRows(spec_of("int32", "steps", 2), low=0, high=9, lengths=range(2, 11), has_lengths=True, max_rows=1)
    steps, rest = divmod(num_bytes, 8)
    if rest or not 2 <= steps <= 10:
        with pytest.raises(InvalidInput, match="one row of 2 to 10 steps, 8 bytes each"):
            reader.decode(bytes(num_bytes))
        return
    tensors = reader.decode(bytes(num_bytes))
    assert tensors["x"].shape == (1, steps, 2)
    assert tensors[LENGTHS].dtype == np.int64
    assert tensors[LENGTHS].tolist() == [steps]


def test_lengths_are_told_only_to_a_model_that_asks() -> None:
    reader = RawRows(spec_of("float32", "steps"), low=0, high=9, lengths=range(1, 4), max_rows=1)
    assert reader.decode(bytes(8)).keys() == {"x"}


def test_other_bytes_than_0_and_1_are_no_truth_values() -> None:
    reader = RawRows(spec_of("bool", 3), low=0, high=1, max_rows=2)
    assert reader.decode(b"\0\1\1\1\0\0")["x"].tolist() == [[False, True, True], [True, False, False]]
    with pytest.raises(InvalidInput, match="found 2 as number 1 of row 0"):
        reader.decode(b"\0\2\0")


def test_more_rows_than_the_limit_are_refused() -> None:
    reader = RawRows(spec_of("uint8", 3), low=0, high=255, max_rows=2)
    assert len(reader.decode(bytes(6))["x"]) == 2
    with pytest.raises(TooManyInstances):
        reader.decode(bytes(9))


def test_no_more_faults_are_named_than_help() -> None:
    reader = RawRows(spec_of("uint8", 100), low=0, high=1, max_rows=2)
    with pytest.raises(InvalidInput) as refused:
        reader.decode(b"\5" * 100)
    assert len(refused.value.faults) == 8


def test_a_bound_that_float32_does_not_hold_is_the_nearest_number_that_it_does() -> None:
    """As in JSON, where 0.7 and 7.9 are taken at these bounds."""
    reader = RawRows(spec_of("float32", 2), low=np.array([0.7, 0.0]), high=np.array([1.0, 7.9]), max_rows=1)
    assert reader.decode(np.array([0.7, 7.9], "<f4").tobytes())["x"].tolist() == [
        [float(np.float32(0.7)), float(np.float32(7.9))]
    ]
    with pytest.raises(InvalidInput, match=r"from 0\.7 to 1, found 0\.69"):
        reader.decode(np.array([0.6999, 7.9], "<f4").tobytes())


def test_the_fast_reading_takes_what_the_other_takes_and_nothing_else() -> None:
    reader = RawRows(spec_of("uint8", 3), low=1, high=9, max_rows=2)
    for body in (bytes([1, 2, 9]), bytes([1] * 6)):
        assert np.array_equal(reader.decode_fast(body)["x"], reader.decode(body)["x"])  # type: ignore[index]
    for body in (b"", bytes([1, 2]), bytes([1, 2, 10]), bytes([0, 2, 3]), bytes([1] * 9)):
        assert reader.decode_fast(body) is None
