"""The rows of a split as a network takes them: tensors, picked by index.

Shape suffixes: N rows of the split, B rows of the batch, H height, W width, T steps or tokens, F features.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from app.tensors import Array
from training.augment import Augmentation, augment
from training.batches import Batch


class PictureExamples:
    """Pictures, kept as uint8.

    Args:
        images_NHW: uint8, shape (N, height, width).
        targets_N: int64, shape (N,), the class of each; None where the picture itself is the target.
        augmentation: What may happen to pictures that are trained on.
    """

    lengths_N = None

    def __init__(self, images_NHW: Array, targets_N: Array | None, augmentation: Augmentation | None = None) -> None:
        self._images_NHW = torch.tensor(images_NHW)
        self._targets_N = None if targets_N is None else torch.tensor(targets_N)
        self._augmentation = augmentation or Augmentation()

    def __len__(self) -> int:
        return len(self._images_NHW)

    def batch(self, indices_B: Tensor) -> Batch:
        """Return pixels from 0 to 255, float32 of shape (B, height, width), and what is to be told of them."""
        pixels_BHW = self._images_NHW[indices_B].float()
        return Batch((pixels_BHW,), pixels_BHW if self._targets_N is None else self._targets_N[indices_B])

    def augment(self, batch: Batch, randomness: torch.Generator) -> Batch:
        """Mirror and move pictures; where the picture is the target, that goes with it."""
        pixels_BHW = augment(batch.inputs[0], self._augmentation, randomness)
        return Batch((pixels_BHW,), pixels_BHW if self._targets_N is None else batch.targets)


class RaggedExamples:
    """Series or token ids of different lengths, padded with zeros to the longest of each batch.

    Args:
        rows: Of each row, an array of shape (length, ...), all of one dtype.
        labels_N: int64, shape (N,).

    Raises:
        ValueError: There are no rows, one is empty, or there are more or fewer labels.
    """

    def __init__(self, rows: Sequence[Array], labels_N: Array) -> None:
        if len(rows) != len(labels_N):
            raise ValueError(f"there are {len(rows)} rows and {len(labels_N)} labels")
        padded_NT, lengths_N = pad(rows)
        self._padded_NT = torch.tensor(padded_NT)
        self.lengths_N = torch.tensor(lengths_N)
        self._labels_N = torch.tensor(labels_N)

    def __len__(self) -> int:
        return len(self._labels_N)

    def batch(self, indices_B: Tensor) -> Batch:
        """Return the padded rows, shape (B, longest, ...), with their lengths, int64 of shape (B,); and the labels."""
        lengths_B = self.lengths_N[indices_B]
        longest = int(lengths_B.max())
        return Batch((self._padded_NT[indices_B, :longest], lengths_B), self._labels_N[indices_B])

    def augment(self, batch: Batch, randomness: torch.Generator) -> Batch:
        """Return the batch as it is: what is random here, the network does by itself while it trains."""
        del randomness
        return batch


class TableExamples:
    """Rows of features.

    Args:
        features_NF: Any float dtype, shape (N, F).
        targets_N: Any integer dtype, a class each, or any float dtype, a number each; shape (N,).
    """

    lengths_N = None

    def __init__(self, features_NF: Array, targets_N: Array) -> None:
        self._features_NF = torch.tensor(features_NF, dtype=torch.float32)
        is_class = targets_N.dtype.kind in "iu"
        self._targets_N = torch.tensor(targets_N, dtype=torch.int64 if is_class else torch.float32)

    def __len__(self) -> int:
        return len(self._targets_N)

    def batch(self, indices_B: Tensor) -> Batch:
        """Return features, float32 of shape (B, F), and targets, shape (B,)."""
        return Batch((self._features_NF[indices_B],), self._targets_N[indices_B])

    def augment(self, batch: Batch, randomness: torch.Generator) -> Batch:
        """Return the batch as it is."""
        del randomness
        return batch


def pad(rows: Sequence[Array]) -> tuple[Array, Array]:
    """Put rows of different lengths into one array.

    Args:
        rows: At least one array of shape (length, ...), alike but for the length, which is 1 or more.

    Returns:
        The rows, filled up with zeros to the longest, shape (N, longest, ...); and their lengths, int64 of shape (N,).

    Raises:
        ValueError: There are no rows, or one is empty.
    """
    if not len(rows):
        raise ValueError("there are no rows to pad")
    if empty := next((number for number, row in enumerate(rows, 1) if not len(row)), None):
        raise ValueError(f"row {empty} of {len(rows)} is empty")
    lengths_N = np.array([len(row) for row in rows], np.int64)
    padded_NT = np.zeros((len(rows), int(lengths_N.max()), *rows[0].shape[1:]), rows[0].dtype)
    for padded_T, row in zip(padded_NT, rows, strict=True):
        padded_T[: len(row)] = row
    return padded_NT, lengths_N
