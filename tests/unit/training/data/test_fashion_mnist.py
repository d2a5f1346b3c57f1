import gzip
import hashlib
import struct

import numpy as np
import pytest

from training.data import fashion_mnist
from training.errors import DataError


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def contents(num_train=50, num_test=10, labels_of=lambda num: np.arange(num) % 10):
    random = np.random.default_rng(0)

    def images(num):
        return idx(random.integers(0, 256, (num, 28, 28)).astype(np.uint8))

    return {
        fashion_mnist.TRAIN_IMAGES: images(num_train),
        fashion_mnist.TRAIN_LABELS: idx(labels_of(num_train).astype(np.uint8)),
        fashion_mnist.TEST_IMAGES: images(num_test),
        fashion_mnist.TEST_LABELS: idx(labels_of(num_test).astype(np.uint8)),
    }


def digests_of(files):
    return {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}


def write(folder, files, *, packed=True):
    for name, data in files.items():
        path = folder / (f"{name}.gz" if packed else name)
        path.write_bytes(gzip.compress(data) if packed else data)
    return folder


@pytest.mark.parametrize("packed", [True, False])
def test_four_files_become_three_splits(tmp_path, packed):
    files = contents()
    data = fashion_mnist.load(write(tmp_path, files, packed=packed), digests=digests_of(files), num_validation=8)
    assert (len(data.train), len(data.validation), len(data.test)) == (42, 8, 10)
    assert data.train.images.shape == (42, 28, 28)
    assert data.train.images.dtype == np.uint8
    assert data.train.labels.dtype == np.int64
    np.testing.assert_array_equal(data.test.labels, np.arange(10))
    assert data.files == digests_of(files)
    assert len(data.classes) == 10


def test_the_environment_says_where_the_files_are(tmp_path, monkeypatch):
    files = contents()
    monkeypatch.setenv("DATA_DIR", str(write(tmp_path, files)))
    assert len(fashion_mnist.load(digests=digests_of(files), num_validation=8).train) == 42


def test_a_given_folder_comes_before_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "elsewhere"))
    files = contents()
    assert fashion_mnist.load(write(tmp_path, files), digests=digests_of(files), num_validation=8)


@pytest.mark.parametrize("missing", sorted(fashion_mnist.DIGESTS))
def test_a_missing_file_is_answered_with_how_to_get_it(tmp_path, missing):
    files = contents()
    write(tmp_path, files)
    (tmp_path / f"{missing}.gz").unlink()
    with pytest.raises(DataError, match=f"{missing}.gz is missing") as caught:
        fashion_mnist.load(tmp_path, digests=digests_of(files))
    message = str(caught.value)
    assert "apt-get install dataset-fashion-mnist" in message
    assert "DATA_DIR" in message
    assert all(f"{name}.gz" in message for name in fashion_mnist.DIGESTS)
    assert "\n" not in message


def test_swapped_files_are_named_with_both_digests(tmp_path):
    files = contents()
    expected = digests_of(files)
    one, other = fashion_mnist.TRAIN_IMAGES, fashion_mnist.TEST_IMAGES
    write(tmp_path, {**files, one: files[other], other: files[one]})
    with pytest.raises(DataError, match=f"{one}.gz is damaged or another file") as caught:
        fashion_mnist.load(tmp_path, digests=expected)
    assert expected[one] in str(caught.value)
    assert expected[other] in str(caught.value)


def test_any_other_data_than_the_real_one_is_refused(tmp_path):
    write(tmp_path, contents())
    with pytest.raises(DataError, match=fashion_mnist.DIGESTS[fashion_mnist.TRAIN_IMAGES]):
        fashion_mnist.load(tmp_path)


def test_as_many_labels_as_images_are_asked_for(tmp_path):
    files = contents() | {fashion_mnist.TEST_LABELS: idx(np.zeros(9, np.uint8))}
    with pytest.raises(DataError, match=r"10 images, but .* 9 labels"):
        fashion_mnist.load(write(tmp_path, files), digests=digests_of(files), num_validation=8)


def test_a_label_beyond_the_classes_is_refused(tmp_path):
    files = contents(labels_of=lambda num: np.full(num, 10))
    with pytest.raises(DataError, match="label 10"):
        fashion_mnist.load(write(tmp_path, files), digests=digests_of(files), num_validation=8)


@pytest.mark.needs_data
def test_the_real_data_set_is_complete_and_split_as_documented():
    data = fashion_mnist.load()
    assert (len(data.train), len(data.validation), len(data.test)) == (55_000, 5_000, 10_000)
    assert np.bincount(data.test.labels).tolist() == [1_000] * 10
