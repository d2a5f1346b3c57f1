import json

import numpy as np
import pytest

from training.baselines import Baseline
from training.calibration import fit_temperature
from training.metrics import label_scores, probability_scores
from training.report import evaluate_classifier

LABELS = ("ham", "spam", "eggs")


@pytest.fixture
def evaluate(course, classified):
    validation_logits, validation_labels, test_logits, test_labels = classified

    def build(**changes):
        given = {
            "labels": LABELS,
            "validation_logits_NC": validation_logits,
            "validation_labels_N": validation_labels,
            "test_logits_MC": test_logits,
            "test_labels_M": test_labels,
            "course": course,
        }
        return evaluate_classifier(**{**given, **changes})

    return build


def baseline_of(predicted, labels):
    return Baseline(
        name="simple",
        description="Something simple",
        metrics=label_scores(predicted, labels, 3).named(),
        predictions=predicted,
    )


def test_metrics_are_those_of_the_divided_logits_and_labels_those_of_either(evaluate, classified):
    validation_logits, validation_labels, test_logits, test_labels = classified
    temperature = fit_temperature(validation_logits, validation_labels)
    assert temperature > 2
    told = evaluate(temperature=temperature)
    metrics = told.metrics
    assert metrics["accuracy"] == (test_logits.argmax(1) == test_labels).mean()
    soft = probability_scores(test_logits / temperature, test_labels)
    assert (metrics["loss"], metrics["ece"]) == pytest.approx((soft.loss, soft.ece))
    assert metrics["ece"] < metrics["ece_uncalibrated"] == probability_scores(test_logits, test_labels).ece
    assert metrics["validation_accuracy"] == (validation_logits.argmax(1) == validation_labels).mean()
    for label in LABELS:
        assert {f"recall/{label}", f"precision/{label}", f"f1/{label}"} <= set(metrics)
    assert told.main_metric == "accuracy"
    assert all(np.isfinite(list(metrics.values())))


def test_the_scores_lie_within_the_intervals_beside_them(evaluate):
    told = evaluate()
    for name in ("accuracy", "macro_f1", "roc_auc"):
        assert told.metrics[f"{name}_low"] < told.metrics[name] < told.metrics[f"{name}_high"]
        assert told.metrics[name] in told.intervals[name]


def test_a_class_without_test_rows_is_left_out_of_what_is_told_of_classes(evaluate, classified):
    _, _, logits, labels = classified
    chosen = labels != 1
    told = evaluate(test_logits_MC=logits[chosen], test_labels_M=labels[chosen])
    assert "recall/spam" not in told.metrics
    assert "recall/ham" in told.metrics
    assert told.details["support"]["spam"] == 0
    assert all(np.isfinite(list(told.metrics.values())))


@pytest.mark.parametrize(("wrong", "winner", "said"), [
    (0, "simple model", "The simple model wins, with accuracy 1.0000"),
    (300, "network", "The network wins"),
])  # fmt: skip
def test_whoever_wins_is_said_plainly(evaluate, classified, wrong, winner, said):
    labels = classified[3]
    predicted = np.where(np.arange(300) < wrong, (labels + 1) % 3, labels)
    told = evaluate(baseline=baseline_of(predicted, labels))
    assert told.comparison.winner == winner
    assert said in told.comparison.sentence
    assert told.metrics["baseline/simple/accuracy"] == 1 - wrong / 300


def test_a_difference_that_may_be_luck_has_no_winner(evaluate, classified):
    _, _, logits, labels = classified
    predicted = logits.argmax(1)
    predicted[:2] = labels[:2]
    told = evaluate(baseline=baseline_of(predicted, labels))
    assert told.comparison.winner is None
    assert told.comparison.sentence.startswith("No clear difference")


def test_the_verdict_rests_on_the_rows_that_it_was_fitted_to_where_they_are_given(evaluate):
    assert evaluate(train_accuracy=1.0).verdict.kind == "overfitting"
    assert evaluate(train_accuracy=0.85).metrics["train_accuracy"] == 0.85
    assert "1.0000" not in evaluate().verdict.reason


def test_mistakes_come_surest_first_with_their_length_and_nothing_else(evaluate, classified):
    _, _, logits, labels = classified
    lengths = np.arange(300) + 1000
    told = evaluate(lengths_M=lengths)
    probabilities = [mistake.probability for mistake in told.mistakes]
    assert probabilities == sorted(probabilities, reverse=True)
    for mistake in told.mistakes:
        row = mistake.length - 1000
        assert mistake.true == LABELS[labels[row]] != mistake.predicted == LABELS[logits[row].argmax()]
    assert {plot.name for plot in told.plots} == {
        "learning_curves", "confusion_matrix", "roc", "precision_recall", "reliability",
    }  # fmt: skip


def test_pictures_show_their_mistakes(evaluate, classified):
    _, _, logits, labels = classified
    images = np.zeros((300, 4, 4), np.uint8)
    assert evaluate(images_MHW=images).plots[-1].name == "worst_mistakes"
    right = logits.argmax(1) == labels
    perfect = evaluate(images_MHW=images[right], test_logits_MC=logits[right], test_labels_M=labels[right])
    assert perfect.mistakes == ()
    assert "worst_mistakes" not in {plot.name for plot in perfect.plots}


@pytest.mark.slow
def test_the_files_are_the_same_every_time_and_small(evaluate, classified):
    labels = classified[3]
    baseline = baseline_of(labels, labels)
    first, second = (evaluate(temperature=2.0, baseline=baseline).files() for _ in range(2))
    assert first == second
    for path, content in first.items():
        assert path.startswith("report/")
        assert len(content) < 100_000
    told = json.loads(first["report/evaluation.json"])
    assert told["baseline"]["winner"] == "simple model"
    assert sum(count for count, _, _ in told["reliability"]["bins_plain"]) == 300
    assert set(told["intervals_95"]) == {"accuracy", "macro_f1", "roc_auc"}


def test_logits_of_other_classes_are_refused(evaluate):
    with pytest.raises(ValueError, match="logits of 3 classes do not fit 2 labels"):
        evaluate(labels=("a", "b"))
