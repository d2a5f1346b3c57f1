"""Temperature scaling: logits divided by one number, so that a classifier is as sure as it is right.

After Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks" (arXiv:1706.04599). No label changes,
only how sure the network claims to be.

Shape suffixes: N rows of the split, C classes.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from app.tensors import Array
from training.evaluate import cross_entropy
from training.metrics import NUM_BINS, expected_calibration_error, softmax

LOWEST, HIGHEST = 0.05, 20.0

# Twice the gain in log-likelihood that one free number reaches by luck in one of twenty cases (Wilks; chi-squared).
NOTABLE_DEVIANCE = 3.841


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """The rows whose top probability lies in one interval.

    Attributes:
        low: Of the interval.
        high: Of the interval.
        count: Rows in it.
        confidence: Their mean top probability.
        accuracy: Share of them that is right.
    """

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Reliability:
    """What a reliability diagram shows.

    Attributes:
        bins: Those that hold rows, rising.
        ece: Expected calibration error: the mean distance of confidence and accuracy, each bin by its rows.
    """

    bins: tuple[Bin, ...]
    ece: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationCheck:
    """What a temperature does on one split.

    Attributes:
        temperature: The logits are divided by it.
        loss_before: Mean cross-entropy in nats.
        loss_after: With the temperature.
        before: Reliability of the plain network.
        after: With the temperature.
    """

    temperature: float
    loss_before: float
    loss_after: float
    before: Reliability
    after: Reliability


def fit_temperature(logits_NC: Array, labels_N: NDArray[np.int64]) -> float:
    """Return the temperature that makes the labels likeliest, or 1.0 where that gains no more than luck would.

    The likelihood has one peak, as the loss is convex in the inverse of the temperature; it is looked for between 0.05
    and 20. Where every row is right, ever lower temperatures only claim more and more: that too gives 1.0.

    Args:
        logits_NC: Of the validation split, any float dtype.
        labels_N: Its classes.

    Raises:
        ValueError: There are no rows, they do not match, or a logit is not finite.
    """
    if len(logits_NC) != len(labels_N) or not len(labels_N):
        raise ValueError(f"cannot fit a temperature to {len(logits_NC)} rows of logits and {len(labels_N)} labels")
    wide_NC = logits_NC.astype(np.float64)
    if not np.isfinite(wide_NC).all():
        raise ValueError("cannot fit a temperature to logits that are not finite")
    if (wide_NC.argmax(axis=1) == labels_N).all():
        return 1.0
    found = minimize_scalar(
        lambda log_temperature: cross_entropy(wide_NC / math.exp(log_temperature), labels_N),
        bounds=(math.log(LOWEST), math.log(HIGHEST)),
        method="bounded",
        options={"xatol": 1e-6},
    )
    gain = cross_entropy(wide_NC, labels_N) - float(found.fun)
    return math.exp(float(found.x)) if 2 * len(labels_N) * gain > NOTABLE_DEVIANCE else 1.0


def check(logits_NC: Array, labels_N: NDArray[np.int64], temperature: float) -> CalibrationCheck:
    """Return what a temperature does to plain logits, on rows that it was not fitted to."""
    scaled_NC = logits_NC.astype(np.float64) / temperature
    return CalibrationCheck(
        temperature=temperature,
        loss_before=cross_entropy(logits_NC, labels_N),
        loss_after=cross_entropy(scaled_NC, labels_N),
        before=reliability(softmax(logits_NC), labels_N),
        after=reliability(softmax(scaled_NC), labels_N),
    )


def reliability(probabilities_NC: Array, labels_N: NDArray[np.int64], *, num_bins: int = NUM_BINS) -> Reliability:
    """Sort rows into equal bins by their top probability, and hold it against the share that is right.

    Args:
        probabilities_NC: Any float dtype.
        labels_N: The true classes.
        num_bins: Between 0 and 1; the expected calibration error is always over 15.
    """
    confidence_N = probabilities_NC.max(axis=1)
    is_right_N = probabilities_NC.argmax(axis=1) == labels_N
    edges = np.linspace(0, 1, num_bins + 1)
    bin_N = np.clip(np.digitize(confidence_N, edges) - 1, 0, num_bins - 1)
    bins = tuple(
        Bin(
            low=float(edges[index]),
            high=float(edges[index + 1]),
            count=int((bin_N == index).sum()),
            confidence=float(confidence_N[bin_N == index].mean()),
            accuracy=float(is_right_N[bin_N == index].mean()),
        )
        for index in np.unique(bin_N)
    )
    return Reliability(bins=bins, ece=expected_calibration_error(probabilities_NC, labels_N))
