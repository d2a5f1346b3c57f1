"""Optimizers: how the gradients move the weights. Each changes the parameters in place.

Weight decay is decoupled from the gradient (Loshchilov and Hutter, arXiv:1711.05101), and of the weights only: a bias
does not make a network overfit.
"""

from abc import ABC, abstractmethod

import numpy as np

from app.tensors import Array
from training.numpy_network.network import Parameters


class Optimizer(ABC):
    """Moves weights against their gradients.

    Args:
        learning_rate: Length of a step.
        weight_decay: Share of each weight, times the learning rate, that a step takes off.
    """

    def __init__(self, learning_rate: float, *, weight_decay: float = 0.0) -> None:
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.steps = 0

    def step(self, parameters: Parameters, gradients: Parameters) -> None:
        """Take one step; both hold the same names and shapes, call after call."""
        self.steps += 1
        for name, parameter in parameters.items():
            if parameter.ndim > 1:
                parameter *= 1 - self.learning_rate * self.weight_decay
            parameter -= self.learning_rate * self._direction(name, gradients[name])

    @abstractmethod
    def _direction(self, name: str, gradient: Array) -> Array:
        """Return what to go against, of the parameter's shape."""


class SGD(Optimizer):
    """Stochastic gradient descent: straight down the slope of the batch."""

    def _direction(self, name: str, gradient: Array) -> Array:
        return gradient


class Momentum(Optimizer):
    """SGD with a memory: the slopes of the past go on rolling (Polyak, 1964).

    Args:
        learning_rate: Length of a step.
        weight_decay: As of every optimizer.
        momentum: Share of the velocity that is kept from step to step.
    """

    def __init__(self, learning_rate: float, *, weight_decay: float = 0.0, momentum: float = 0.9) -> None:
        super().__init__(learning_rate, weight_decay=weight_decay)
        self._momentum = momentum
        self._velocity: Parameters = {}

    def _direction(self, name: str, gradient: Array) -> Array:
        self._velocity[name] = self._momentum * self._velocity.get(name, np.zeros_like(gradient)) + gradient
        return self._velocity[name]


class Adam(Optimizer):
    """A step of its own for every weight, by running means of its gradient and of its square (arXiv:1412.6980).

    Args:
        learning_rate: About the length of the first steps.
        weight_decay: As of every optimizer; with it, this is AdamW.
        betas: Shares of the two running means that are kept from step to step.
        epsilon: Keeps the division finite.
    """

    def __init__(
        self,
        learning_rate: float,
        *,
        weight_decay: float = 0.0,
        betas: tuple[float, float] = (0.9, 0.999),
        epsilon: float = 1e-8,
    ) -> None:
        super().__init__(learning_rate, weight_decay=weight_decay)
        self._betas, self._epsilon = betas, epsilon
        self._mean: Parameters = {}
        self._square: Parameters = {}

    def _direction(self, name: str, gradient: Array) -> Array:
        first, second = self._betas
        none = np.zeros_like(gradient)
        self._mean[name] = first * self._mean.get(name, none) + (1 - first) * gradient
        self._square[name] = second * self._square.get(name, none) + (1 - second) * gradient**2
        # the running means start at 0: without this, the first steps would be too short
        mean = self._mean[name] / (1 - first**self.steps)
        square = self._square[name] / (1 - second**self.steps)
        direction: Array = mean / (np.sqrt(square) + self._epsilon)
        return direction


OPTIMIZERS: dict[str, type[Optimizer]] = {"sgd": SGD, "momentum": Momentum, "adam": Adam}
