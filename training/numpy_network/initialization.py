"""Fresh weights, scaled so that signals neither fade nor grow from layer to layer.

Xavier keeps the variance through symmetric activations (Glorot and Bengio, AISTATS 2010); He doubles it for ReLU and
its kind, which silence half of their inputs (He et al., arXiv:1502.01852).
"""

from collections.abc import Callable

import numpy as np

from app.tensors import Array

# what a layer is drawn with, by the activation behind it; those not named get Xavier's
_HE = ("relu", "leaky_relu")


def xavier(rng: np.random.Generator, num_inputs: int, num_outputs: int) -> Array:
    """Draw weights, float64 of shape (O, I), uniformly with a variance of ``2 / (I + O)``."""
    limit = (6 / (num_inputs + num_outputs)) ** 0.5
    return rng.uniform(-limit, limit, (num_outputs, num_inputs))


def he(rng: np.random.Generator, num_inputs: int, num_outputs: int) -> Array:
    """Draw weights, float64 of shape (O, I), normally with a variance of ``2 / I``."""
    return rng.normal(0, (2 / num_inputs) ** 0.5, (num_outputs, num_inputs))


def initialization_for(activation: str) -> Callable[[np.random.Generator, int, int], Array]:
    """Return what suits the activation behind a layer."""
    return he if activation in _HE else xavier
