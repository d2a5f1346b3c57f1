"""Activations: what a layer does to its sums, and how a gradient passes back through it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from app.tensors import Array

LEAK = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Activation:
    """A function and its derivative.

    Attributes:
        forward: From the sums, shape (B, O), to the outputs of the layer, of the same shape.
        backward: From the loss's gradient by the outputs, the sums and the outputs, all of shape (B, O), to the loss's
            gradient by the sums.
    """

    forward: Callable[[Array], Array]
    backward: Callable[[Array, Array, Array], Array]


def sigmoid(sums_BO: Array) -> Array:
    """Return ``1 / (1 + exp(-z))``, without overflow at either end."""
    exponentials_BO = np.exp(-np.abs(sums_BO))
    outputs_BO: Array = np.where(sums_BO >= 0, 1, exponentials_BO) / (1 + exponentials_BO)
    return outputs_BO


def softmax(sums_BO: Array) -> Array:
    """Return the exponentials of each row, scaled to a sum of 1; the largest is taken off first, so none overflows."""
    exponentials_BO = np.exp(sums_BO - sums_BO.max(axis=1, keepdims=True))
    probabilities_BO: Array = exponentials_BO / exponentials_BO.sum(axis=1, keepdims=True)
    return probabilities_BO


def _leaky_relu(sums_BO: Array) -> Array:
    return np.where(sums_BO > 0, sums_BO, sums_BO * LEAK)


def _softmax_backward(gradient_BO: Array, _: Array, outputs_BO: Array) -> Array:
    """Multiply by the Jacobian, ``diag(a) - a a^T`` for each row, without writing it out."""
    along_B1 = (gradient_BO * outputs_BO).sum(axis=1, keepdims=True)
    backward_BO: Array = outputs_BO * (gradient_BO - along_B1)
    return backward_BO


ACTIVATIONS: dict[str, Activation] = {
    "identity": Activation(forward=lambda z: z, backward=lambda g, z, a: g),
    # flat on both sides of its jump: nothing before a step learns by gradients, which is why there are the others
    "step": Activation(forward=lambda z: (z >= 0).astype(z.dtype), backward=lambda g, z, a: np.zeros_like(g)),
    "sigmoid": Activation(forward=sigmoid, backward=lambda g, z, a: g * a * (1 - a)),
    "tanh": Activation(forward=np.tanh, backward=lambda g, z, a: g * (1 - a * a)),
    "relu": Activation(forward=lambda z: np.maximum(z, 0), backward=lambda g, z, a: g * (z > 0)),
    "leaky_relu": Activation(forward=_leaky_relu, backward=lambda g, z, a: g * np.where(z > 0, 1, LEAK)),
    "softmax": Activation(forward=softmax, backward=_softmax_backward),
}
