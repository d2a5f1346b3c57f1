"""Where a network is trained: on the GPU where there is one that torch can use, else on the CPU."""

import torch
from torch import nn

from training.batches import Batch
from training.errors import TrainingError

DEVICES = ("auto", "cpu", "cuda")


def choose_device(name: str = "auto") -> torch.device:
    """Return the device of a name; ``auto`` takes the GPU where there is one.

    Raises:
        ValueError: There is no such name.
        TrainingError: There is no GPU that torch can use.
    """
    if name not in DEVICES:
        raise ValueError(f"there is no device {name!r}, there are: {', '.join(DEVICES)}")
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise TrainingError("there is no GPU that this torch can use; train with --device cpu")
    return torch.device("cuda", torch.cuda.current_device())


def device_of(network: nn.Module) -> torch.device:
    """Return the device that a network's weights are on; the CPU for one without weights."""
    return next((parameter.device for parameter in network.parameters()), torch.device("cpu"))


def moved(batch: Batch, device: torch.device) -> Batch:
    """Return a batch on a device; from pinned memory the copy runs while the CPU goes on."""
    inputs = tuple(tensor.to(device, non_blocking=True) for tensor in batch.inputs)
    return Batch(inputs, batch.targets.to(device, non_blocking=True))
