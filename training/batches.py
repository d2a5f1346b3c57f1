"""Shuffled batches for training, along two paths that give the same ones.

:class:`MemoryBatches` takes each batch out of the examples in this process and is the fast one;
:class:`LoaderBatches` goes through torch's ``Dataset`` and ``DataLoader``, with workers where preparing a row takes
long. For the same seed and epoch both yield the same batches, bit for bit, augmentation included.

Shape suffixes: B rows of the batch, N rows of the split.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from training.seeding import generator

# Rows are sorted by length within pools of so many batches: enough for little padding, few enough to stay random.
POOL_BATCHES = 50

_ORDER, _AUGMENT, _BATCH_ORDER = 1, 2, 3


class Batch(NamedTuple):
    """What one step is made of.

    Attributes:
        inputs: What the network is called with, in order; each has B rows.
        targets: What it is to tell, B rows.
    """

    inputs: tuple[Tensor, ...]
    targets: Tensor


class Examples(Protocol):
    """The rows of a split, as a network takes them."""

    def __len__(self) -> int:
        """Return the number of rows."""
        ...

    @property
    def lengths_N(self) -> Tensor | None:
        """The length of each row, int64 of shape (N,), where rows differ in length; else None."""
        ...

    def batch(self, indices_B: Tensor) -> Batch:
        """Return the rows at ``indices_B``, int64 of shape (B,), padded where they differ in length."""
        ...

    def augment(self, batch: Batch, randomness: torch.Generator) -> Batch:
        """Change a batch of training rows at random, all randomness from the generator; or return it as it is."""
        ...


class Batches(ABC):
    """The training split in batches, shuffled anew in each epoch.

    Of several processes each takes its share of every batch. A last batch of fewer rows than processes goes to each of
    them whole, so that none stands still while the others wait for its gradients.

    Args:
        examples: The training split.
        batch_size: Rows of each batch, of all processes together; the last one holds what is left.
        seed: Decides the order and the augmentation of every epoch.
        by_length: Put rows of similar length into one batch, where rows differ in length.
        rank: Which process this is, from 0.
        world_size: How many processes there are.

    Raises:
        ValueError: There are no rows, or a number is impossible.
    """

    def __init__(
        self,
        examples: Examples,
        *,
        batch_size: int,
        seed: int,
        by_length: bool = False,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if batch_size < world_size or world_size < 1:
            raise ValueError(f"batch_size must be 1 or more for each of {world_size} processes, got {batch_size}")
        if not 0 <= rank < world_size:
            raise ValueError(f"rank must be from 0 to {world_size - 1}, got {rank}")
        if not len(examples):
            raise ValueError("there are no rows to train on")
        self.examples = examples
        self.world_size = world_size
        self._batch_size = batch_size
        self._seed = seed
        self._lengths_N = examples.lengths_N if by_length else None
        self._rank = rank

    def __len__(self) -> int:
        """Return the number of batches of one epoch."""
        return -(-len(self.examples) // self._batch_size)

    def epoch(self, number: int) -> Iterator[Batch]:
        """Yield the batches of an epoch, counted from 1."""
        # the first process draws what a single one would
        path = (_AUGMENT, number, self._rank) if self._rank else (_AUGMENT, number)
        randomness = generator(self._seed, *path)
        for batch in self._raw([self._share(indices_B) for indices_B in self._plan(number)]):
            yield self.examples.augment(batch, randomness)

    @abstractmethod
    def _raw(self, plan: Sequence[Tensor]) -> Iterator[Batch]:
        """Yield the batch of each tensor of indices, before any augmentation."""

    def _plan(self, number: int) -> Sequence[Tensor]:
        """Return the indices of each batch of an epoch."""
        order_N = torch.randperm(len(self.examples), generator=generator(self._seed, _ORDER, number))
        if self._lengths_N is None:
            return torch.split(order_N, self._batch_size)
        plan: list[Tensor] = []
        for pool in torch.split(order_N, POOL_BATCHES * self._batch_size):
            by_length = pool[torch.argsort(self._lengths_N[pool], stable=True)]
            plan.extend(torch.split(by_length, self._batch_size))
        shuffled = torch.randperm(len(plan), generator=generator(self._seed, _BATCH_ORDER, number))
        return [plan[index] for index in shuffled.tolist()]

    def _share(self, indices_B: Tensor) -> Tensor:
        if len(indices_B) < self.world_size:
            return indices_B
        return indices_B[self._rank :: self.world_size]


class MemoryBatches(Batches):
    """Batches made here and now."""

    def _raw(self, plan: Sequence[Tensor]) -> Iterator[Batch]:
        for indices_B in plan:
            yield self.examples.batch(indices_B)


class LoaderBatches(Batches):
    """Batches through a ``DataLoader``.

    Args:
        examples: The training split.
        batch_size: Rows of each batch, of all processes together; the last one holds what is left.
        seed: Decides the order and the augmentation of every epoch.
        by_length: Put rows of similar length into one batch, where rows differ in length.
        rank: Which process this is, from 0.
        world_size: How many processes there are.
        num_workers: Processes that prepare batches ahead of time; 0 prepares them in this one.

    Raises:
        ValueError: There are no rows, or a number is impossible.
    """

    def __init__(
        self,
        examples: Examples,
        *,
        batch_size: int,
        seed: int,
        by_length: bool = False,
        rank: int = 0,
        world_size: int = 1,
        num_workers: int = 0,
    ) -> None:
        super().__init__(
            examples, batch_size=batch_size, seed=seed, by_length=by_length, rank=rank, world_size=world_size
        )
        if num_workers < 0:
            raise ValueError(f"num_workers must be 0 or more, got {num_workers}")
        self._num_workers = num_workers

    def _raw(self, plan: Sequence[Tensor]) -> Iterator[Batch]:
        loader: DataLoader[Batch] = DataLoader(
            _ExamplesDataset(self.examples),
            batch_sampler=[indices_B.tolist() for indices_B in plan],
            num_workers=self._num_workers,
            collate_fn=_as_it_is,  # type: ignore[arg-type]  # torch's stubs know of lists of rows only
            # of its own: the loader draws a seed for its workers, and the global one is the dropout's
            generator=torch.Generator(),
        )
        yield from loader


class _ExamplesDataset(Dataset[Batch]):
    def __init__(self, examples: Examples) -> None:
        self._examples = examples

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: int) -> Batch:
        return self.__getitems__([index])

    def __getitems__(self, indices: list[int]) -> Batch:
        # the loader asks for whole batches here, so that rows are padded among themselves
        return self._examples.batch(torch.tensor(indices))


def _as_it_is(batch: Batch) -> Batch:
    return batch
