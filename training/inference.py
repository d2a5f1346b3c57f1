"""A network over a whole split, in inference mode."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from app.tensors import Array
from training.batches import Batch, Examples


@contextmanager
def inference(network: nn.Module) -> Iterator[torch.device]:
    """Switch dropout and gradients off, and back as they were; gives the device that the weights are on."""
    # of each part, as some may be kept in inference mode while the others are trained
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    parameter = next(network.parameters(), None)
    try:
        with torch.inference_mode():
            yield torch.device("cpu") if parameter is None else parameter.device
    finally:
        for module, was_training in modes:
            module.training = was_training


def batches_in_order(examples: Examples, batch_size: int) -> Iterator[tuple[Tensor, Batch]]:
    """Yield the rows of a split once, with their indices; those of different lengths from the shortest to the longest.

    Yields:
        Indices, int64 of shape (B,), and the batch.
    """
    lengths_N = examples.lengths_N
    order_N = torch.arange(len(examples)) if lengths_N is None else torch.argsort(lengths_N, stable=True)
    for indices_B in torch.split(order_N, batch_size):
        yield indices_B, examples.batch(indices_B)


def outputs_of(network: nn.Module, examples: Examples, *, batch_size: int = 500) -> tuple[Array, ...]:
    """Run a network over a split.

    Args:
        network: Returns a tensor or a tuple of them, each of B rows and otherwise fixed shape.
        examples: N rows.
        batch_size: Rows of each call.

    Returns:
        Each output for all rows, in the order of the split.
    """
    parts: list[tuple[Array, ...]] = []
    indices: list[Tensor] = []
    with inference(network) as device:
        for indices_B, batch in batches_in_order(examples, batch_size):
            found: Any = network(*(tensor.to(device) for tensor in batch.inputs))
            parts.append(tuple(each.cpu().numpy() for each in (found if isinstance(found, tuple) else (found,))))
            indices.append(indices_B)
    back_N = np.argsort(torch.cat(indices).numpy())
    return tuple(np.concatenate(columns)[back_N] for columns in zip(*parts, strict=True))
