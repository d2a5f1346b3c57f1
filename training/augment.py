"""Random changes to a batch of pictures that leave their classes as they are.

Shape suffixes: B rows of the batch, H height, W width, S both padded.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """What may happen to a picture.

    Attributes:
        flip: Mirror every other picture, left to right.
        max_shift: Move by up to so many pixels along each axis; what comes in from outside is black.
    """

    flip: bool = False
    max_shift: int = 0

    def __post_init__(self) -> None:
        if self.max_shift < 0:
            raise ValueError(f"max_shift must be 0 or more, got {self.max_shift}")


def augment(images_BHW: Tensor, augmentation: Augmentation, generator: torch.Generator) -> Tensor:
    """Change a batch at random.

    Args:
        images_BHW: Pictures of any dtype, shape (B, height, width).
        augmentation: What may happen.
        generator: All randomness comes from here, so the same generator changes the same batch the same way.

    Returns:
        Pictures of the same dtype and shape.
    """
    if augmentation.flip:
        mirrored_B = torch.rand(len(images_BHW), generator=generator) < 0.5
        images_BHW = torch.where(mirrored_B[:, None, None], images_BHW.flip(2), images_BHW)
    if augmentation.max_shift:
        images_BHW = _shift(images_BHW, augmentation.max_shift, generator)
    return images_BHW


def _shift(images_BHW: Tensor, most: int, generator: torch.Generator) -> Tensor:
    num_rows, height, width = images_BHW.shape
    padded_BSS = functional.pad(images_BHW, (most, most, most, most))
    offsets = torch.randint(0, 2 * most + 1, (num_rows, 2), generator=generator)
    rows_BH = offsets[:, :1] + torch.arange(height)
    columns_BW = offsets[:, 1:] + torch.arange(width)
    return padded_BSS[torch.arange(num_rows)[:, None, None], rows_BH[:, :, None], columns_BW[:, None, :]]
