"""Lists of checked numbers as arrays."""

from typing import Any

import numpy as np
import pytest

from app.tasks.decoding.numbers import float_array


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "numbers",
    [
        0.1,
        [0.1, -3, 2**53 + 1],
        [[0.1, 2], [3, 16777217]],
        [[[1], [2]], [[3], [4]], [[5], [1e-45]]],
        [[3.4028234663852886e38]],
    ],
)
def test_nested_numbers_become_the_array_that_numpy_makes_of_them(numbers: Any, dtype: str) -> None:
    array = float_array(numbers, dtype)
    expected = np.array(numbers, np.float64).astype(dtype)
    assert array.dtype == expected.dtype
    assert np.array_equal(array, expected)
    assert array.shape == expected.shape
