"""One row of a table in, one of the data set's classes out."""

from typing import Any

from app.bundle.golden import GoldenRows
from app.bundle.manifest import TabularClassification, TaskSettings
from app.tensors import Array
from training.baselines import Baseline, simple_model_of_table
from training.config import Config
from training.data import Table, TableRows
from training.errors import ConfigError
from training.export import tables
from training.export.verify import Run
from training.problems._classification import Classification
from training.problems._tables import TableInputs, expect_table, feature_spec


class TabularClassificationProblem(TableInputs, Classification[TableRows]):
    """Rows of features and their classes; see :class:`training.problems.Problem`."""

    data: Table

    def __init__(self, config: Config, data: Table) -> None:
        super().__init__(data, label_smoothing=getattr(config, "label_smoothing", 0.0))
        self.inputs = (feature_spec(data),)

    def measured(self) -> dict[str, Any]:
        """Return the number of features and classes; see :class:`training.problems.Problem`."""
        return {**self._size(), "num_classes": len(self.data.classes)}

    def labels(self, rows: TableRows) -> Array:
        """Return the class of each row."""
        return rows.targets

    def baseline(self) -> Baseline:
        """Return logistic regression; see the base class."""
        data = self.data
        return simple_model_of_table(data.train, data.validation, data.test, num_classes=len(data.classes))

    def settings(self, run: Run) -> TabularClassification:
        """Return features and labels; see :class:`training.problems.Problem`."""
        del run
        return TabularClassification(features=self.data.features, labels=self.data.classes)

    def golden(self, run: Run, settings: TaskSettings) -> GoldenRows:
        """Return edges and validation rows; see :class:`training.problems.Problem`."""
        del settings
        return tables.make_golden(run, self.data)


def create(config: Config, data: Table) -> TabularClassificationProblem:
    """Return the problem; see :func:`training.problems.create`."""
    expect_table(config, data, problem="tabular_classification")
    if data.target is not None:
        raise ConfigError(f"{data.name} has a number to tell, and no classes; take tabular_regression")
    return TabularClassificationProblem(config, data)
