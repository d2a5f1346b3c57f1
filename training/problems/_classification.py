"""What all classifiers share: cross-entropy, labels, and how they are judged.

Shape suffixes: N rows of the split, B rows of the batch, C classes.
"""

from abc import abstractmethod
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from app.bundle.golden import GoldenRows
from app.bundle.manifest import TensorSpec
from app.tensors import Array, Tensors
from training.baselines import Baseline
from training.calibration import fit_temperature
from training.data import DataSet
from training.evaluate import score
from training.export.golden import response
from training.export.verify import PROBABILITIES, Run
from training.inference import outputs_of
from training.loop import Validation
from training.problems import Found, Problem, RowsT
from training.report import Evaluation, evaluate_classifier

LabeledT = TypeVar("LabeledT", bound=DataSet[Any])


def class_outputs(num_classes: int) -> tuple[TensorSpec, ...]:
    """Return the tensors that come out of every classifier."""
    shape = ("batch", num_classes)
    return tuple(TensorSpec(name=name, dtype="float32", shape=shape) for name in ("logits", PROBABILITIES))


class Classification(Problem[RowsT]):
    """Logits in, the one true class to be told.

    Args:
        data: Its classes are the labels.
        label_smoothing: Share of the target spread over all classes while training.
    """

    score_name: ClassVar[str] = "accuracy"

    def __init__(self, data: DataSet[RowsT], *, label_smoothing: float) -> None:
        self.data = data
        self.outputs = class_outputs(len(data.classes))
        self._label_smoothing = label_smoothing
        self._validation = self.examples(data.validation)

    @abstractmethod
    def labels(self, rows: RowsT) -> Array:
        """Return the class of each row, int64 of shape (N,)."""

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross-entropy of logits, shape (B, C), against classes, shape (B,)."""
        return functional.cross_entropy(outputs, targets, label_smoothing=self._label_smoothing)

    def validate(self, network: nn.Module) -> Validation:
        """Return cross-entropy and accuracy; see :class:`training.problems.Problem`."""
        (logits_NC,) = outputs_of(network, self._validation)
        scores = score(logits_NC, self.labels(self.data.validation))
        return Validation(loss=scores.loss, score=scores.accuracy)

    def score(self, outputs: Tensors, rows: RowsT) -> float:
        """Return the accuracy; see :class:`training.problems.Problem`."""
        return score(outputs["logits"], self.labels(rows)).accuracy

    def reports(self, outputs: Tensors, rows: RowsT) -> dict[str, object]:
        """Return the confusion matrix; see :class:`training.problems.Problem`."""
        confusion_CC = score(outputs["logits"], self.labels(rows)).confusion
        told = {"labels": self.data.classes, "rows_are_true_columns_are_predicted": confusion_CC.tolist()}
        return {"confusion_matrix": told}

    def temperature(self, network: nn.Module) -> float | None:
        """Return the temperature that suits the validation split; see :class:`training.problems.Problem`."""
        (logits_NC,) = outputs_of(network, self._validation)
        return float(f"{fit_temperature(logits_NC, self.labels(self.data.validation)):.6g}")

    def targets(self, rows: RowsT) -> Array:
        """Return the classes; see :class:`training.problems.Problem`."""
        return self.labels(rows)

    def evaluate(self, found: Found) -> Evaluation:
        """Measure and draw; see :class:`training.problems.Problem`."""
        test = self.data.test
        return evaluate_classifier(
            labels=self.data.classes,
            # the plain network's, before the temperature
            validation_logits_NC=found.validation["logits"] * found.temperature,
            validation_labels_N=self.labels(self.data.validation),
            test_logits_MC=found.test["logits"] * found.temperature,
            test_labels_M=self.labels(test),
            course=found.course,
            temperature=found.temperature,
            train_accuracy=self.score(found.sample, self.sample()),
            baseline=self.baseline(),
            images_MHW=self.images(test),
            lengths_M=self.lengths(test),
        )

    @abstractmethod
    def baseline(self) -> Baseline:
        """Return a simple model on the test split, fitted to the other two."""

    def images(self, rows: RowsT) -> Array | None:
        """Return the pictures that anyone may see, uint8 of shape (N, H, W); None where rows are none."""
        del rows
        return None

    def lengths(self, rows: RowsT) -> Array | None:
        """Return the length of each row, int64 of shape (N,); None where rows have none."""
        del rows
        return None

    def answer(self, requests: list[Any], inputs: Tensors, run: Run) -> GoldenRows:
        """Return golden rows of requests and the inputs that they become."""
        outputs = run(inputs)
        responses = [response(probabilities_C, self.data.classes) for probabilities_C in outputs[PROBABILITIES]]
        return GoldenRows(requests=requests, inputs=inputs, outputs=outputs, responses=responses)


def column_moments(columns_NC: Array) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of each column, rounded, so that they read well in a config."""
    wide_NC = torch.tensor(columns_NC, dtype=torch.float64)
    means, stds = wide_NC.mean(dim=0).tolist(), wide_NC.std(dim=0, correction=0).tolist()
    return tuple(float(f"{mean:.6g}") for mean in means), tuple(max(float(f"{std:.6g}"), 1e-6) for std in stds)
