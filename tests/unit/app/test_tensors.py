import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.tensors import Tensors, all_finite, concat, num_rows, take


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


def test_arrays_that_cannot_hold_nan_are_finite() -> None:
    assert all_finite({"a": np.array([1]), "b": np.array([True]), "c": np.array(["text"])})
