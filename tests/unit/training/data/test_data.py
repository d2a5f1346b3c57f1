import numpy as np
import pytest

from training import data
from training.data import Rows, SequenceRows, TextRows, split
from training.errors import DataMissing


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
    assert data.names() == ["breast_cancer", "diabetes", "fashion_mnist", "japanese_vowels", "spam_assassin"]
    for read in (data.load, data.source, data.locate):
        with pytest.raises(ValueError, match="no data set 'mnist', there are: breast_cancer, diabetes, fashion_mnist"):
            read("mnist")


@pytest.mark.parametrize("name", data.names())
def test_every_data_set_tells_its_facts_and_what_to_do_where_it_is_missing(name, tmp_path):
    source = data.source(name)
    assert source.title
    assert source.license
    assert min(source.splits) > 0
    with pytest.raises(DataMissing) as caught:
        data.locate(name, tmp_path)
    assert source.how in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert source.title in str(caught.value)


def test_series_are_taken_by_position_and_keep_their_lengths():
    rows = SequenceRows(
        series=tuple(np.full((length, 2), length, np.float32) for length in (3, 1, 2)), labels=np.arange(3)
    )
    taken = rows.take(np.array([2, 0]))
    assert [each.shape for each in taken.series] == [(2, 2), (3, 2)]
    assert taken.labels.tolist() == [2, 0]
    assert len(rows) == 3


def test_texts_are_taken_by_position():
    taken = TextRows(texts=("a", "b", "c"), labels=np.arange(3)).take(np.array([2, 0]))
    assert (taken.texts, taken.labels.tolist(), len(taken)) == (("c", "a"), [2, 0], 2)


@pytest.mark.parametrize("shapes", [[(3, 2), (3, 1)], [(3,)], [(1, 2, 3)]])
def test_series_must_have_one_number_of_channels(shapes):
    with pytest.raises(ValueError, match="one number of channels"):
        SequenceRows(
            series=tuple(np.zeros(shape, np.float32) for shape in shapes), labels=np.zeros(len(shapes), np.int64)
        )


def test_series_texts_and_labels_must_be_as_many():
    with pytest.raises(ValueError, match="1 series and 2 labels"):
        SequenceRows(series=(np.zeros((3, 2), np.float32),), labels=np.zeros(2, np.int64))
    with pytest.raises(ValueError, match="1 texts and 2 labels"):
        TextRows(texts=("a",), labels=np.zeros(2, np.int64))
