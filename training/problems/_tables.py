"""What problems of tables share: one row of named numbers in."""

from typing import Any

from app.bundle.manifest import InputStatistics, TensorSpec
from app.tensors import Tensors
from training.config import Config
from training.data import DataSet, Table, TableRows
from training.examples import TableExamples
from training.export import tables
from training.problems._options import expect_options, expect_rows


def feature_spec(data: Table) -> TensorSpec:
    """Return the tensor that goes in."""
    return TensorSpec(name=tables.INPUT, dtype="float32", shape=("batch", len(data.features)))


def expect_table(config: Config, data: DataSet[Any], *, problem: str) -> None:
    """Refuse what is no table, and every option: a table is taken as it is.

    Raises:
        ConfigError: It is none, or there is an option.
    """
    expect_rows(data, TableRows, problem=problem)
    expect_options(getattr(config, "data_options", {}), {})


class TableInputs:
    """The half of a problem that turns rows of a table into tensors; see :class:`training.problems.Problem`."""

    data: Table

    def examples(self, rows: TableRows, *, augmented: bool = False) -> TableExamples:
        """Return features and targets."""
        del augmented
        return TableExamples(rows.features, rows.targets)

    def tensors(self, rows: TableRows) -> Tensors:
        """Return the features."""
        return tables.as_inputs(rows.features)

    def statistics(self) -> dict[str, InputStatistics]:
        """Return those of every column."""
        return tables.feature_statistics(self.data)

    def _size(self) -> dict[str, Any]:
        return {"num_features": len(self.data.features)}
