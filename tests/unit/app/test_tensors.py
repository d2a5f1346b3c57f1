import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.tensors import (
    LENGTHS,
    Tensors,
    all_finite,
    batches,
    concat,
    concat_padded,
    count_elements,
    num_fitting,
    num_rows,
    take,
    trim,
)
from tests.support.ragged import row_sums, series


def tensors(rows: int, start: int = 0) -> Tensors:
    return {"x": np.arange(start, start + rows * 2).reshape(rows, 2), "y": np.arange(start, start + rows)}


def test_rows_are_the_first_axis() -> None:
    assert num_rows(tensors(3)) == 3
    assert num_rows({"empty": np.zeros((0, 4))}) == 0


@pytest.mark.parametrize(
    "broken", [{}, {"x": np.float32(1)}, {"x": np.zeros(2), "y": np.zeros(3)}, {"x": np.zeros(2), "y": np.array(0)}]
)
def test_arrays_that_share_no_first_axis_have_no_rows(broken: Tensors) -> None:
    with pytest.raises(ValueError, match="must share their first axis"):
        num_rows(broken)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=5))
def test_what_is_joined_can_be_taken_apart_again(sizes: list[int]) -> None:
    parts = [tensors(size, start=10 * index) for index, size in enumerate(sizes)]
    joined = concat(parts)
    assert num_rows(joined) == sum(sizes)
    start = 0
    for part, size in zip(parts, sizes, strict=True):
        back = take(joined, start, start + size)
        assert back.keys() == part.keys()
        assert all(np.array_equal(back[name], part[name]) for name in part)
        start += size


def test_a_single_part_is_not_copied_and_rows_are_views() -> None:
    only = tensors(3)
    assert concat([only]) is only
    assert np.shares_memory(take(only, 1, 2)["x"], only["x"])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_number_that_is_not_finite_is_found(value: float) -> None:
    good, bad = np.zeros((2, 2), np.float32), np.zeros((2, 2), np.float32)
    bad[1, 1] = value
    assert all_finite({"a": good, "b": np.array([1, 2])})
    assert not all_finite({"a": good, "b": bad})


@pytest.mark.parametrize("shape", [(3, 4), (100, 100)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_numbers_whose_squares_are_infinite_are_finite(dtype: type, shape: tuple[int, int]) -> None:
    largest = np.full(shape, np.finfo(dtype).max, dtype)
    assert all_finite({"a": largest, "b": largest.T, "c": largest[:, ::2]})
    largest[-1, -1] = np.nan
    assert not all_finite({"a": largest})


def test_arrays_that_cannot_hold_nan_are_finite() -> None:
    assert all_finite({"a": np.array([1]), "b": np.array([True]), "c": np.array(["text"])})


@given(st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=4), min_size=1, max_size=5))
def test_padded_rows_come_back_out_of_a_joined_batch(plan: list[list[int]]) -> None:
    parts = [series(lengths, start=1 + 100 * index) for index, lengths in enumerate(plan)]
    joined = concat_padded(parts)
    assert joined["series"].dtype == np.float32
    assert joined["series"].shape == (sum(map(len, plan)), max(map(max, plan)), 2)
    assert row_sums(joined) == [total for part in parts for total in row_sums(part)]
    start = 0
    for part in parts:
        stop = start + num_rows(part)
        back = trim(take(joined, start, stop))
        assert all(np.array_equal(back[name], part[name]) for name in part)
        assert not joined["series"][start:stop, part["series"].shape[1] :].any()
        start = stop


def test_what_is_trimmed_is_a_view_and_rows_without_lengths_are_left_alone() -> None:
    wide = series([2, 5])
    short = trim(take(wide, 0, 1))
    assert short["series"].shape == (1, 2, 2)
    assert np.shares_memory(short["series"], wide["series"])
    fixed = tensors(3)
    assert trim(fixed) is fixed


@given(st.lists(st.integers(0, 9), max_size=12), st.integers(1, 50), st.integers(0, 5), st.integers(0, 9))
def test_rows_fit_as_long_as_the_padded_batch_keeps_the_bound(
    lengths: list[int], max_elements: int, rows: int, longest: int
) -> None:
    fitting = num_fitting(np.array(lengths, np.int64), max_elements, rows=rows, longest=longest)
    keeps = [(rows + n) * max([longest, *lengths[:n]]) <= max_elements for n in range(1, len(lengths) + 1)]
    assert fitting == sum(keeps)
    assert all(keeps[:fitting])


@given(
    lengths=st.lists(st.integers(1, 9), max_size=20),
    max_rows=st.integers(1, 6),
    max_elements=st.one_of(st.none(), st.integers(1, 40)),
)
def test_batches_keep_the_bounds_and_the_order_and_hold_all_rows(
    lengths: list[int], max_rows: int, max_elements: int | None
) -> None:
    rows = series(lengths) if lengths else take(series([1]), 0, 0)
    parts = list(batches(rows, max_rows=max_rows, max_elements=max_elements))
    assert [total for part in parts for total in row_sums(part)] == row_sums(rows)
    for part in parts:
        count, padded = part["series"].shape[:2]
        assert padded == part[LENGTHS].max()
        assert 1 <= count <= max_rows
        assert max_elements is None or count == 1 or count * padded <= max_elements


def test_batches_of_fixed_shapes_are_cut_by_rows() -> None:
    assert [num_rows(part) for part in batches(tensors(7), max_rows=3)] == [3, 3, 1]


def test_elements_are_rows_times_padded_length_and_none_without_lengths() -> None:
    assert count_elements(series([4, 1, 2])) == (12, 5)
    assert count_elements(series([4])) == (4, 0)
    assert count_elements(tensors(3)) == (0, 0)
