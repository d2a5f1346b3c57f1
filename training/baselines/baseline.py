"""What a baseline tells."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.tensors import Array
from training.metrics import label_scores, probability_scores

# Of what is not there at all, the logarithm is still a number.
SMALLEST = float(np.finfo(np.float64).tiny)


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """A simple model on the test rows.

    Attributes:
        name: What it is, as the manifest names it.
        description: What it is, as people say it.
        metrics: What it reaches, by the names of the network's own metrics.
        predictions: Of each test row: its class, int64 of shape (N,); its value, float of shape (N,); or its
            reconstruction, from 0 to 1, float32 of shape (N, height, width).
    """

    name: str
    description: str
    metrics: dict[str, float]
    predictions: Array

    def named(self) -> dict[str, float]:
        """Return the metrics, as the manifest names them beside the network's."""
        return {f"baseline/{self.name}/{metric}": value for metric, value in self.metrics.items()}


def of_probabilities(
    name: str, description: str, probabilities_NC: NDArray[np.float64], labels_N: NDArray[np.int64]
) -> Baseline:
    """Score a classifier that tells probabilities, one column for every class."""
    predicted_N = probabilities_NC.argmax(axis=1)
    logits_NC = np.log(np.maximum(probabilities_NC, SMALLEST))
    labels = label_scores(predicted_N, labels_N, probabilities_NC.shape[1])
    return Baseline(
        name=name,
        description=description,
        metrics=labels.named() | probability_scores(logits_NC, labels_N).named(),
        predictions=predicted_N,
    )


def all_classes(probabilities_NK: Array, classes_K: NDArray[np.int64], num_classes: int) -> NDArray[np.float64]:
    """Return probabilities of all classes, float64 of shape (N, C); 0 for those that the training rows do not have."""
    probabilities_NC = np.zeros((len(probabilities_NK), num_classes))
    probabilities_NC[:, classes_K] = probabilities_NK
    return probabilities_NC
