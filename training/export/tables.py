"""The parts of a tabular model's bundle that follow from its data: inputs, golden rows, statistics.

Shape suffixes: B golden rows, N rows of a split, F features.
"""

from typing import Any

import numpy as np

from app.bundle.golden import GoldenRows
from app.bundle.manifest import InputStatistics
from app.tensors import Array, Tensors
from training.data import Table
from training.export.golden import response
from training.export.manifest import NUM_BINS
from training.export.verify import PROBABILITIES, VALUE, Run

INPUT = "features"
NUM_REAL_ROWS = 20


def as_inputs(features_NF: Array) -> Tensors:
    """Return rows of features as they are fed to the model."""
    return {INPUT: features_NF.astype(np.float32)}


def edge_rows(data: Table) -> Array:
    """Return rows at the edges of what can be asked: float64, shape (6, F), inside the bounds of the features.

    They are all zeros, the least, the greatest, the mean and the median of each training column, and ten times the
    greatest.
    """
    rows_NF = data.train.features
    greatest_F = rows_NF.max(axis=0)
    zeros_F = np.zeros(len(data.features))
    edges_BF = np.stack(
        [zeros_F, rows_NF.min(axis=0), greatest_F, rows_NF.mean(axis=0), np.median(rows_NF, axis=0), 10 * greatest_F]
    )
    return edges_BF.clip([feature.low for feature in data.features], [feature.high for feature in data.features])


def make_golden(run: Run, data: Table) -> GoldenRows:
    """Build golden rows of the edges and of the first validation rows; none is of the test set.

    Args:
        run: The trainer's own network as it is served.
        data: Names the features and the classes.
    """
    features_BF = np.concatenate([edge_rows(data), data.validation.features[:NUM_REAL_ROWS]])
    outputs = run(as_inputs(features_BF))
    names = [feature.name for feature in data.features]
    responses: list[dict[str, Any]] = (
        [response(probabilities_C, data.classes) for probabilities_C in outputs[PROBABILITIES]]
        if data.target is None
        else [{"value": float(value)} for value in outputs[VALUE]]
    )
    return GoldenRows(
        requests=[{"features": dict(zip(names, row_F.tolist(), strict=True))} for row_F in features_BF],
        inputs=as_inputs(features_BF),
        outputs=outputs,
        responses=responses,
    )


def feature_statistics(data: Table) -> dict[str, InputStatistics]:
    """Return moments and histogram of every column of the training rows."""
    columns = data.train.features.T
    return {
        f"{INPUT}/{f.name}": column_statistics(column_N) for f, column_N in zip(data.features, columns, strict=True)
    }


def column_statistics(column_N: Array) -> InputStatistics:
    """Return moments and histogram of numbers, float64 of shape (N,)."""
    counts, _ = np.histogram(column_N, bins=NUM_BINS)
    return InputStatistics(
        minimum=float(column_N.min()),
        maximum=float(column_N.max()),
        mean=float(f"{column_N.mean():.6g}"),
        std=float(f"{column_N.std():.6g}"),
        histogram=tuple(round(float(share), 6) for share in counts / len(column_N)),
    )
