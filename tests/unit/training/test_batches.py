import numpy as np
import pytest
import torch

from training.augment import Augmentation
from training.batches import LoaderBatches, MemoryBatches
from training.data import Rows

BOTH = pytest.mark.parametrize("path", [MemoryBatches, LoaderBatches])


def numbered(num=50):
    images = np.random.default_rng(0).integers(0, 256, (num, 6, 5)).astype(np.uint8)
    return Rows(images=images, labels=np.arange(num))


@pytest.mark.parametrize("augmentation", [Augmentation(), Augmentation(flip=True, max_shift=2)])
@pytest.mark.parametrize("batch_size", [1, 16, 50, 64])
def test_both_paths_give_the_same_batches_for_the_same_seed_and_epoch(picture_examples, augmentation, batch_size):
    examples, settings = picture_examples(numbered(), augmentation), {"batch_size": batch_size, "seed": 7}
    memory, loader = MemoryBatches(examples, **settings), LoaderBatches(examples, **settings)
    assert len(memory) == len(loader)
    for epoch in (1, 2):
        pairs = list(zip(memory.epoch(epoch), loader.epoch(epoch), strict=True))
        assert len(pairs) == len(memory)
        for ((pixels,), labels), ((other_pixels,), other_labels) in pairs:
            assert pixels.dtype == other_pixels.dtype == torch.float32
            assert torch.equal(pixels, other_pixels)
            assert torch.equal(labels, other_labels)


@BOTH
def test_an_epoch_holds_every_row_once(path, picture_examples):
    batches = path(picture_examples(numbered()), batch_size=16, seed=1)
    sizes = [len(labels) for _, labels in batches.epoch(1)]
    assert sizes == [16, 16, 16, 2]
    assert sorted(torch.cat([labels for _, labels in batches.epoch(1)]).tolist()) == list(range(50))


@BOTH
def test_a_picture_keeps_its_label(path, picture_examples):
    rows = numbered()
    for (pixels,), labels in path(picture_examples(rows), batch_size=16, seed=1).epoch(1):
        np.testing.assert_array_equal(pixels.numpy(), rows.images[labels.numpy()].astype(np.float32))


@BOTH
def test_order_changes_with_epoch_and_seed_and_with_nothing_else(path, picture_examples):
    def order(seed, epoch):
        return torch.cat(
            [labels for _, labels in path(picture_examples(numbered()), batch_size=16, seed=seed).epoch(epoch)]
        ).tolist()

    torch.manual_seed(0)
    first = order(1, 1)
    torch.manual_seed(99)
    assert order(1, 1) == first
    assert order(1, 2) != first
    assert order(2, 1) != first


def test_a_batch_of_no_rows_is_refused(picture_examples):
    with pytest.raises(ValueError, match="batch_size"):
        MemoryBatches(picture_examples(numbered()), batch_size=0, seed=1)


@BOTH
def test_batches_draw_nothing_from_the_global_generator_that_dropout_draws_from(path, picture_examples):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    for _ in path(picture_examples(numbered()), batch_size=16, seed=1).epoch(1):
        pass
    assert torch.equal(torch.rand(3), expected)
