import numpy as np
import pytest

from training.calibration import HIGHEST, check, fit_temperature, reliability
from training.evaluate import cross_entropy
from training.metrics import expected_calibration_error, softmax


def calibrated(num_rows=4000, num_classes=6, *, seed=0):
    """Return logits that are exactly as sure as they are right, with labels drawn from their own probabilities."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (num_rows, num_classes))
    draws = rng.random((num_rows, 1))
    return logits, np.clip((softmax(logits).cumsum(1) < draws).sum(1), 0, num_classes - 1)


@pytest.mark.parametrize("factor", [0.3, 0.7, 1.8, 4.0])
def test_the_temperature_that_logits_were_heated_by_is_found_again(factor):
    logits, labels = calibrated()
    assert fit_temperature((logits * factor).astype(np.float32), labels) == pytest.approx(factor, rel=0.06)


@pytest.mark.parametrize("factor", [0.4, 2.5])
def test_no_other_temperature_is_likelier(factor):
    logits, labels = calibrated(600)
    found = fit_temperature(logits * factor, labels)
    least = cross_entropy(logits * factor / found, labels)
    for other in np.geomspace(0.06, 19, 200):
        assert least <= cross_entropy(logits * factor / other, labels) + 1e-10
    assert least < cross_entropy(logits * factor, labels)


def test_logits_that_are_right_as_they_are_stay_so():
    found = [fit_temperature(*calibrated(300, seed=seed)) for seed in range(20)]
    # the test behind it errs in one of twenty cases
    assert sum(temperature == 1.0 for temperature in found) >= 17


def test_few_rows_do_not_move_the_temperature():
    logits, labels = calibrated(12)
    assert fit_temperature(logits * 1.2, labels) == 1.0


def test_rows_that_are_all_right_tell_nothing():
    logits, _ = calibrated(500)
    assert fit_temperature(logits, logits.argmax(1)) == 1.0


def test_logits_that_mean_nothing_are_cooled_down_to_the_bound():
    rng = np.random.default_rng(0)
    found = fit_temperature(rng.normal(0, 1e4, (500, 3)), rng.integers(0, 3, 500))
    assert found == pytest.approx(HIGHEST, rel=1e-3)


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (np.zeros((0, 3)), np.zeros(0, np.int64), "0 rows"),
        (np.zeros((2, 3)), np.zeros(3, np.int64), "2 rows of logits and 3 labels"),
        (np.array([[0.0, np.nan]]), np.array([0]), "not finite"),
    ],
)
def test_what_gives_no_temperature_is_refused(logits, labels, message):
    with pytest.raises(ValueError, match=message):
        fit_temperature(logits, labels)


def test_a_check_tells_before_from_after():
    logits, labels = calibrated()
    told = check(logits * 3, labels, 3.0)
    assert told.after.ece < 0.03 < told.before.ece
    assert told.loss_after < told.loss_before
    assert told.loss_after == pytest.approx(cross_entropy(logits, labels))


def test_the_bins_of_a_diagram_add_up_to_its_error():
    logits, labels = calibrated()
    told = reliability(softmax(logits * 2), labels)
    assert sum(each.count for each in told.bins) == len(labels)
    by_hand = sum(each.count * abs(each.confidence - each.accuracy) for each in told.bins) / len(labels)
    assert told.ece == pytest.approx(by_hand, abs=1e-6)
    assert told.ece == expected_calibration_error(softmax(logits * 2), labels)
    for each in told.bins:
        assert each.low <= each.confidence <= each.high


def test_bins_without_rows_are_left_out():
    told = reliability(np.array([[0.95, 0.05], [1.0, 0.0]]), np.array([0, 1]))
    (only,) = told.bins
    assert (only.count, only.accuracy, only.confidence) == (2, 0.5, pytest.approx(0.975))
