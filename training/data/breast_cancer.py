"""Breast cancer Wisconsin (diagnostic): 569 tumors, 30 measures of the cell nuclei, malignant or benign.

From the UCI repository (Wolberg, Mangasarian, Street and Street, 1995), under CC BY 4.0; scikit-learn carries a copy.
Each measure is there as its mean over the nuclei of a picture, the standard error of that mean, and its worst: the mean
of the three largest. The source states no units.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from app.bundle.manifest import Feature
from training.data import Table, TableRows
from training.data._scikit_learn import HOW, locate_files, read_files, table_of
from training.data._source import Source
from training.errors import DataError

NUM_TEST, NUM_VALIDATION = 114, 91

FILE = "breast_cancer.csv"
DIGESTS = {FILE: "fed3eb72d0575ef6192293f5093c6e801b1476b577d0386bf4455504522172ed"}

_MEASURES = {
    "radius": "mean distance from the center to points on the perimeter",
    "texture": "standard deviation of the grey values",
    "perimeter": "length of the outline",
    "area": "area inside the outline",
    "smoothness": "local variation in the lengths of radii",
    "compactness": "perimeter^2 / area - 1",
    "concavity": "severity of the concave portions of the outline",
    "concave points": "number of concave portions of the outline",
    "symmetry": "difference of lengths on both sides of the longest axis",
    "fractal dimension": "coastline approximation - 1",
}
_STATISTICS = {
    "mean {}": "mean over the nuclei",
    "{} error": "standard error of the mean over the nuclei",
    "worst {}": "mean of the three largest nuclei",
}
# in the order of the file; none of the measures can be negative
FEATURES = tuple(
    Feature(name=form.format(measure), minimum=0, description=f"{meaning}, {statistic}")
    for form, statistic in _STATISTICS.items()
    for measure, meaning in _MEASURES.items()
)


SOURCE = Source(
    title="Breast cancer Wisconsin (diagnostic)",
    license="CC-BY-4.0",
    splits=(569 - NUM_TEST - NUM_VALIDATION, NUM_VALIDATION, NUM_TEST),
    how=HOW,
)


def locate(data_dir: Path | None = None) -> Path:
    """Return the folder of the table.

    Raises:
        DataMissing: It is not there.
    """
    return locate_files(SOURCE, DIGESTS, data_dir)


def load(data_dir: Path | None = None, *, digests: Mapping[str, str] = DIGESTS) -> Table:
    """Read, check and split the data set.

    Args:
        data_dir: Folder with the CSV file; without it that of the installed scikit-learn.
        digests: SHA-256 that the file must have.

    Raises:
        DataError: The file is missing, damaged or not the one expected.
    """
    lines = read_files(SOURCE, digests, data_dir)[FILE].decode().splitlines()
    num_rows, num_features, *classes = lines[0].split(",")
    values = np.array([line.split(",") for line in lines[1:]], np.float64)
    if values.shape != (int(num_rows), int(num_features) + 1) or int(num_features) != len(FEATURES):
        raise DataError(f"{FILE} holds a table of shape {values.shape}, its first line says {lines[0]!r}")
    rows = TableRows(features=values[:, :-1], targets=values[:, -1].astype(np.int64))
    return table_of(SOURCE, rows, FEATURES, digests=digests, classes=tuple(classes))
