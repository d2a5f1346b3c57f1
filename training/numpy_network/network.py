"""Dense layers in a row: forward, and backward by hand.

Of one layer, with inputs x, sums z = x W^T + b and outputs a = f(z), the chain rule gives from the loss's gradient by
the outputs: by the sums g = f'(z) * dL/da, by the weights g^T x, by the bias the column sums of g, and by the inputs,
which are the outputs of the layer before, g W.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from app.tensors import Array
from training.numpy_network.activations import ACTIVATIONS
from training.numpy_network.initialization import initialization_for

Parameters = dict[str, Array]


class Dense:
    """A layer in which every output sees every input.

    Attributes:
        weight: Shape (O, I).
        bias: Shape (O,).
        activation: A name of ``ACTIVATIONS``.
    """

    def __init__(self, weight: Array, bias: Array, activation: str) -> None:
        self.weight, self.bias = weight, bias
        self.activation = activation
        self._seen: tuple[Array, Array, Array] | None = None

    def forward(self, inputs_BI: Array) -> Array:
        """Return the outputs, shape (B, O), and remember what backward needs."""
        sums_BO = inputs_BI @ self.weight.T + self.bias
        outputs_BO = ACTIVATIONS[self.activation].forward(sums_BO)
        self._seen = inputs_BI, sums_BO, outputs_BO
        return outputs_BO

    def backward(self, gradient_BO: Array) -> tuple[Array, Array, Array]:
        """Return the loss's gradients by the inputs, the weights and the bias, from the one by the outputs.

        They are those of the rows that :meth:`forward` saw last.
        """
        assert self._seen is not None, "backward follows forward"
        inputs_BI, sums_BO, outputs_BO = self._seen
        by_sums_BO = ACTIVATIONS[self.activation].backward(gradient_BO, sums_BO, outputs_BO)
        return by_sums_BO @ self.weight, by_sums_BO.T @ inputs_BI, by_sums_BO.sum(axis=0)


class Network:
    """A multilayer perceptron.

    Args:
        layers: From the inputs to the outputs.
    """

    def __init__(self, layers: Sequence[Dense]) -> None:
        self.layers = tuple(layers)

    @classmethod
    def fresh(
        cls, sizes: Sequence[int], *, activation: str, rng: np.random.Generator, output_activation: str = "identity"
    ) -> "Network":
        """Draw a network with biases of 0.

        Args:
            sizes: Inputs, the units of each hidden layer, outputs.
            activation: Of the hidden layers.
            rng: All weights are drawn from it.
            output_activation: Of the last layer; the identity where the loss takes logits.
        """
        layers = []
        for index, (num_inputs, num_outputs) in enumerate(pairwise(sizes)):
            name = activation if index < len(sizes) - 2 else output_activation
            weight_OI = initialization_for(name)(rng, num_inputs, num_outputs)
            layers.append(Dense(weight_OI, np.zeros(num_outputs), name))
        return cls(layers)

    @property
    def parameters(self) -> Parameters:
        """The weights themselves, by name: what changes in here changes the network."""
        named: Parameters = {}
        for index, layer in enumerate(self.layers):
            named |= {f"layers.{index}.weight": layer.weight, f"layers.{index}.bias": layer.bias}
        return named

    def forward(self, inputs_BI: Array) -> Array:
        """Return the outputs, shape (B, K), for inputs of shape (B, I)."""
        for layer in self.layers:
            inputs_BI = layer.forward(inputs_BI)
        return inputs_BI

    def backward(self, gradient_BK: Array) -> Parameters:
        """Return the loss's gradient by every parameter, by its name, from the one by the outputs.

        It is that of the rows that :meth:`forward` saw last.
        """
        gradients: Parameters = {}
        for index in reversed(range(len(self.layers))):
            gradient_BK, weight, bias = self.layers[index].backward(gradient_BK)
            gradients |= {f"layers.{index}.weight": weight, f"layers.{index}.bias": bias}
        return gradients

    def copy_of_parameters(self) -> Parameters:
        """Return the weights as they are now."""
        return {name: array.copy() for name, array in self.parameters.items()}

    def load(self, parameters: Parameters) -> None:
        """Set the weights to those given, by name."""
        for name, array in self.parameters.items():
            array[...] = parameters[name]
