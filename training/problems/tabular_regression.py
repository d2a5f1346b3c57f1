"""One row of a table in, a number out.

Shape suffixes: N rows of the split.
"""

from typing import Any, ClassVar

from torch import Tensor, nn

from app.bundle.golden import GoldenRows
from app.bundle.manifest import TabularRegression, TaskSettings, TensorSpec
from app.tensors import Array, Tensors
from training.baselines import simple_model_of_table
from training.config import Config
from training.data import Table, TableRows
from training.errors import ConfigError
from training.evaluate import score_values
from training.export import tables
from training.export.verify import VALUE, Run
from training.inference import outputs_of
from training.loop import Validation
from training.problems import Found, Problem
from training.problems._tables import TableInputs, expect_table, feature_spec
from training.report import Evaluation, evaluate_regression


class TabularRegressionProblem(TableInputs, Problem[TableRows]):
    """Rows of features and the number of each; see :class:`training.problems.Problem`."""

    score_name: ClassVar[str] = "r2"
    data: Table

    def __init__(self, data: Table) -> None:
        self.data = data
        self.inputs = (feature_spec(data),)
        self.outputs = (TensorSpec(name=VALUE, dtype="float32", shape=("batch",)),)

    def measured(self) -> dict[str, Any]:
        """Return the number of features; see :class:`training.problems.Problem`."""
        return {**self._size(), "output": "value"}

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean squared error of values, shape (B,)."""
        return ((outputs - targets) ** 2).mean()

    def validate(self, network: nn.Module) -> Validation:
        """Return mean squared error and R2; see :class:`training.problems.Problem`."""
        rows = self.data.validation
        (values_N,) = outputs_of(network, self.examples(rows))
        scores = score_values(values_N, rows.targets)
        return Validation(loss=scores.rmse**2, score=scores.r2)

    def settings(self, run: Run) -> TabularRegression:
        """Return features and target; see :class:`training.problems.Problem`."""
        del run
        assert self.data.target is not None
        return TabularRegression(features=self.data.features, target=self.data.target)

    def golden(self, run: Run, settings: TaskSettings) -> GoldenRows:
        """Return edges and validation rows; see :class:`training.problems.Problem`."""
        del settings
        return tables.make_golden(run, self.data)

    def score(self, outputs: Tensors, rows: TableRows) -> float:
        """Return R2; see :class:`training.problems.Problem`."""
        return score_values(outputs[VALUE], rows.targets).r2

    def targets(self, rows: TableRows) -> Array:
        """Return the numbers; see :class:`training.problems.Problem`."""
        return rows.targets

    def evaluate(self, found: Found) -> Evaluation:
        """Measure and draw; see :class:`training.problems.Problem`."""
        data = self.data
        assert data.target is not None
        return evaluate_regression(
            name=data.target.name,
            unit=data.target.unit,
            validation_values_N=found.validation[VALUE],
            validation_targets_N=data.validation.targets,
            test_values_M=found.test[VALUE],
            test_targets_M=data.test.targets,
            course=found.course,
            train_r2=self.score(found.sample, self.sample()),
            baseline=simple_model_of_table(data.train, data.validation, data.test, num_classes=0),
        )


def create(config: Config, data: Table) -> TabularRegressionProblem:
    """Return the problem; see :func:`training.problems.create`."""
    expect_table(config, data, problem="tabular_regression")
    if data.target is None:
        raise ConfigError(f"{data.name} has classes, and no number to tell; take tabular_classification")
    return TabularRegressionProblem(data)
