"""Named tensors are held against the model before anything is read, and every fault names its tensor."""

from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.bundle.manifest import DType, TensorSpec
from app.errors import InvalidInput, TooManyInstances
from app.tasks.decoding.named import InputRule, NamedRows
from app.tensors import LENGTHS


def rule(
    name: str,
    dtype: DType,
    *axes: int | str,
    low: float = -9,
    high: float = 9,
    lengths: Mapping[str, range] | None = None,
) -> InputRule:
    spec = TensorSpec(name=name, dtype=dtype, shape=("batch", *axes))
    return InputRule(spec=spec, low=low, high=high, lengths=lengths or {})


PICTURE = NamedRows([rule("image", "float32", 2, 3, low=0)], max_rows=4, max_numbers=100)
RAGGED = NamedRows(
    [
        rule("tokens", "int64", "time", low=0, high=99, lengths={"time": range(2, 6)}),
        rule(LENGTHS, "int64", low=2, high=5),
    ],
    max_rows=4,
    max_numbers=100,
)
PAIR = NamedRows([rule("a", "float32", "n"), rule("b", "int32", 2, "n")], max_rows=4, max_numbers=20)


@pytest.mark.parametrize("shape", [(1, 2, 3), (4, 2, 3)])
def test_shapes_of_the_model_are_accepted(shape: tuple[int, ...]) -> None:
    PICTURE.expect_shapes({"image": shape})


@pytest.mark.parametrize(
    ("shape", "told"),
    [
        ((2, 3), r"expected the shape \[batch, 2, 3\], found \[2, 3\]"),
        ((1, 3, 2), r"found \[1, 3, 2\]"),
        ((0, 2, 3), r"found \[0, 2, 3\]"),
        ((-1, 2, 3), r"found \[-1, 2, 3\]"),
        ((1, 2, 2**63), r"found \[1, 2, 9223372036854775808\]"),
        ((1, 2, 10**400), "a number of 401 digits"),
        ((1,) * 20, r"\.\.\. 20 axes"),
        ((), r"found \[\]"),
    ],
)
def test_other_shapes_are_refused_and_the_tensor_named(shape: tuple[int, ...], told: str) -> None:
    with pytest.raises(InvalidInput, match=told) as refused:
        PICTURE.expect_shapes({"image": shape})
    assert refused.value.faults[0].pointer == "input:image"


def test_more_rows_than_one_request_may_hold_are_too_many() -> None:
    with pytest.raises(TooManyInstances):
        PICTURE.expect_shapes({"image": (5, 2, 3)})
    with pytest.raises(TooManyInstances):
        PICTURE.expect_shapes({"image": (2**63, 2, 3)})


def test_open_axes_have_bounds() -> None:
    RAGGED.expect_shapes({"tokens": (1, 5), LENGTHS: (1,)})
    with pytest.raises(InvalidInput, match="'time' may be 5 at most, found 6"):
        RAGGED.expect_shapes({"tokens": (1, 6), LENGTHS: (1,)})
    with pytest.raises(InvalidInput, match="'time' must be 2 at least, found 1"):
        RAGGED.expect_shapes({"tokens": (1, 1), LENGTHS: (1,)})


def test_tensors_share_their_rows_and_the_axes_of_one_name() -> None:
    PAIR.expect_shapes({"a": (1, 3), "b": (1, 2, 3)})
    with pytest.raises(InvalidInput, match="input:b: 2 rows, and 'a' has 1"):
        PAIR.expect_shapes({"a": (1, 3), "b": (2, 2, 3)})
    with pytest.raises(InvalidInput, match="input:b: expected 3 along 'n', as in 'a', found 4"):
        PAIR.expect_shapes({"a": (1, 3), "b": (1, 2, 4)})


def test_numbers_are_counted_before_they_are_read() -> None:
    with pytest.raises(InvalidInput, match="input:b: the tensors of one request may have 20 numbers together, not 24"):
        PAIR.expect_shapes({"a": (1, 8), "b": (1, 2, 8)})


@given(st.lists(st.floats(width=32), min_size=6, max_size=6))
def test_exactly_the_numbers_within_the_bounds_are_taken(numbers: list[float]) -> None:
    given_ = {"image": np.array(numbers, np.float32).reshape(1, 2, 3)}
    wrong = [place for place, number in enumerate(numbers) if not 0 <= number <= 9]
    settled = PICTURE.settle(given_)
    assert (settled is not None) == (not wrong)
    if wrong:
        faults = PICTURE.faults(given_).faults
        assert [fault.message.rpartition(" at ")[2] for fault in faults] == [f"[0, {w // 3}, {w % 3}]" for w in wrong]
        assert {fault.pointer for fault in faults} == {"input:image"}


@given(st.data(), st.integers(1, 4), st.integers(2, 5))
def test_what_lies_behind_a_length_is_neither_looked_at_nor_shown_to_the_model(
    data: st.DataObject, rows: int, steps: int
) -> None:
    lengths = data.draw(st.lists(st.integers(2, steps), min_size=rows, max_size=rows))
    tokens = np.array(data.draw(st.lists(st.integers(0, 99), min_size=rows * steps, max_size=rows * steps)))
    tokens = tokens.reshape(rows, steps)
    noisy = tokens.copy()
    for row, length in enumerate(lengths):
        noisy[row, length:] = data.draw(st.sampled_from([-(2**60), 0, 100, 2**60]))
    before = noisy.copy()
    settled = RAGGED.settle({"tokens": noisy, LENGTHS: np.array(lengths)})
    assert settled is not None
    assert settled["tokens"].shape == (rows, max(lengths))
    for row, length in enumerate(lengths):
        assert settled["tokens"][row, :length].tolist() == tokens[row, :length].tolist()
        assert not settled["tokens"][row, length:].any()
    assert np.array_equal(noisy, before)


@pytest.mark.parametrize("length", [-1, 0, 1, 4, 2**62])
def test_a_length_that_is_none_of_its_row_is_refused(length: int) -> None:
    given_ = {"tokens": np.zeros((2, 3), np.int64), LENGTHS: np.array([2, length])}
    assert RAGGED.settle(given_) is None
    assert str(RAGGED.faults(given_)) == (
        f"input:lengths: expected lengths from 2 to 3, the second axis of 'tokens', found {length} at [1]"
    )


def test_a_number_out_of_range_is_told_where_it_counts() -> None:
    given_ = {"tokens": np.array([[1, 100, 500]]), LENGTHS: np.array([2])}
    assert RAGGED.settle(given_) is None
    assert [str(fault.message) for fault in RAGGED.faults(given_).faults] == [
        "expected a number from 0 to 99, found 100 at [0, 1]"
    ]


def test_truth_values_have_no_bounds() -> None:
    rows = NamedRows([rule("on", "bool", 2, low=0, high=1)], max_rows=2, max_numbers=10)
    on = np.array([[True, False]])
    settled = rows.settle({"on": on})
    assert settled is not None
    assert np.array_equal(settled["on"], on)
