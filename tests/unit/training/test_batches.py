from itertools import chain

import numpy as np
import pytest
import torch

from tests.support.learning import Series
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


def lengths_of(batches, epoch=1):
    return [batch.inputs[1].tolist() for batch in batches.epoch(epoch)]


def spread(lengths):
    return sum(max(each) - min(each) for each in lengths) / len(lengths)


@BOTH
def test_rows_of_similar_length_lie_in_one_batch(path):
    batches = path(Series(200), batch_size=16, seed=3, by_length=True)
    mixed = path(Series(200), batch_size=16, seed=3)
    assert spread(lengths_of(batches)) < 2 < spread(lengths_of(mixed))
    assert [sorted(chain.from_iterable(lengths)) for lengths in (lengths_of(batches), lengths_of(mixed))] == [
        sorted(Series(200).lengths_N.tolist())
    ] * 2
    assert len(lengths_of(batches)) == len(batches) == 13
    # shuffled: not from the shortest to the longest
    means = [sum(each) / len(each) for each in lengths_of(batches)]
    assert means != sorted(means)


def test_similar_lengths_are_sought_in_pools_so_that_batches_differ_between_epochs(monkeypatch):
    monkeypatch.setattr("training.batches.POOL_BATCHES", 4)
    examples = Series(200)
    batches = MemoryBatches(examples, batch_size=16, seed=3, by_length=True)
    assert len(batches) == len(lengths_of(batches)) == 13
    as_sets = [{frozenset(map(tuple, batch.inputs[0][:, 0].tolist())) for batch in batches.epoch(n)} for n in (1, 1, 2)]
    assert as_sets[0] == as_sets[1]
    assert not as_sets[0] & as_sets[2]


def test_rows_of_one_length_are_not_sorted(picture_examples):
    examples = picture_examples(numbered())
    pairs = zip(
        MemoryBatches(examples, batch_size=16, seed=1, by_length=True).epoch(1),
        MemoryBatches(examples, batch_size=16, seed=1).epoch(1),
        strict=True,
    )
    assert all(torch.equal(one.targets, other.targets) for one, other in pairs)


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("by_length", [False, True])
def test_workers_give_the_same_batches_bit_for_bit(num_workers, by_length):
    examples = Series(60, noise=0.5)
    settings = {"batch_size": 16, "seed": 7, "by_length": by_length}
    memory = MemoryBatches(examples, **settings)
    loader = LoaderBatches(examples, num_workers=num_workers, **settings)
    for epoch in (1, 2):
        for one, other in zip(memory.epoch(epoch), loader.epoch(epoch), strict=True):
            assert all(torch.equal(*pair) for pair in zip(one.inputs, other.inputs, strict=True))
            assert torch.equal(one.targets, other.targets)


@BOTH
@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("num_rows", [64, 57, 50])
def test_processes_share_every_batch(path, picture_examples, world_size, num_rows):
    examples = picture_examples(numbered(num_rows))
    whole = [batch.targets.tolist() for batch in path(examples, batch_size=16, seed=1).epoch(1)]
    shares = [
        [
            batch.targets.tolist()
            for batch in path(examples, batch_size=16, seed=1, rank=rank, world_size=world_size).epoch(1)
        ]
        for rank in range(world_size)
    ]
    for rows, *parts in zip(whole, *shares, strict=True):
        sizes = [len(part) for part in parts]
        if len(rows) < world_size:
            assert parts == [rows] * world_size
        else:
            assert sorted(chain.from_iterable(parts)) == sorted(rows)
            assert max(sizes) - min(sizes) <= 1


def test_processes_change_their_rows_apart():
    examples = Series(32, noise=1.0)
    shares = [
        next(MemoryBatches(examples, batch_size=32, seed=1, rank=rank, world_size=2).epoch(1)).inputs[0]
        for rank in (0, 1)
    ]
    plain = next(MemoryBatches(Series(32), batch_size=32, seed=1).epoch(1)).inputs[0]
    noise = [share[:, :2] - plain[rank::2, :2] for rank, share in enumerate(shares)]
    assert not torch.allclose(*noise)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"batch_size": 1, "world_size": 2}, "batch_size"),
        ({"world_size": 0}, "batch_size"),
        ({"world_size": 2, "rank": 2}, "rank must be from 0 to 1, got 2"),
        ({"rank": -1}, "rank"),
    ],
)
def test_impossible_shares_are_refused(settings, named):
    with pytest.raises(ValueError, match=named):
        MemoryBatches(Series(20), **{"batch_size": 4, "seed": 1, **settings})


def test_no_rows_and_less_than_no_workers_are_refused():
    with pytest.raises(ValueError, match="no rows"):
        MemoryBatches(Series(0), batch_size=4, seed=1)
    with pytest.raises(ValueError, match="num_workers must be 0 or more, got -1"):
        LoaderBatches(Series(20), batch_size=4, seed=1, num_workers=-1)
