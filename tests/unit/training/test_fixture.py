import dataclasses

import numpy as np
import pytest

from tests.support import slices
from training import cli, data
from training.data import load
from training.fixture import write_fixture


@pytest.fixture
def vowels():
    """Series enough for the fixture: the slice's own, all of them in the test split."""
    return dataclasses.replace(slices.series(), test=slices.series_rows())


@pytest.mark.parametrize("name", ["fashion_mnist", "japanese_vowels"])
def test_a_fixture_is_the_same_file_each_time(small_data, vowels, tmp_path, name):
    paths = [tmp_path / "new" / file_name for file_name in ("a.npz", "b.npz")]
    for path in paths:
        write_fixture(name, small_data if name == "fashion_mnist" else vowels, path)
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_pictures_are_the_first_test_rows(small_data, tmp_path):
    write_fixture("fashion_mnist", small_data, tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as archive:
        np.testing.assert_array_equal(archive["images"], small_data.test.images)
        np.testing.assert_array_equal(archive["labels"], small_data.test.labels)
        assert archive["images"].dtype == archive["labels"].dtype == np.uint8


def test_series_are_ten_of_each_class_in_the_order_of_the_source(tmp_path):
    # twelve of each speaker and more of the last, in no order
    rows = slices.series_rows()
    order = np.random.default_rng(0).permutation(np.concatenate([np.arange(90), np.arange(0, 90, 5), [89] * 20]))
    data_set = dataclasses.replace(slices.series(), test=rows.take(order))
    write_fixture("japanese_vowels", data_set, tmp_path / "a.npz")
    expected = [index for at, index in enumerate(order) if (rows.labels[order[:at]] == rows.labels[index]).sum() < 10]
    with np.load(tmp_path / "a.npz") as archive:
        assert len(archive["labels"]) == 90
        np.testing.assert_array_equal(archive["labels"], rows.labels[expected])
        for padded, length, index in zip(archive["series"], archive["lengths"], expected, strict=True):
            np.testing.assert_array_equal(padded[:length], rows.series[index])
            assert not padded[length:].any()


def test_the_committed_fixtures_hold_rows_of_all_classes(pictures):
    assert pictures.images.shape == (512, 28, 28)
    assert pictures.images.dtype == np.uint8
    assert set(pictures.labels) == set(range(10))
    series = slices.series_rows()
    assert np.bincount(series.labels).tolist() == [10] * 9
    assert all(each.shape[1] == 12 and 7 <= len(each) <= 29 for each in series.series)


def test_the_command_takes_the_data_set_by_name(capsys, monkeypatch, tmp_path, vowels):
    monkeypatch.setattr(data, "load", lambda name, folder: {"japanese_vowels": vowels}[name])
    path = tmp_path / "vowels.npz"
    assert cli.main(["fixture", "--data-set", "japanese_vowels", "--output", str(path)]) == 0
    assert capsys.readouterr().out == f"wrote {path}\n"
    with np.load(path) as archive, np.load(slices.FIXTURES / "japanese_vowels_test_90.npz") as committed:
        assert archive.keys() == committed.keys()
        for name, array in committed.items():
            np.testing.assert_array_equal(archive[name], array)


@pytest.mark.needs_data
@pytest.mark.parametrize("name", ["fashion_mnist", "japanese_vowels"])
def test_the_committed_fixture_is_made_of_the_real_test_set(name, tmp_path):
    write_fixture(name, load(name), tmp_path / "a.npz")
    (committed,) = slices.FIXTURES.glob(f"{name}_*.npz")
    with np.load(tmp_path / "a.npz") as made, np.load(committed) as kept:
        assert made.keys() == kept.keys()
        for array_name in kept:
            np.testing.assert_array_equal(made[array_name], kept[array_name])
