"""A network over pictures, in inference mode."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from app.tensors import Array


def predict(module: nn.Module, images: NDArray[np.uint8], *, batch_size: int = 500) -> tuple[Array, ...]:
    """Run a module over a split, in inference mode.

    Args:
        module: Takes float32 pixels of shape (B, height, width), returns a tensor or a tuple of them.
        images: uint8, shape (N, height, width).
        batch_size: Rows of each call.

    Returns:
        Each output of the module for all rows, as an array of N rows.
    """
    was_training = module.training
    module.eval()
    parts: list[tuple[Array, ...]] = []
    with torch.inference_mode():
        for start in range(0, len(images), batch_size):
            outputs = module(torch.tensor(images[start : start + batch_size]).float())
            outputs = outputs if isinstance(outputs, tuple) else (outputs,)
            parts.append(tuple(output.numpy() for output in outputs))
    module.train(was_training)
    return tuple(np.concatenate(columns) for columns in zip(*parts, strict=True))
