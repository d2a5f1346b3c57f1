"""The bars are half of what was measured, or less; see docs/guides/interpretability.md for the figures."""

import numpy as np
import pytest

from training.explain.deletion import NUM_STEPS, area, compare, curve
from training.explain.grad_cam import hires_cam
from training.explain.gradients import integrated_gradients
from training.explain.occlusion import occlude

GAINS = {"cnn": 0.07, "mlp": 0.29}


def shares(inputs):
    """Class 0 is as likely as the share of the first pixel, class 1 is what is left."""
    first = inputs["image"][:, 0] / 10
    return {"probabilities": np.stack([first, 1 - first], axis=1).astype(np.float32)}


def areas(classifier, pixels, keys):
    return area(curve(classifier.run, "image", pixels.numpy(), np.asarray(keys)))


def at_random(pixels):
    return np.random.default_rng(7).random(tuple(pixels.shape))


def test_deleting_the_pixels_that_integrated_gradients_name_hurts_more_than_random_ones(classifier, pixels):
    values = integrated_gradients(classifier.network, pixels, classifier.classes, num_steps=16).values
    found = compare(areas(classifier, pixels, values), areas(classifier, pixels, at_random(pixels)))
    assert found.gain > GAINS[classifier.name]
    assert found.gain > 6 * found.gain_error
    assert found.share_hurt_more > 0.7


def test_deleting_the_pixels_that_occlusion_names_hurts_more_than_random_and_than_the_brightest(classifier, pixels):
    some, classes = pixels[:48], classifier.classes[:48]
    values = occlude(classifier.network, some, classes, window=(4, 4), stride=(2, 2))
    of_method = areas(classifier, some, values)
    for control in (at_random(some), some.numpy()):
        found = compare(of_method, areas(classifier, some, control))
        assert found.gain > 0.1
        assert found.share_hurt_more > 0.7


def test_deleting_where_hires_cam_looks_hurts_more_than_random_pixels(committed, pixels):
    cnn = committed("cnn")
    classes = cnn.network(pixels).argmax(dim=1)
    found = compare(areas(cnn, pixels, hires_cam(cnn.network, pixels, classes)), areas(cnn, pixels, at_random(pixels)))
    assert found.gain > 0.06
    assert found.gain > 3 * found.gain_error


def test_the_order_is_followed_and_pixels_that_are_gone_already_do_not_count():
    inputs = np.array([[9.0, 5.0, 5.0, 0.0, 0.0]], np.float32)
    first = curve(shares, "image", inputs, np.array([[3, 2, 1, 9, 9]]))
    last = curve(shares, "image", inputs, np.array([[1, 2, 3, 9, 9]]))
    assert first.shape == (1, NUM_STEPS + 1)
    assert first[0, 0] == last[0, 0] == pytest.approx(0.9)
    assert first[0, -1] == last[0, -1] == 0
    # three pixels: the first goes when half of a third is reached
    assert np.flatnonzero(first[0] == 0)[0] == 4
    assert np.flatnonzero(last[0] == 0)[0] == 17
    assert area(first) < area(last)


def test_inputs_are_left_as_they_are():
    inputs = np.array([[9.0, 5.0]], np.float32)
    curve(shares, "image", inputs, np.array([[2, 1]]))
    np.testing.assert_array_equal(inputs, [[9, 5]])


def test_the_area_is_that_under_the_line():
    assert area(np.array([[1.0, 0.0], [1.0, 1.0]])).tolist() == [0.5, 1.0]


def test_a_comparison_is_paired():
    found = compare(np.array([0.1, 0.4, 0.5]), np.array([0.2, 0.5, 0.4]))
    assert found.gain == pytest.approx(0.1 / 3)
    assert found.gain_error == pytest.approx(np.std([0.1, 0.1, -0.1], ddof=1) / 3**0.5)
    assert found.share_hurt_more == pytest.approx(2 / 3)
