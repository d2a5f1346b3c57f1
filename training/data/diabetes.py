"""Diabetes: 442 patients, ten measures, and how far the disease had gone a year later.

From Efron, Hastie, Johnstone and Tibshirani, Least Angle Regression, Annals of Statistics 32(2), 2004. The authors
state no license; scikit-learn carries the table, in its own units, under its BSD license. The source gives a unit for
the age only, and says neither which of the sexes is 1 nor on what scale the progression is measured.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from app.bundle.manifest import Feature, Target
from app.tensors import Array
from training.data import Table, TableRows
from training.data._scikit_learn import HOW, locate_files, read_files, table_of
from training.data._source import Source
from training.errors import DataError

NUM_TEST, NUM_VALIDATION = 89, 71

FEATURES_FILE, TARGETS_FILE = "diabetes_data_raw.csv.gz", "diabetes_target.csv.gz"
DIGESTS = {
    FEATURES_FILE: "86badf50b4f9436ddd1e497dc0ae1b93166f8120221ee7dca4634fe849f3be7c",
    TARGETS_FILE: "244713a551f62a291a354212d8a048adec6cb1244b2bc44e66a0698f5006d26d",
}

# in the order of the file
FEATURES = (
    Feature(name="age", minimum=0, unit="years"),
    Feature(name="sex", minimum=1, maximum=2, description="coded 1 or 2"),
    Feature(name="bmi", minimum=0, unit="kg/m^2", description="body mass index"),
    Feature(name="bp", minimum=0, description="average blood pressure"),
    Feature(name="s1", minimum=0, description="total serum cholesterol"),
    Feature(name="s2", minimum=0, description="low-density lipoproteins"),
    Feature(name="s3", minimum=0, description="high-density lipoproteins"),
    Feature(name="s4", minimum=0, description="total cholesterol / high-density lipoproteins"),
    Feature(name="s5", minimum=0, description="possibly the logarithm of the serum triglycerides level"),
    Feature(name="s6", minimum=0, description="blood sugar level"),
)
TARGET = Target(name="disease progression", description="a quantitative measure one year after baseline")


SOURCE = Source(
    title="Diabetes",
    license="BSD-3-Clause",
    splits=(442 - NUM_TEST - NUM_VALIDATION, NUM_VALIDATION, NUM_TEST),
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
        data_dir: Folder with the two files, plain or gzip; without it that of the installed scikit-learn.
        digests: SHA-256 that the uncompressed files must have.

    Raises:
        DataError: A file is missing, damaged or not the one expected.
    """
    content = read_files(SOURCE, digests, data_dir)
    features = _table(content[FEATURES_FILE])
    targets = _table(content[TARGETS_FILE])
    if features.shape != (len(targets), len(FEATURES)) or targets.shape[1] != 1:
        raise DataError(f"the files hold tables of shapes {features.shape} and {targets.shape}")
    rows = TableRows(features=features, targets=targets[:, 0])
    return table_of(SOURCE, rows, FEATURES, digests=digests, target=TARGET)


def _table(content: bytes) -> Array:
    return np.array([line.split() for line in content.decode().splitlines()], np.float64)
