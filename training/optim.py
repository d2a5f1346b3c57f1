"""Optimizers and learning rate schedules by name.

===========  ==========================================================================================
optimizer    step
===========  ==========================================================================================
``sgd``      against the gradient
``momentum`` against a running sum of gradients (Polyak, 1964)
``nesterov`` the same, looking ahead of the step (Sutskever et al., 2013)
``rmsprop``  each weight's gradient divided by its running size (Tieleman and Hinton, 2012)
``adam``     both of these (Kingma and Ba, arXiv:1412.6980)
``adamw``    with the weight decay apart from the gradient (Loshchilov and Hutter, arXiv:1711.05101)
===========  ==========================================================================================
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim import lr_scheduler

from training.config import TrainConfig


def make_optimizer(network: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Return the optimizer of a config, over all parameters of a network that are trained."""
    rate, decay = config.learning_rate, config.weight_decay
    parameters = _groups(network) if config.decay_matrices_only else [{"params": list(network.parameters())}]
    if config.optimizer in ("sgd", "momentum", "nesterov"):
        return torch.optim.SGD(
            parameters,
            lr=rate,
            weight_decay=decay,
            momentum=0.0 if config.optimizer == "sgd" else config.momentum,
            nesterov=config.optimizer == "nesterov",
        )
    adaptive: dict[str, Callable[..., torch.optim.Optimizer]] = {
        "rmsprop": torch.optim.RMSprop,
        "adam": torch.optim.Adam,
        "adamw": torch.optim.AdamW,
    }
    return adaptive[config.optimizer](parameters, lr=rate, weight_decay=decay)


def _groups(network: nn.Module) -> list[dict[str, Any]]:
    matrices = [parameter for parameter in network.parameters() if parameter.dim() > 1]
    others = [parameter for parameter in network.parameters() if parameter.dim() <= 1]
    return [{"params": matrices}, {"params": others, "weight_decay": 0.0}]


class Schedule:
    """The learning rate of every step.

    =============  ======================================================================================
    ``constant``   always the same
    ``step``       times ``decay_factor`` after every ``decay_epochs`` epochs
    ``cosine``     a straight rise, then half a cosine to zero (Loshchilov and Hutter, arXiv:1608.03983)
    ``one_cycle``  a rise and a fall along cosines (Smith and Topin, arXiv:1708.07120)
    ``plateau``    times ``decay_factor`` after ``decay_epochs`` epochs without a better validation score
    =============  ======================================================================================

    Args:
        optimizer: Whose learning rate it sets.
        config: Names it, and holds its numbers.
        steps_per_epoch: Of the optimizer.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, config: TrainConfig, *, steps_per_epoch: int) -> None:
        self._optimizer = optimizer
        self._scheduler = _scheduler(optimizer, config, steps_per_epoch)

    @property
    def rate(self) -> float:
        """The learning rate of the next step."""
        return float(self._optimizer.param_groups[0]["lr"])

    def after_step(self) -> None:
        """Go on by one step of the optimizer."""
        if not isinstance(self._scheduler, lr_scheduler.ReduceLROnPlateau):
            self._scheduler.step()

    def after_epoch(self, validation_score: float) -> None:
        """Take note of an epoch's validation score, of which a higher one is better."""
        if isinstance(self._scheduler, lr_scheduler.ReduceLROnPlateau):
            self._scheduler.step(validation_score)

    def state_dict(self) -> dict[str, Any]:
        """Return where it stands, as numbers and lists only."""
        return self._scheduler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to where another one stood."""
        self._scheduler.load_state_dict(state)


def _scheduler(optimizer: torch.optim.Optimizer, config: TrainConfig, steps_per_epoch: int) -> lr_scheduler.LRScheduler:
    total_steps = config.epochs * steps_per_epoch + 1  # one is taken when the schedule is made
    # a rise of a single step is a division by zero in torch
    warmup = config.warmup if config.warmup * total_steps >= 2 else 0.0
    if config.schedule == "one_cycle":
        return lr_scheduler.OneCycleLR(
            optimizer,
            max_lr=config.learning_rate,
            total_steps=total_steps,
            pct_start=warmup,
            # the others keep the momentum that they were given, if any
            cycle_momentum=config.optimizer in ("adam", "adamw"),
        )
    if config.schedule == "cosine":
        return lr_scheduler.LambdaLR(optimizer, _cosine(round(warmup * total_steps), total_steps))
    if config.schedule == "step":
        return lr_scheduler.StepLR(optimizer, config.decay_epochs * steps_per_epoch, gamma=config.decay_factor)
    if config.schedule == "plateau":
        # torch lowers the rate in the epoch after its patience
        return lr_scheduler.ReduceLROnPlateau(
            optimizer, mode="max", factor=config.decay_factor, patience=config.decay_epochs - 1
        )
    return lr_scheduler.ConstantLR(optimizer, factor=1.0)


def _cosine(warmup_steps: int, total_steps: int) -> Callable[[int], float]:
    def share_of_peak(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / (warmup_steps + 1)
        done = (step - warmup_steps) / max(1, total_steps - 1 - warmup_steps)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))

    return share_of_peak
