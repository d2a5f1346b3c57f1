"""The proof that backward is right: every derivative once more, by wiggling its parameter.

The five-point central difference is off by the order of h^4, the plain one by h^2: so h may be large enough for the
rounding of float64 not to drown the smaller derivatives.
"""

import numpy as np

from app.tensors import Array
from training.numpy_network.losses import Loss
from training.numpy_network.network import Network, Parameters

STEP = 1e-3
# a loss of about 1 is rounded by 1e-16, and a difference of two is divided by the step
ROUNDING = 1e-12


def numeric_gradients(
    network: Network, loss: Loss, inputs_BI: Array, targets_BK: Array, *, step: float = STEP
) -> Parameters:
    """Return the loss's derivative by every number of every parameter, from central differences.

    Args:
        network: Of float64; as it was, afterwards.
        loss: What is differentiated.
        inputs_BI: float64, shape (B, I).
        targets_BK: float64, shape (B, K).
        step: How far a parameter is moved, h.
    """

    def loss_at(parameter: Array, position: tuple[int, ...], value: float) -> float:
        parameter[position] = value
        return loss.value(network.forward(inputs_BI), targets_BK)

    gradients: Parameters = {}
    for name, parameter in network.parameters.items():
        gradient = np.zeros_like(parameter)
        for position in np.ndindex(parameter.shape):
            kept = float(parameter[position])
            two_below, below, above, two_above = (
                loss_at(parameter, position, kept + factor * step) for factor in (-2, -1, 1, 2)
            )
            parameter[position] = kept
            gradient[position] = (two_below - 8 * below + 8 * above - two_above) / (12 * step)
        gradients[name] = gradient
    return gradients


def relative_errors(actual: Array, expected: Array) -> Array:
    """Return ``|a - b| / max(|a|, |b|)`` for every number; 0 where they differ by no more than rounding can do."""
    difference, scale = np.abs(actual - expected), np.maximum(np.abs(actual), np.abs(expected))
    errors: Array = np.divide(difference, scale, out=np.zeros_like(difference), where=difference > ROUNDING)
    return errors
