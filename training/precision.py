"""Mixed precision: the arithmetic that may be short is, and the weights stay float32 (arXiv:1710.03740)."""

from contextlib import AbstractContextManager

import torch

from training.config import PrecisionName

_SHORT = {"bf16": torch.bfloat16, "fp16": torch.float16}


def mixed(precision: PrecisionName, device: torch.device) -> AbstractContextManager[object]:
    """Return a context in which matrix products and convolutions run in ``precision``; ``fp32`` changes nothing."""
    return torch.autocast(device.type, dtype=_SHORT.get(precision), enabled=precision != "fp32")


def make_scaler(precision: PrecisionName, device: torch.device) -> torch.amp.GradScaler:
    """Return what keeps small gradients of ``fp16`` from becoming zero; it hands everything through otherwise.

    It makes the loss larger before the gradients are taken and these smaller again after, and leaves a step out where
    they became infinite by that.
    """
    return torch.amp.GradScaler(device.type, enabled=precision == "fp16")


def take_step(optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler) -> bool:
    """Let the optimizer take its step; False where the scaler left it out."""
    scale = scaler.get_scale()
    scaler.step(optimizer)
    scaler.update()
    return scaler.get_scale() >= scale
