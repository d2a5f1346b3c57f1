"""The learning rate range test: raise the rate from step to step and see how far the loss falls (arXiv:1506.01186)."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

import torch
from torch import nn

from training.batches import Batch, Batches
from training.config import TrainConfig
from training.device import device_of, moved
from training.errors import TrainingError
from training.loop import Objective
from training.optim import make_optimizer
from training.seeding import seeded

_SMOOTHING = 0.9
_DIVERGED = 4.0
_LEAST_FALL = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class RateCurve:
    """What the loss did while the learning rate rose.

    Attributes:
        rates: Of each step, rising.
        losses: The training loss before that step, averaged over the last ten or so.
        suggestion: A peak to start from: a tenth of the rate at which the loss was lowest.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    suggestion: float


def find_learning_rate(
    network: nn.Module,
    batches: Batches,
    objective: Objective,
    config: TrainConfig,
    *,
    lowest: float = 1e-6,
    highest: float = 10.0,
    num_steps: int = 100,
) -> RateCurve:
    """Train with a learning rate that rises exponentially, until the loss is four times its lowest value.

    The network is left as it was, and so are the global generators of random numbers.

    Args:
        network: With its fresh weights.
        batches: The training split.
        objective: The loss.
        config: Optimizer and weight decay; its learning rate and schedule play no part.
        lowest: The first rate.
        highest: The last rate.
        num_steps: Steps between them.

    Raises:
        ValueError: The rates or the steps are impossible.
        TrainingError: The loss did not fall at any rate.
    """
    if not 0 < lowest < highest < math.inf:
        raise ValueError(f"lowest must be above 0 and below highest, got {lowest} and {highest}")
    if num_steps < 2:
        raise ValueError(f"num_steps must be 2 or more, got {num_steps}")
    weights = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
    was_training = network.training
    try:
        with seeded(config.seed):
            ramp = [lowest * (highest / lowest) ** (step / (num_steps - 1)) for step in range(num_steps)]
            losses = _train_along(ramp, network, batches, objective, config)
    finally:
        network.load_state_dict(weights)
        network.zero_grad()
        network.train(was_training)
    rates = ramp[: len(losses)]
    best = losses.index(min(losses))
    if losses[0] - losses[best] < _LEAST_FALL * abs(losses[0]):
        raise TrainingError(f"the loss fell at no learning rate from {lowest:.3g} to {rates[-1]:.3g}; start lower")
    return RateCurve(rates=tuple(rates), losses=tuple(losses), suggestion=rates[best] / 10)


def _train_along(
    rates: list[float], network: nn.Module, batches: Batches, objective: Objective, config: TrainConfig
) -> list[float]:
    """Take a step at each rate and return the smoothed losses, up to where they diverge."""
    optimizer, device = make_optimizer(network, config), device_of(network)
    network.train()
    mean, losses = 0.0, list[float]()
    for step, (rate, batch) in enumerate(zip(rates, _endless(batches), strict=False), start=1):
        inputs, targets = moved(batch, device)
        loss: torch.Tensor = objective.loss(network(*inputs), targets)
        mean = _SMOOTHING * mean + (1 - _SMOOTHING) * loss.item()
        smoothed = mean / (1 - _SMOOTHING**step)  # the first steps count in full
        if not smoothed < _DIVERGED * min(losses, default=math.inf):
            break
        losses.append(smoothed)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return losses


def _endless(batches: Batches) -> Iterator[Batch]:
    for number in count(1):
        yield from batches.epoch(number)
