import numpy as np
import pytest
import torch

from training.augment import Augmentation
from training.examples import PictureExamples, RaggedExamples, TableExamples, pad

SERIES = [np.arange(length * 2, dtype=np.float32).reshape(length, 2) + 1 for length in (3, 1, 5, 2)]
TOKENS = [np.arange(1, length + 1) for length in (2, 7, 1)]
LABELS = np.array([0, 1, 2, 1])


def test_padding_is_zeros_behind_each_row_and_nothing_else():
    for rows in (SERIES, TOKENS):
        padded, lengths = pad(rows)
        assert lengths.dtype == np.int64
        assert lengths.tolist() == [len(row) for row in rows]
        assert padded.dtype == rows[0].dtype
        assert padded.shape == (len(rows), max(map(len, rows)), *rows[0].shape[1:])
        for padded_T, row in zip(padded, rows, strict=True):
            np.testing.assert_array_equal(padded_T[: len(row)], row)
            assert not padded_T[len(row) :].any()


def test_what_cannot_be_padded_is_named():
    with pytest.raises(ValueError, match="there are no rows"):
        pad([])
    with pytest.raises(ValueError, match="row 2 of 3 is empty"):
        pad([SERIES[0], SERIES[1][:0], SERIES[2]])
    with pytest.raises(ValueError, match="4 rows and 3 labels"):
        RaggedExamples(SERIES, LABELS[:3])


@pytest.mark.parametrize("indices", [[0], [1, 3], [3, 2, 1, 0], [2, 2]])
def test_a_batch_is_padded_to_its_own_longest_row_and_no_further(indices):
    examples = RaggedExamples(SERIES, LABELS)
    batch = examples.batch(torch.tensor(indices))
    padded_BTK, lengths_B = batch.inputs
    expected, lengths = pad([SERIES[index] for index in indices])
    np.testing.assert_array_equal(padded_BTK, expected)
    np.testing.assert_array_equal(lengths_B, lengths)
    np.testing.assert_array_equal(batch.targets, LABELS[indices])
    assert examples.augment(batch, torch.Generator()) is batch
    assert len(examples) == 4


def test_pictures_are_kept_as_bytes_and_given_as_pixels():
    images = np.random.default_rng(0).integers(0, 256, (5, 4, 3)).astype(np.uint8)
    examples = PictureExamples(images, np.arange(5))
    (pixels_BHW,), targets_B = examples.batch(torch.tensor([4, 0]))
    assert pixels_BHW.dtype == torch.float32
    np.testing.assert_array_equal(pixels_BHW, images[[4, 0]])
    assert targets_B.tolist() == [4, 0]
    assert (len(examples), examples.lengths_N) == (5, None)


def test_a_picture_that_is_its_own_target_is_mirrored_with_it():
    images = np.arange(60, dtype=np.uint8).reshape(5, 4, 3)
    examples = PictureExamples(images, None, Augmentation(flip=True))
    plain = examples.batch(torch.arange(5))
    assert plain.targets is plain.inputs[0]
    changed = examples.augment(plain, torch.Generator().manual_seed(1))
    assert not torch.equal(changed.inputs[0], plain.inputs[0])
    assert torch.equal(changed.inputs[0], changed.targets)


def test_what_happens_to_a_batch_depends_on_the_generator_alone():
    examples = PictureExamples(np.arange(60, dtype=np.uint8).reshape(5, 4, 3), None, Augmentation(flip=True))
    batch = examples.batch(torch.arange(5))
    first, again = (examples.augment(batch, torch.Generator().manual_seed(3)).inputs[0] for _ in range(2))
    assert torch.equal(first, again)


@pytest.mark.parametrize(
    ("targets", "dtype"),
    [
        (np.array([0, 2], np.int64), torch.int64),
        (np.array([0, 2], np.uint8), torch.int64),
        (np.array([0.5, 2]), torch.float32),
    ],
)
def test_classes_of_a_table_are_counted_and_numbers_measured(targets, dtype):
    examples = TableExamples(np.array([[1.5, 2], [3, 4]]), targets)
    batch = examples.batch(torch.tensor([1, 0]))
    assert batch.inputs[0].dtype == torch.float32
    assert batch.inputs[0].tolist() == [[3, 4], [1.5, 2]]
    assert batch.targets.dtype == dtype
    assert batch.targets.tolist() == targets[::-1].tolist()
    assert examples.augment(batch, torch.Generator()) is batch
    assert (len(examples), examples.lengths_N) == (2, None)
