import shutil
from pathlib import Path

import numpy as np
import pytest
import sklearn
from sklearn.datasets import load_breast_cancer, load_diabetes

from training import data
from training.data import TableRows
from training.data._strata import strata_of, stratified
from training.errors import DataError

INSTALLED = Path(sklearn.__file__).parent / "datasets" / "data"
FILES = {"breast_cancer": ["breast_cancer.csv"], "diabetes": ["diabetes_data_raw.csv.gz", "diabetes_target.csv.gz"]}
NAMES = pytest.mark.parametrize("name", sorted(FILES))


def all_rows(table):
    return table.train.and_rows(table.validation).and_rows(table.test)


def as_set(features, targets):
    return {(*row, target) for row, target in zip(features.tolist(), targets.tolist(), strict=True)}


@pytest.mark.parametrize(
    ("name", "reference"),
    [("breast_cancer", load_breast_cancer), ("diabetes", lambda: load_diabetes(scaled=False))],
)
def test_the_rows_are_those_that_scikit_learn_reads(name, reference):
    table, expected = data.load(name), reference()
    rows = all_rows(table)
    assert len(rows) == len(expected.target)
    assert as_set(rows.features, rows.targets) == as_set(expected.data, expected.target)
    assert [feature.name for feature in table.features] == list(expected.feature_names)


def test_classes_and_targets_are_named():
    cancer, diabetes = data.load("breast_cancer"), data.load("diabetes")
    assert cancer.classes == tuple(load_breast_cancer().target_names)
    assert cancer.target is None
    assert diabetes.classes == ()
    assert diabetes.target.name == "disease progression"
    assert diabetes.train.targets.dtype == np.float64


@NAMES
def test_no_row_is_on_two_sides_and_every_side_has_its_share(name):
    table = data.load(name)
    sides = [table.train, table.validation, table.test]
    sets = [as_set(side.features, side.targets) for side in sides]
    assert not sets[0] & sets[1] | sets[0] & sets[2] | sets[1] & sets[2]
    means = [side.targets.mean() for side in sides]
    assert max(means) - min(means) < 0.03 * all_rows(table).targets.std()
    again = data.load(name)
    np.testing.assert_array_equal(again.test.features, table.test.features)


@NAMES
def test_every_row_and_example_lies_within_the_bounds(name):
    table = data.load(name)
    rows = all_rows(table).features
    for feature, column in zip(table.features, rows.T, strict=True):
        assert feature.low <= column.min() <= feature.typical <= column.max() <= feature.high


@NAMES
def test_a_missing_or_damaged_file_is_named_with_its_digest(name, tmp_path):
    with pytest.raises(DataError, match="is missing; it comes with scikit-learn"):
        data.load(name, tmp_path)
    for file in FILES[name]:
        shutil.copy(INSTALLED / file, tmp_path / file)
    assert len(data.load(name, tmp_path).test)
    (tmp_path / FILES[name][-1]).write_bytes(b"1.0\n")
    with pytest.raises(DataError, match=f"{FILES[name][-1]} is damaged or another file: its 4 uncompressed bytes"):
        data.load(name, tmp_path)


def test_without_scikit_learn_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setattr("training.data._scikit_learn.find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"pip install 'zero-to-one\[train\]'"):
        data.load("diabetes")


def test_strata_are_classes_or_fifths():
    classes = np.array([0, 1, 1])
    assert strata_of(TableRows(features=np.zeros((3, 1)), targets=classes)).tolist() == [0, 1, 1]
    numbers = np.arange(100.0)
    groups = strata_of(TableRows(features=np.zeros((100, 1)), targets=numbers))
    assert np.bincount(groups).tolist() == [20] * 5
    assert (np.diff(groups) >= 0).all()


@pytest.mark.parametrize("num_taken", [1, 3, 10, 50, 99])
def test_every_stratum_gives_its_share_to_within_a_row(num_taken):
    strata = np.repeat([0, 1, 2], [70, 20, 10])
    left, taken = stratified(strata, num_taken)
    assert sorted([*left, *taken]) == list(range(100))
    shares = np.bincount(strata[taken], minlength=3)
    assert np.abs(shares - np.array([0.7, 0.2, 0.1]) * num_taken).max() <= 1
    assert stratified(strata, num_taken, seed=1)[1].tolist() != taken.tolist()


@pytest.mark.parametrize("num_taken", [0, 4, -1])
def test_a_split_with_an_empty_side_is_refused(num_taken):
    with pytest.raises(ValueError, match="cannot take"):
        stratified(np.zeros(4, np.int64), num_taken)


def test_features_and_targets_must_be_as_many():
    with pytest.raises(ValueError, match="3 rows of features and 2 targets"):
        TableRows(features=np.zeros((3, 2)), targets=np.zeros(2))
