"""What a plot shows is seen with eyes; that it can be drawn at all, and always the same, is held here."""

import re
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pytest

from training.calibration import check
from training.metrics import probability_scores, softmax
from training.report import galleries, plots

RNG = np.random.default_rng(0)
LABELS = ("costs $5", "a_b", "a class of a very long name indeed", "x")


def logits_of(num_rows=200, num_classes=4):
    labels = np.arange(num_rows) % num_classes
    return RNG.normal(size=(num_rows, num_classes)) + np.eye(num_classes)[labels], labels


def every_plot(course):
    logits, labels = logits_of()
    probabilities, scores = softmax(logits), probability_scores(logits, labels)
    images = RNG.integers(0, 256, (8, 6, 6))
    yield plots.learning_curves(course.history, 3)
    yield plots.learning_curves(course.history, 3, validation_scores=course.validation_scores)
    yield plots.confusion_matrix(np.arange(16).reshape(4, 4), LABELS)
    yield plots.roc_curves(probabilities, labels, LABELS, scores.roc_auc_of_class)
    yield plots.precision_recall_curves(probabilities, labels, LABELS, scores.average_precision_of_class)
    yield plots.reliability_diagram(check(logits, labels, 1.0))
    yield plots.reliability_diagram(check(logits, labels, 1.7))
    yield plots.residuals(logits[:, 0], logits[:, 1], name="price", unit="$")
    yield plots.error_histogram(np.abs(logits[:, 0]), 0.5)
    yield plots.error_histogram(np.abs(logits[:, 0]), 0.5, other_errors_M=np.zeros(5))
    yield galleries.worst_mistakes(images, labels[:8], labels[1:9], probabilities[:8, 0], LABELS)
    yield galleries.reconstructions(images, images / 2, np.arange(8.0))


@pytest.mark.slow
def test_every_plot_is_an_svg_that_tells_of_no_time_and_no_tool(course):
    for content in every_plot(course):
        assert ElementTree.fromstring(content).tag == "{http://www.w3.org/2000/svg}svg"
        assert not re.search(rb"<dc:date>|dc:creator", content)
        assert len(content) < 100_000


def test_settings_of_the_user_change_nothing_and_stay_as_they_were(course):
    logits, labels = logits_of()
    first = plots.reliability_diagram(check(logits, labels, 1.7))
    with mpl.rc_context({"font.size": 30, "svg.hashsalt": "other", "axes.facecolor": "red"}):
        assert plots.reliability_diagram(check(logits, labels, 1.7)) == first
        assert mpl.rcParams["font.size"] == 30


def test_classes_that_cannot_be_told_are_not_drawn():
    logits, labels = logits_of()
    labels = np.where(labels == 2, 1, labels)
    scores = probability_scores(logits, labels)
    assert scores.roc_auc_of_class[2] is None
    assert plots.roc_curves(softmax(logits), labels, LABELS, scores.roc_auc_of_class)
    alone = np.zeros(200, np.int64)
    assert plots.roc_curves(softmax(logits), alone, LABELS, (None,) * 4)
    assert plots.precision_recall_curves(softmax(logits), alone, LABELS, (None,) * 4)


def test_many_points_do_not_make_a_large_file():
    values = RNG.normal(size=50_000)
    content = plots.residuals(values, values + RNG.normal(size=50_000), name="price")
    assert len(content) < 100_000
    logits = RNG.normal(size=(20_000, 10))
    labels = RNG.integers(0, 10, 20_000)
    areas = probability_scores(logits, labels).roc_auc_of_class
    names = [str(index) for index in range(10)]
    assert len(plots.roc_curves(softmax(logits), labels, names, areas)) < 100_000


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 7, 30])
def test_any_number_of_pictures_can_be_shown(count):
    images = RNG.integers(0, 256, (count, 5, 5))
    zeros = np.zeros(count, np.int64)
    assert galleries.worst_mistakes(images, zeros, zeros + 1, np.ones(count), ("a", "b"))
    assert galleries.reconstructions(images, images, np.arange(float(count)))
