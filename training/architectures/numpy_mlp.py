"""A multilayer perceptron for rows of a table, written from scratch in NumPy.

It is trained by :mod:`training.numpy_network`, without torch. This is its twin for the state_dict backend: the same
layers, which load the NumPy weights under their own names.

Shape suffixes: B rows of the batch, F features, D units of a layer, K outputs of the last layer, C classes.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from training.architectures._checks import require_size

_ACTIVATIONS = {
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    # its slope is that of training.numpy_network.activations
    "leaky_relu": nn.LeakyReLU,
}
OUTPUTS = ("classes", "value")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What fixes the network.

    Attributes:
        num_features: Columns of the table.
        hidden: Units of each hidden layer, from the input on; empty is logistic or linear regression.
        activation: Of the hidden layers: sigmoid, tanh, relu or leaky_relu.
        output: ``classes`` for logits, ``value`` for one number in the unit of its target.
        num_classes: Length of the logits; without a meaning where the output is a value.
    """

    num_features: int = 30
    hidden: tuple[int, ...] = (32,)
    activation: str = "tanh"
    output: str = "classes"
    num_classes: int = 2

    def __post_init__(self) -> None:
        for name in ("num_features", "num_classes"):
            require_size(name, getattr(self, name))
        if not isinstance(self.hidden, tuple):
            raise ValueError(f"hidden must be a list of layer sizes, got {self.hidden!r}")
        for index, size in enumerate(self.hidden):
            require_size(f"hidden[{index}]", size)
        if self.activation not in _ACTIVATIONS:
            raise ValueError(f"activation must be one of {', '.join(_ACTIVATIONS)}, got {self.activation!r}")
        if self.output not in OUTPUTS:
            raise ValueError(f"output must be one of {', '.join(OUTPUTS)}, got {self.output!r}")

    @property
    def sizes(self) -> tuple[int, ...]:
        """Numbers between the layers: the features, the units of each hidden layer, the outputs."""
        return (self.num_features, *self.hidden, self.num_classes if self.output == "classes" else 1)


class Network(nn.Module):
    """Raw features to logits, or to a number in its own unit; the scaling is part of it."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.inputs = _Scale(config.num_features)
        self.layers = nn.ModuleList(nn.Linear(*sizes) for sizes in pairwise(config.sizes))
        self.activation = _ACTIVATIONS[config.activation]()
        self.targets = _Scale(1) if config.output == "value" else None

    def forward(self, features_BF: Tensor) -> Tensor:
        """Return what the network makes of rows.

        Args:
            features_BF: float32, shape (B, num_features), in the units of the table.

        Returns:
            Logits, float32, shape (B, num_classes); or values, float32, shape (B,).
        """
        outputs_BK: Tensor = (features_BF - self.inputs.mean) / self.inputs.std
        *hidden, last = self.layers
        for layer in hidden:
            outputs_BK = self.activation(layer(outputs_BK))
        outputs_BK = last(outputs_BK)
        if self.targets is None:
            return outputs_BK
        return (outputs_BK * self.targets.std + self.targets.mean)[:, 0]

    def as_served(self) -> nn.Module | None:
        """Return the module that answers what is served; see :mod:`training.architectures`."""
        return None if self.targets is None else _Value(self)


class _Scale(nn.Module):
    """Where the columns lie and how far they spread; measured, not learned."""

    mean: Tensor
    std: Tensor

    def __init__(self, num_columns: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(num_columns))
        self.register_buffer("std", torch.ones(num_columns))


class _Value(nn.Module):
    """A regression as it is served: its one output."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, features_BF: Tensor) -> tuple[Tensor]:
        """Return the values, float32, shape (B,)."""
        return (self.network(features_BF),)
