"""What a model is worth on a split, in all the numbers of its report; counted by torchmetrics.

The loop uses the few and quick numbers of `training.evaluate`; these are for the report, once, after training.

Shape suffixes: N rows of the split, C classes, P pixels.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics.functional.classification import (
    binary_auroc,
    binary_average_precision,
    multiclass_calibration_error,
    multiclass_confusion_matrix,
    multiclass_stat_scores,
)
from torchmetrics.functional.regression import mean_absolute_error, mean_squared_error, r2_score

from app.tensors import Array
from training.evaluate import cross_entropy

NUM_BINS = 15  # of Guo et al., arXiv:1706.04599

# torchmetrics tells a confidence from 1 in float32, and would give those of exactly 1 a bin of their own
BELOW_ONE = float(np.nextafter(np.float32(1), np.float32(0)))


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelScores:
    """Scores of the labels that a classifier gives; a ratio without anything to divide by is 0.

    Attributes:
        accuracy: Share of the rows that are right.
        macro_precision: Mean over all classes, rare or not.
        macro_recall: Mean over all classes.
        macro_f1: Mean over all classes.
        weighted_precision: Mean over the classes, each by its number of rows.
        weighted_f1: Mean over the classes, each by its number of rows. (The weighted recall is the accuracy.)
        precision: Of what is called a class, the share that is one.
        recall: Of each class, the share that is found.
        f1: The harmonic mean of both.
        support: Rows of each class.
        confusion: Counts, int64 of shape (C, C); true classes down, predicted ones across.
    """

    accuracy: float
    macro_precision: float
    macro_recall: float
    macro_f1: float
    weighted_precision: float
    weighted_f1: float
    precision: tuple[float, ...]
    recall: tuple[float, ...]
    f1: tuple[float, ...]
    support: tuple[int, ...]
    confusion: NDArray[np.int64]

    def named(self) -> dict[str, float]:
        """Return the scores over all classes, as the manifest names them."""
        names = ("accuracy", "macro_precision", "macro_recall", "macro_f1", "weighted_precision", "weighted_f1")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbabilityScores:
    """Scores of the probabilities that a classifier gives.

    Each class is held against all others; one that the split does not have, or has nothing but, cannot be.

    Attributes:
        loss: Mean cross-entropy in nats.
        roc_auc: Mean over the classes that can be told; with two classes, that of either. None where there is none.
        average_precision: Mean over the same classes.
        ece: Expected calibration error of the top label, over 15 equal bins.
        roc_auc_of_class: None for a class that cannot be told.
        average_precision_of_class: None for a class that cannot be told.
    """

    loss: float
    roc_auc: float | None
    average_precision: float | None
    ece: float
    roc_auc_of_class: tuple[float | None, ...]
    average_precision_of_class: tuple[float | None, ...]

    def named(self) -> dict[str, float]:
        """Return the scores over all classes that can be told, as the manifest names them."""
        scores = {
            "loss": self.loss,
            "roc_auc": self.roc_auc,
            "average_precision": self.average_precision,
            "ece": self.ece,
        }
        return {name: score for name, score in scores.items() if score is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorScores:
    """Scores of numbers against the true ones.

    Attributes:
        mse: Mean squared error.
        mae: Mean absolute error.
        r2: Share of the variance that is told; 0 is as good as the mean.
    """

    mse: float
    mae: float
    r2: float

    def named(self) -> dict[str, float]:
        """Return the scores, as the manifest names them."""
        return {"mse": self.mse, "mae": self.mae, "r2": self.r2, "rmse": self.mse**0.5}


def softmax(logits_NC: Array) -> NDArray[np.float64]:
    """Return probabilities, float64 of shape (N, C)."""
    shifted_NC = logits_NC.astype(np.float64)
    shifted_NC -= shifted_NC.max(axis=1, keepdims=True)
    powers_NC: NDArray[np.float64] = np.exp(shifted_NC)
    powers_NC /= powers_NC.sum(axis=1, keepdims=True)
    return powers_NC


def label_scores(predicted_N: NDArray[np.int64], labels_N: NDArray[np.int64], num_classes: int) -> LabelScores:
    """Score predicted classes against the true ones, both int64 of shape (N,).

    Raises:
        ValueError: The rows do not match, there are none, or a class is out of range.
    """
    _check_labels(predicted_N, len(predicted_N), num_classes)
    _check_labels(labels_N, len(predicted_N), num_classes)
    predicted, labels = torch.tensor(predicted_N), torch.tensor(labels_N)
    counts_C5 = multiclass_stat_scores(predicted, labels, num_classes=num_classes, average=None).numpy()
    # torchmetrics would divide in float32
    hits_C, false_hits_C, _, misses_C, support_C = counts_C5.T.astype(np.float64)
    precision_C, recall_C = _ratio(hits_C, hits_C + false_hits_C), _ratio(hits_C, support_C)
    f1_C = _ratio(2 * hits_C, 2 * hits_C + false_hits_C + misses_C)
    confusion_CC = multiclass_confusion_matrix(predicted, labels, num_classes=num_classes).numpy().astype(np.int64)
    return LabelScores(
        accuracy=float(hits_C.sum() / len(labels_N)),
        macro_precision=float(precision_C.mean()),
        macro_recall=float(recall_C.mean()),
        macro_f1=float(f1_C.mean()),
        weighted_precision=float(np.average(precision_C, weights=support_C)),
        weighted_f1=float(np.average(f1_C, weights=support_C)),
        precision=tuple(precision_C.tolist()),
        recall=tuple(recall_C.tolist()),
        f1=tuple(f1_C.tolist()),
        support=tuple(int(count) for count in support_C),
        confusion=confusion_CC,
    )


def probability_scores(logits_NC: Array, labels_N: NDArray[np.int64]) -> ProbabilityScores:
    """Score the probabilities behind logits, any float dtype of shape (N, C), against int64 labels of shape (N,).

    Raises:
        ValueError: The rows do not match, there are none, or a class is out of range.
    """
    _check_labels(labels_N, len(logits_NC), logits_NC.shape[1])
    probabilities, labels = torch.tensor(softmax(logits_NC)), torch.tensor(labels_N)
    areas: list[float | None] = []
    precisions: list[float | None] = []
    for index in range(logits_NC.shape[1]):
        is_class = (labels == index).long()
        can_be_told = 0 < int(is_class.sum()) < len(labels)
        areas.append(float(binary_auroc(probabilities[:, index], is_class)) if can_be_told else None)
        precisions.append(float(binary_average_precision(probabilities[:, index], is_class)) if can_be_told else None)
    return ProbabilityScores(
        loss=cross_entropy(logits_NC, labels_N),
        roc_auc=_mean(areas),
        average_precision=_mean(precisions),
        ece=_calibration_error(probabilities, labels),
        roc_auc_of_class=tuple(areas),
        average_precision_of_class=tuple(precisions),
    )


def expected_calibration_error(probabilities_NC: Array, labels_N: NDArray[np.int64]) -> float:
    """Return the expected calibration error of the top label over 15 equal bins (Naeini et al., AAAI 2015)."""
    _check_labels(labels_N, len(probabilities_NC), probabilities_NC.shape[1])
    return _calibration_error(torch.tensor(probabilities_NC.astype(np.float64)), torch.tensor(labels_N))


def value_scores(values_N: Array, targets_N: Array) -> ErrorScores:
    """Score values against targets, both of any float dtype and shape (N,), in float64.

    Raises:
        ValueError: The rows do not match, or the targets are all the same, so that there is no R2.
    """
    return _error_scores(values_N[:, None], targets_N[:, None])


def reconstruction_scores(reconstructions_NP: Array, originals_NP: Array) -> ErrorScores:
    """Score pictures against those they stand for, on whatever scale both have (0 to 1 by convention).

    The R2 is the share of the variance around the mean picture, pixel by pixel: what a principal component analysis
    calls explained variance.

    Args:
        reconstructions_NP: Any dtype, shape (N, P) or (N, height, width).
        originals_NP: The same shape.

    Raises:
        ValueError: The shapes do not match, or all pictures are the same, so that there is no R2.
    """
    if reconstructions_NP.shape != originals_NP.shape:
        raise ValueError(f"cannot score pictures of shape {reconstructions_NP.shape} against {originals_NP.shape}")
    flat = (len(originals_NP), -1)
    return _error_scores(reconstructions_NP.reshape(flat), originals_NP.reshape(flat))


def _error_scores(values_NP: Array, targets_NP: Array) -> ErrorScores:
    if values_NP.shape != targets_NP.shape or not values_NP.size:
        raise ValueError(f"cannot score values of shape {values_NP.shape} against targets of {targets_NP.shape}")
    values, targets = _wide(values_NP), _wide(targets_NP)
    # torchmetrics takes sums of squares under 1e-4 for nothing; R2 is the same on every scale
    deviations = targets - targets.mean(0)
    spread = float((deviations**2).mean()) ** 0.5
    if not spread > 0:
        raise ValueError(f"there is no R2 of {len(targets)} targets that are all the same")
    # each pixel around its own mean, then all as one: so an error in a pixel that never changes counts too
    r2 = r2_score(((values - targets.mean(0)) / spread).reshape(-1), (deviations / spread).reshape(-1))
    return ErrorScores(
        mse=float(mean_squared_error(values.reshape(-1), targets.reshape(-1))),
        mae=float(mean_absolute_error(values.reshape(-1), targets.reshape(-1))),
        r2=float(r2),
    )


def _calibration_error(probabilities: Tensor, labels: Tensor) -> float:
    num_classes = probabilities.shape[1]
    clipped = probabilities.clamp(0.0, BELOW_ONE)
    return float(multiclass_calibration_error(clipped, labels, num_classes=num_classes, n_bins=NUM_BINS))


def _check_labels(labels_N: Array, num_rows: int, num_classes: int) -> None:
    if len(labels_N) != num_rows or not num_rows:
        raise ValueError(f"cannot score {num_rows} rows against {len(labels_N)} labels")
    low, high = int(labels_N.min()), int(labels_N.max())
    if low < 0 or high >= num_classes:
        raise ValueError(f"labels from {low} to {high} do not fit {num_classes} classes")


def _wide(array: Array) -> Tensor:
    return torch.tensor(array.astype(np.float64))


def _mean(scores: list[float | None]) -> float | None:
    told = [score for score in scores if score is not None]
    return float(np.mean(told)) if told else None


def _ratio(part_C: Array, whole_C: Array) -> Array:
    """Divide, with 0 where there is nothing to divide by."""
    zeros_C: Array = np.zeros(len(whole_C), np.float64)
    return np.divide(part_C, whole_C, out=zeros_C, where=whole_C > 0)
