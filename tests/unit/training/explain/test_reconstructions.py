import numpy as np
import pytest

from training.explain.reconstructions import error_map, traverse, widest


def test_the_mean_of_a_map_is_the_error_on_the_scale_of_the_service():
    images = np.array([[[0, 255], [51, 0]]], np.uint8)
    found = error_map(images, np.array([[[0.0, 0.0], [0.0, 0.0]]], np.float32))
    np.testing.assert_allclose(found, [[[0, 1], [0.04, 0]]], atol=1e-7)
    with pytest.raises(ValueError, match="differ in shape"):
        error_map(images, np.zeros((1, 4, 4)))


def test_the_widest_numbers_of_a_code_are_led_from_quantile_to_quantile_one_at_a_time():
    codes = np.stack([np.zeros(101), np.linspace(-50, 50, 101), np.linspace(0, 10, 101)], axis=1)
    assert widest(codes, 2) == [1, 2]
    decoded = traverse(lambda codes_BK: codes_BK[:, None, :], np.array([7.0, 8.0, 9.0]), codes, [1, 2], 3)
    assert decoded.shape == (2, 3, 1, 3)
    np.testing.assert_allclose(decoded[0, :, 0], [[7, -45, 9], [7, 0, 9], [7, 45, 9]])
    np.testing.assert_allclose(decoded[1, :, 0], [[7, 8, 0.5], [7, 8, 5], [7, 8, 9.5]])
