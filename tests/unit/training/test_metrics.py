"""Metrics beside scikit-learn's, and by hand."""

import numpy as np
import pytest
import sklearn.metrics as reference

from training.evaluate import score, score_values
from training.metrics import (
    expected_calibration_error,
    label_scores,
    probability_scores,
    reconstruction_scores,
    softmax,
    value_scores,
)

RNG = np.random.default_rng(3)


def rows(num_rows=400, num_classes=5, *, classes=None, seed=0):
    """Return logits that are right more often than not, and labels, of some classes only where they are given."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(num_classes if classes is None else classes, num_rows)
    logits = rng.normal(0, 1.5, (num_rows, num_classes)) + 2 * np.eye(num_classes)[labels]
    return logits.astype(np.float32), labels.astype(np.int64)


@pytest.mark.parametrize("classes", [None, [0, 1, 3]], ids=["all classes", "two are absent"])
@pytest.mark.parametrize("num_classes", [4, 5])
def test_scores_of_labels_are_those_of_scikit_learn(num_classes, classes):
    logits, labels = rows(num_classes=num_classes, classes=classes)
    predicted = logits.argmax(1)
    scores = label_scores(predicted, labels, num_classes)
    every = {"labels": range(num_classes), "zero_division": 0.0}
    precision, recall, f1, support = reference.precision_recall_fscore_support(labels, predicted, **every)
    np.testing.assert_allclose(scores.precision, precision, rtol=1e-12)
    np.testing.assert_allclose(scores.recall, recall, rtol=1e-12)
    np.testing.assert_allclose(scores.f1, f1, rtol=1e-12)
    assert scores.support == tuple(support)
    assert scores.accuracy == reference.accuracy_score(labels, predicted)
    for average in ("macro", "weighted"):
        expected = reference.precision_recall_fscore_support(labels, predicted, average=average, **every)
        assert getattr(scores, f"{average}_precision") == pytest.approx(expected[0], rel=1e-12)
        assert getattr(scores, f"{average}_f1") == pytest.approx(expected[2], rel=1e-12)
    assert scores.macro_recall == pytest.approx(recall.mean(), rel=1e-12)
    expected = reference.confusion_matrix(labels, predicted, labels=range(num_classes))
    np.testing.assert_array_equal(scores.confusion, expected)


def test_the_quick_scores_of_the_loop_are_the_same():
    logits, labels = rows(classes=[0, 2, 3])
    ours, quick = label_scores(logits.argmax(1), labels, 5), score(logits, labels)
    assert ours.accuracy == quick.accuracy
    assert ours.macro_f1 == pytest.approx(quick.macro_f1, rel=1e-12)
    assert ours.recall == pytest.approx(quick.recall)
    assert ours.precision == pytest.approx(quick.precision)
    np.testing.assert_array_equal(ours.confusion, quick.confusion)
    assert probability_scores(logits, labels).loss == quick.loss
    values, targets = RNG.normal(size=50), RNG.normal(size=50)
    ours, quick = value_scores(values, targets), score_values(values, targets)
    assert (ours.r2, ours.mae) == pytest.approx((quick.r2, quick.mae))
    assert ours.named()["rmse"] == pytest.approx(quick.rmse)


def test_a_class_that_never_occurs_counts_as_zero_only_in_the_plain_mean():
    scores = label_scores(np.array([0, 0, 1]), np.array([0, 0, 1]), 3)
    assert scores.f1 == (1.0, 1.0, 0.0)
    assert scores.macro_f1 == pytest.approx(2 / 3)
    assert scores.weighted_f1 == 1.0
    assert scores.support == (2, 1, 0)


def test_areas_are_those_of_scikit_learn():
    logits, labels = rows()
    scores, probabilities = probability_scores(logits, labels), softmax(logits)
    expected = reference.roc_auc_score(labels, probabilities, multi_class="ovr", average="macro")
    assert scores.roc_auc == pytest.approx(expected, abs=1e-6)
    each = [reference.average_precision_score(labels == index, probabilities[:, index]) for index in range(5)]
    assert scores.average_precision_of_class == pytest.approx(each, abs=1e-6)
    assert scores.average_precision == pytest.approx(np.mean(each), abs=1e-6)
    assert scores.loss == pytest.approx(reference.log_loss(labels, probabilities), rel=1e-9)


def test_the_area_of_two_classes_is_that_of_either():
    logits, labels = rows(num_classes=2)
    scores = probability_scores(logits, labels)
    expected = reference.roc_auc_score(labels, softmax(logits)[:, 1])
    assert scores.roc_auc_of_class == pytest.approx([expected, expected], abs=1e-6)
    assert scores.roc_auc == pytest.approx(expected, abs=1e-6)


def test_areas_of_absent_classes_are_left_out_and_not_made_up():
    logits, labels = rows(classes=[0, 1, 3])
    scores, probabilities = probability_scores(logits, labels), softmax(logits)
    each = [reference.roc_auc_score(labels == index, probabilities[:, index]) for index in (0, 1, 3)]
    assert scores.roc_auc_of_class[2] is None
    assert scores.average_precision_of_class[4] is None
    assert scores.roc_auc == pytest.approx(np.mean(each), abs=1e-6)


def test_a_split_of_one_class_has_no_areas():
    scores = probability_scores(np.array([[2.0, 1.0], [0.5, 0.0]]), np.array([0, 0]))
    assert scores.roc_auc is None
    assert scores.average_precision is None
    assert set(scores.named()) == {"loss", "ece"}


def test_huge_logits_make_probabilities_and_no_infinities():
    np.testing.assert_allclose(softmax(np.array([[1e4, 0.0], [-1e4, -1e4]])), [[1, 0], [0.5, 0.5]])


def test_calibration_error_of_a_worked_example():
    # four rows at 0.9, of which three are right; two at 0.6, of which both are
    confidence = np.array([0.9, 0.9, 0.9, 0.9, 0.6, 0.6])
    probabilities = np.stack([confidence, 1 - confidence], axis=1)
    labels = np.array([0, 0, 0, 1, 0, 0])
    expected = (4 * abs(0.75 - 0.9) + 2 * abs(1.0 - 0.6)) / 6
    assert expected_calibration_error(probabilities, labels) == pytest.approx(expected, abs=1e-6)


def test_a_confidence_of_one_shares_the_highest_bin():
    probabilities = np.array([[1.0, 0.0], [0.95, 0.05]])
    # one right and one wrong: in one bin their errors cancel but for the mean confidence
    assert expected_calibration_error(probabilities, np.array([1, 0])) == pytest.approx(0.975 - 0.5, abs=1e-6)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_errors_are_those_of_scikit_learn_on_every_scale(scale):
    targets = scale * (5 + RNG.normal(size=80))
    values = targets + scale * RNG.normal(0, 0.5, 80)
    scores = value_scores(values, targets)
    assert scores.mse == pytest.approx(reference.mean_squared_error(targets, values), rel=1e-9)
    assert scores.mae == pytest.approx(reference.mean_absolute_error(targets, values), rel=1e-9)
    assert scores.r2 == pytest.approx(reference.r2_score(targets, values), rel=1e-9)


def test_errors_of_pictures_are_told_pixel_by_pixel():
    originals = RNG.random((30, 4, 3))
    originals[:, 0, 0] = 0.5  # a pixel that is always the same
    rebuilt = originals + RNG.normal(0, 0.1, originals.shape)
    scores = reconstruction_scores(rebuilt, originals)
    assert scores.mse == pytest.approx(((rebuilt - originals) ** 2).mean())
    spread = ((originals - originals.mean(0)) ** 2).sum()
    assert scores.r2 == pytest.approx(1 - ((rebuilt - originals) ** 2).sum() / spread, abs=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: label_scores(np.array([0]), np.array([0, 1]), 2), "1 rows against 2 labels"),
        (lambda: label_scores(np.array([0, 1]), np.array([0, 2]), 2), "from 0 to 2 do not fit 2"),
        (lambda: probability_scores(np.zeros((0, 2)), np.array([], np.int64)), "0 rows"),
        (lambda: probability_scores(np.zeros((1, 2)), np.array([-1])), "from -1"),
        (lambda: value_scores(np.zeros(2), np.zeros(3)), "cannot score"),
        (lambda: value_scores(np.arange(3.0), np.ones(3)), "all the same"),
    ],
)
def test_what_cannot_be_scored_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
