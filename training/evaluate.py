"""What a network does on a split, in numbers.

Shape suffixes: N rows of the split, C classes.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.tensors import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Scores of a classifier on one split.

    Attributes:
        accuracy: Share of the rows that are right.
        loss: Mean cross-entropy in nats.
        macro_f1: Mean of the classes' F1 scores.
        recall: Of each class, the share that is found.
        precision: Of what is called a class, the share that is one.
        confusion: Counts, int64 of shape (C, C); true classes down, predicted ones across.
    """

    accuracy: float
    loss: float
    macro_f1: float
    recall: tuple[float, ...]
    precision: tuple[float, ...]
    confusion: NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class RegressionScores:
    """Scores of a regression on one split, in the unit of its target.

    Attributes:
        r2: Share of the targets' variance that is told; 0 is as good as their mean.
        mae: Mean absolute error.
        rmse: Root of the mean squared error.
    """

    r2: float
    mae: float
    rmse: float


def score(logits_NC: Array, labels_N: NDArray[np.int64]) -> Scores:
    """Score logits, any float dtype of shape (N, C), against labels, int64 of shape (N,)."""
    num_classes = logits_NC.shape[1]
    predicted_N = logits_NC.argmax(axis=1)
    confusion_CC = np.zeros((num_classes, num_classes), np.int64)
    np.add.at(confusion_CC, (labels_N, predicted_N), 1)
    hits_C = confusion_CC.diagonal()
    recall_C = _ratio(hits_C, confusion_CC.sum(axis=1))
    precision_C = _ratio(hits_C, confusion_CC.sum(axis=0))
    f1_C = _ratio(2 * precision_C * recall_C, precision_C + recall_C)
    return Scores(
        accuracy=float((predicted_N == labels_N).mean()),
        loss=cross_entropy(logits_NC, labels_N),
        macro_f1=float(f1_C.mean()),
        recall=tuple(recall_C.tolist()),
        precision=tuple(precision_C.tolist()),
        confusion=confusion_CC,
    )


def score_values(values_N: Array, targets_N: Array) -> RegressionScores:
    """Score values against targets, both of any float dtype and shape (N,), in float64."""
    errors_N = values_N.astype(np.float64) - targets_N
    return RegressionScores(
        r2=float(1 - (errors_N**2).sum() / ((targets_N - targets_N.mean()) ** 2).sum()),
        mae=float(np.abs(errors_N).mean()),
        rmse=float((errors_N**2).mean() ** 0.5),
    )


def cross_entropy(logits_NC: Array, labels_N: NDArray[np.int64]) -> float:
    """Return the mean cross-entropy in nats, computed in float64."""
    wide_NC = logits_NC.astype(np.float64)
    top_N1 = wide_NC.max(axis=1, keepdims=True)
    log_sum_N = np.log(np.exp(wide_NC - top_N1).sum(axis=1)) + top_N1[:, 0]
    return float((log_sum_N - wide_NC[np.arange(len(labels_N)), labels_N]).mean())


def _ratio(part_C: Array, whole_C: Array) -> Array:
    """Divide, with 0 where there is nothing to divide by."""
    zeros_C: Array = np.zeros(len(whole_C), np.float64)
    return np.divide(part_C, whole_C, out=zeros_C, where=whole_C > 0)
