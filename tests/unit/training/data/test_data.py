import numpy as np
import pytest

from training import data
from training.data import Rows, split


def numbered(num):
    """Rows whose label is their own position."""
    return Rows(images=np.zeros((num, 2, 2), np.uint8), labels=np.arange(num))


def test_a_split_loses_nothing_and_shares_nothing():
    train, validation = split(numbered(100), 30)
    assert (len(train), len(validation)) == (70, 30)
    assert set(train.labels) | set(validation.labels) == set(range(100))
    assert not set(train.labels) & set(validation.labels)


def test_a_split_is_decided_by_its_seed():
    rows = numbered(100)
    again = [split(rows, 30, seed=seed)[1].labels.tolist() for seed in (1, 1, 2)]
    assert again[0] == again[1]
    assert again[0] != again[2]


def test_a_split_is_shuffled_so_that_sorted_data_reach_both_sides():
    _, validation = split(numbered(1000), 100)
    assert validation.labels.min() < 100
    assert validation.labels.max() >= 900


@pytest.mark.parametrize("num", [0, -1, 10, 11])
def test_a_split_with_an_empty_side_is_refused(num):
    with pytest.raises(ValueError, match="validation rows"):
        split(numbered(10), num)


def test_images_and_labels_must_be_as_many():
    with pytest.raises(ValueError, match="3 images and 2 labels"):
        Rows(images=np.zeros((3, 2, 2), np.uint8), labels=np.zeros(2, np.int64))


def test_data_sets_are_found_by_file_name():
    assert data.names() == ["breast_cancer", "diabetes", "fashion_mnist"]
    with pytest.raises(ValueError, match="no data set 'mnist', there are: breast_cancer, diabetes, fashion_mnist"):
        data.load("mnist")
