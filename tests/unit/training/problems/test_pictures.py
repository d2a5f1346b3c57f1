import numpy as np
import pytest

from training.problems._pictures import pixel_statistics


def test_pixel_statistics_are_those_of_the_pixels():
    images = np.random.default_rng(0).integers(0, 256, (40, 9, 7)).astype(np.uint8)
    found = pixel_statistics(images)
    assert found.mean == pytest.approx(images.mean(), abs=1e-5)
    assert found.std == pytest.approx(images.std(), abs=1e-5)
    counts, _ = np.histogram(images, bins=16, range=(0, 255))
    np.testing.assert_allclose(found.histogram, counts / images.size)
    assert sum(found.histogram) == pytest.approx(1)


def test_pixels_that_are_all_alike_have_a_histogram_too():
    found = pixel_statistics(np.full((3, 4, 4), 255, np.uint8))
    assert (found.mean, found.std) == (255, 0)
    assert found.histogram == (0.0,) * 15 + (1.0,)
