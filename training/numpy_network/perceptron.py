"""The perceptron rule: one neuron with a step, moved only by its mistakes.

It finds a separating line wherever there is one, and never settles where there is none, as with XOR (Rosenblatt,
Psychological Review 65(6), 1958; Minsky and Papert, Perceptrons, 1969).
"""

import numpy as np

from app.tensors import Array


class Perceptron:
    """One neuron: 1 where ``weight · input + bias`` is 0 or more, else 0.

    Attributes:
        weight: float64, shape (I,).
        bias: The threshold, with its sign turned.
    """

    def __init__(self, num_inputs: int) -> None:
        self.weight: Array = np.zeros(num_inputs)
        self.bias = 0.0

    def predict(self, inputs_BI: Array) -> Array:
        """Return 0 or 1 for each row, int64 of shape (B,)."""
        return (inputs_BI @ self.weight + self.bias >= 0).astype(np.int64)

    def fit(self, inputs_NI: Array, targets_N: Array, *, max_epochs: int = 100, learning_rate: float = 1.0) -> bool:
        """Go through the rows in their order until an epoch passes without a mistake.

        Args:
            inputs_NI: float64, shape (N, I).
            targets_N: 0 or 1, shape (N,).
            max_epochs: Rounds after which it gives up.
            learning_rate: How far a mistake moves the weights.

        Returns:
            Whether every row came out right; where no line separates the classes it never does.
        """
        for _ in range(max_epochs):
            mistakes = 0
            for input_I, target in zip(inputs_NI, targets_N, strict=True):
                error = int(target) - int(self.predict(input_I[None])[0])
                if error:
                    self.weight += learning_rate * error * input_I
                    self.bias += learning_rate * error
                    mistakes += 1
            if not mistakes:
                return True
        return False
