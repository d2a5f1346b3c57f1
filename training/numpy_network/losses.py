"""Losses: one number for how wrong the outputs are, and its gradient by them.

The cross-entropies take logits rather than probabilities: with the sigmoid or softmax inside, neither the logarithm nor
the exponential ever overflows, and the gradient is the plain difference of probability and target.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from app.tensors import Array
from training.numpy_network.activations import sigmoid, softmax


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """A loss and its gradient; both take outputs and targets of shape (B, K).

    Attributes:
        value: The mean; for the cross-entropies in nats.
        gradient: Of that mean by the outputs, shape (B, K).
    """

    value: Callable[[Array, Array], float]
    gradient: Callable[[Array, Array], Array]


def one_hot(labels_B: Array, num_classes: int) -> Array:
    """Return class indices as targets: float64, shape (B, C), a 1 in each row."""
    return np.eye(num_classes)[labels_B]


def _squared_error(outputs_BK: Array, targets_BK: Array) -> float:
    return float(((outputs_BK - targets_BK) ** 2).mean())


def _squared_error_gradient(outputs_BK: Array, targets_BK: Array) -> Array:
    gradient_BK: Array = 2 * (outputs_BK - targets_BK) / outputs_BK.size
    return gradient_BK


def _binary(logits_BK: Array, targets_BK: Array) -> float:
    # log(1 + exp(z)) - t z, written so that the exponential's argument is never above 0
    entropy_BK = np.maximum(logits_BK, 0) - targets_BK * logits_BK + np.log1p(np.exp(-np.abs(logits_BK)))
    return float(entropy_BK.mean())


def _binary_gradient(logits_BK: Array, targets_BK: Array) -> Array:
    gradient_BK: Array = (sigmoid(logits_BK) - targets_BK) / logits_BK.size
    return gradient_BK


def _categorical(logits_BC: Array, targets_BC: Array) -> float:
    shifted_BC = logits_BC - logits_BC.max(axis=1, keepdims=True)
    log_probabilities_BC = shifted_BC - np.log(np.exp(shifted_BC).sum(axis=1, keepdims=True))
    return float(-(targets_BC * log_probabilities_BC).sum(axis=1).mean())


def _categorical_gradient(logits_BC: Array, targets_BC: Array) -> Array:
    gradient_BC: Array = (softmax(logits_BC) - targets_BC) / len(logits_BC)
    return gradient_BC


LOSSES: dict[str, Loss] = {
    "mean_squared_error": Loss(value=_squared_error, gradient=_squared_error_gradient),
    # targets from 0 to 1, each output a question of its own
    "binary_cross_entropy": Loss(value=_binary, gradient=_binary_gradient),
    # rows of targets sum to 1, as those of one_hot do
    "categorical_cross_entropy": Loss(value=_categorical, gradient=_categorical_gradient),
}
