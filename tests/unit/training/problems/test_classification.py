import dataclasses

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from training import pipeline
from training.evaluate import cross_entropy
from training.problems._classification import class_outputs, column_moments


class Oracle(nn.Module):
    """Answers with the given logits, whatever it is asked."""

    def __init__(self, logits_NC):
        super().__init__()
        self.logits_NC = torch.tensor(logits_NC)
        self.start = 0

    def forward(self, pixels_BHW):
        stop = self.start + len(pixels_BHW)
        logits_BC = self.logits_NC[self.start : stop]
        self.start = 0 if stop == len(self.logits_NC) else stop
        return logits_BC


@pytest.fixture
def problem(cases):
    return cases["image_classification"].problem


def test_the_loss_is_the_cross_entropy_of_smoothed_labels(cases):
    case = cases["image_classification"]
    logits_BC, labels_B = torch.randn(6, 10, generator=torch.Generator().manual_seed(0)), torch.arange(6)
    for smoothing in (0.0, 0.2):
        problem = pipeline.problem_of(dataclasses.replace(case.config, label_smoothing=smoothing), case.problem.data)
        target_BC = functional.one_hot(labels_B, 10) * (1 - smoothing) + smoothing / 10
        expected = -(target_BC * logits_BC.log_softmax(1)).sum(1).mean()
        torch.testing.assert_close(problem.loss(logits_BC, labels_B), expected)
        # what is told of validation is without it
        oracle = Oracle(np.zeros((64, 10), np.float32))
        assert problem.validate(oracle).loss == pytest.approx(np.log(10), abs=1e-6)


def test_validation_counts_what_is_right(problem):
    labels_N = problem.data.validation.labels
    logits_NC = np.eye(10, dtype=np.float32)[labels_N]
    logits_NC[:16] = np.roll(logits_NC[:16], 1, axis=1)
    found = problem.validate(Oracle(logits_NC))
    assert found.score == 0.75
    assert found.loss == pytest.approx(cross_entropy(logits_NC, labels_N))
    assert problem.score({"logits": logits_NC}, problem.data.validation) == 0.75


def test_a_network_that_claims_too_much_is_cooled_and_one_that_is_right_is_left(problem):
    labels_N = problem.data.validation.labels
    right_NC = np.eye(10, dtype=np.float32)[labels_N] * 30
    assert problem.temperature(Oracle(right_NC)) == 1
    boasting_NC = right_NC.copy()
    boasting_NC[:16] = np.roll(boasting_NC[:16], 1, axis=1)
    temperature = problem.temperature(Oracle(boasting_NC))
    assert temperature > 5
    assert temperature == float(f"{temperature:.6g}")
    assert cross_entropy(boasting_NC / temperature, labels_N) < cross_entropy(boasting_NC, labels_N)


def test_the_report_counts_confusions_by_true_and_predicted_class(problem):
    labels_N = problem.data.test.labels
    logits_NC = np.eye(10, dtype=np.float32)[(labels_N + 1) % 10]
    told = problem.reports({"logits": logits_NC}, problem.data.test)["confusion_matrix"]
    assert told["labels"] == problem.data.classes
    confusion_CC = np.array(told["rows_are_true_columns_are_predicted"])
    counts = np.bincount(labels_N, minlength=10)
    assert [confusion_CC[c, (c + 1) % 10] for c in range(10)] == counts.tolist()
    assert confusion_CC.sum() == len(labels_N)


def test_every_classifier_tells_logits_and_probabilities():
    assert [(spec.name, spec.shape) for spec in class_outputs(3)] == [
        ("logits", ("batch", 3)),
        ("probabilities", ("batch", 3)),
    ]


def test_moments_are_rounded_and_a_column_that_never_changes_divides_by_no_zero():
    columns_NC = np.array([[1, 5], [2, 5], [4, 5]], np.float32)
    means, stds = column_moments(columns_NC)
    assert means == (2.33333, 5)
    assert stds == (float(f"{columns_NC[:, 0].std(dtype=np.float64):.6g}"), 1e-6)
