"""Shuffled batches for training, along two paths that give the same ones.

:class:`MemoryBatches` indexes whole tensors and is the fast one; :class:`LoaderBatches` goes through torch's
``Dataset`` and ``DataLoader`` and is the one for data that does not fit into memory. For the same seed and epoch both
yield the same batches, bit for bit, augmentation included.

Shape suffixes: B rows of the batch, N rows of the split, H height, W width.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import TypeAlias

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from training.augment import Augmentation, augment
from training.data import Rows
from training.seeding import generator

Batch: TypeAlias = tuple[Tensor, Tensor]

_ORDER, _AUGMENT = 1, 2


class Batches(ABC):
    """The training split in batches, shuffled anew in each epoch.

    Args:
        rows: The training split.
        batch_size: Rows of each batch; the last one holds what is left.
        seed: Decides the order and the augmentation of every epoch.
        augmentation: What may happen to the pictures of a batch.
    """

    def __init__(self, rows: Rows, *, batch_size: int, seed: int, augmentation: Augmentation | None = None) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be 1 or more, got {batch_size}")
        self._images_NHW = torch.tensor(rows.images)
        self._labels_N = torch.tensor(rows.labels)
        self._batch_size = batch_size
        self._seed = seed
        self._augmentation = augmentation or Augmentation()

    def __len__(self) -> int:
        """Return the number of batches of one epoch."""
        return -(-len(self._labels_N) // self._batch_size)

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """Yield the batches of an epoch, counted from 1.

        Yields:
            Pixels, float32 from 0 to 255 of shape (B, height, width), and labels, int64 of shape (B,).
        """
        order_N = torch.randperm(len(self._labels_N), generator=generator(self._seed, _ORDER, epoch))
        randomness = generator(self._seed, _AUGMENT, epoch)
        for images_BHW, labels_B in self._raw(order_N):
            yield augment(images_BHW, self._augmentation, randomness).float(), labels_B

    @abstractmethod
    def _raw(self, order_N: Tensor) -> Iterator[Batch]:
        """Yield images, uint8, and labels in the given order."""


class MemoryBatches(Batches):
    """Batches by indexing; no Python per row."""

    def _raw(self, order_N: Tensor) -> Iterator[Batch]:
        for indices_B in torch.split(order_N, self._batch_size):
            yield self._images_NHW[indices_B], self._labels_N[indices_B]


class LoaderBatches(Batches):
    """Batches through a ``DataLoader``, row by row."""

    def _raw(self, order_N: Tensor) -> Iterator[Batch]:
        dataset = _RowsDataset(self._images_NHW, self._labels_N)
        # a generator of its own: the loader draws a seed for its workers, and the global one is the dropout's
        generator = torch.Generator()
        yield from DataLoader(dataset, batch_size=self._batch_size, sampler=order_N.tolist(), generator=generator)


class _RowsDataset(Dataset[Batch]):
    def __init__(self, images_NHW: Tensor, labels_N: Tensor) -> None:
        self._images_NHW = images_NHW
        self._labels_N = labels_N

    def __len__(self) -> int:
        return len(self._labels_N)

    def __getitem__(self, index: int) -> Batch:
        return self._images_NHW[index], self._labels_N[index]
