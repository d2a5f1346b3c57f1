"""The network between the scales of its data: raw features in, probabilities or a number in its own unit out."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from app.tensors import Array, Tensors
from training.numpy_network.activations import softmax
from training.numpy_network.network import Dense, Network, Parameters


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Where numbers lie and how far they spread, each column by itself.

    Attributes:
        mean: Shape (F,).
        std: Shape (F,), above 0.
    """

    mean: Array
    std: Array

    @classmethod
    def of(cls, rows_NF: Array) -> "Scale":
        """Measure the training rows; a column that never changes keeps its unit."""
        std_F = rows_NF.std(axis=0)
        return cls(mean=rows_NF.mean(axis=0), std=np.where(std_F > 0, std_F, 1.0))

    def standardize(self, rows_BF: Array) -> Array:
        """Return rows of mean 0 and spread 1."""
        standard_BF: Array = (rows_BF - self.mean) / self.std
        return standard_BF

    def restore(self, rows_BF: Array) -> Array:
        """Undo :meth:`standardize`."""
        raw_BF: Array = rows_BF * self.std + self.mean
        return raw_BF


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A trained network as it is served.

    Attributes:
        inputs: The scale of the features.
        network: From standardized features to logits, or to a standardized number.
        targets: The scale of the number; None for a classifier.
    """

    inputs: Scale
    network: Network
    targets: Scale | None = None

    def run(self, features_BF: Array) -> Tensors:
        """Return what is served, in the dtype of the weights: of raw features, shape (B, F).

        Returns:
            ``logits`` and ``probabilities``, both of shape (B, C); or ``value``, shape (B,).
        """
        outputs_BK = self.network.forward(self.inputs.standardize(features_BF))
        if self.targets is not None:
            return {"value": self.targets.restore(outputs_BK)[:, 0]}
        return {"logits": outputs_BK, "probabilities": softmax(outputs_BK)}

    def state(self) -> Parameters:
        """Return every number that the model needs, by name, in float32."""
        arrays = {"inputs.mean": self.inputs.mean, "inputs.std": self.inputs.std, **self.network.parameters}
        if self.targets is not None:
            arrays |= {"targets.mean": self.targets.mean, "targets.std": self.targets.std}
        return {name: np.ascontiguousarray(array, np.float32) for name, array in arrays.items()}

    @classmethod
    def from_state(cls, state: Mapping[str, Array], *, activation: str) -> "Model":
        """Rebuild a model from what :meth:`state` returned; it computes in the dtype of the arrays.

        Args:
            state: By name.
            activation: Of the hidden layers.
        """
        num_layers = sum(name.startswith("layers.") for name in state) // 2
        layers = [
            Dense(
                state[f"layers.{index}.weight"],
                state[f"layers.{index}.bias"],
                activation if index < num_layers - 1 else "identity",
            )
            for index in range(num_layers)
        ]
        return cls(
            inputs=Scale(mean=state["inputs.mean"], std=state["inputs.std"]),
            network=Network(layers),
            targets=Scale(mean=state["targets.mean"], std=state["targets.std"]) if "targets.mean" in state else None,
        )
