import numpy as np
import pytest

from training.data import load
from training.fixture import write_fixture


def test_the_fixture_is_the_first_test_rows_and_the_same_file_each_time(small_data, tmp_path):
    paths = [tmp_path / "new" / name for name in ("a.npz", "b.npz")]
    for path in paths:
        write_fixture(small_data, path)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    with np.load(paths[0]) as archive:
        np.testing.assert_array_equal(archive["images"], small_data.test.images)
        np.testing.assert_array_equal(archive["labels"], small_data.test.labels)
        assert archive["images"].dtype == archive["labels"].dtype == np.uint8


def test_the_committed_fixture_holds_512_pictures_of_all_classes(pictures):
    assert pictures.images.shape == (512, 28, 28)
    assert pictures.images.dtype == np.uint8
    assert set(pictures.labels) == set(range(10))


@pytest.mark.needs_data
def test_the_committed_fixture_is_the_head_of_the_real_test_set(pictures):
    test = load("fashion_mnist").test
    np.testing.assert_array_equal(pictures.images, test.images[:512])
    np.testing.assert_array_equal(pictures.labels, test.labels[:512])
