"""The training loop: forward, loss, backward, step, until validation says stop."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from app.tensors import Array
from training.errors import Interrupted, NonFiniteLoss
from training.numpy_network.batches import mini_batches
from training.numpy_network.losses import Loss
from training.numpy_network.network import Network
from training.numpy_network.optimizers import Optimizer

Split = tuple[Array, Array]


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """What one epoch came to.

    Attributes:
        number: Counted from 1.
        train_loss: Mean over the epoch's rows, each before its own step.
        validation_loss: After the epoch.
    """

    number: int
    train_loss: float
    validation_loss: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """The outcome of training. The network itself holds the weights of ``best``.

    Attributes:
        history: All finished epochs.
        best: The one with the lowest validation loss, whose weights were kept.
        stopped: Why training ended.
    """

    history: tuple[Epoch, ...]
    best: Epoch
    stopped: Literal["finished", "early", "interrupted"]


def fit(
    network: Network,
    train: Split,
    validation: Split,
    *,
    loss: Loss,
    optimizer: Optimizer,
    epochs: int,
    batch_size: int,
    patience: int,
    rng: np.random.Generator,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
) -> Fit:
    """Train a network, and leave it with the weights of its lowest validation loss.

    Args:
        network: Changed in place.
        train: Inputs, float64 of shape (N, I), and targets, float64 of shape (N, K).
        validation: The same, of other rows.
        loss: What is made small.
        optimizer: How.
        epochs: At most.
        batch_size: Rows of a step.
        patience: Epochs without a lower validation loss until training stops early.
        rng: Decides the order of the rows.
        on_epoch: Called with each finished epoch.

    Raises:
        NonFiniteLoss: The loss became NaN or infinite.
        Interrupted: KeyboardInterrupt came before the first epoch was done.
    """
    history: list[Epoch] = []
    best: Epoch | None = None
    best_weights = network.copy_of_parameters()
    stopped: Literal["finished", "early", "interrupted"] = "finished"
    try:
        for number in range(1, epochs + 1):
            train_loss = _train_epoch(network, train, number, loss, optimizer, batch_size, rng)
            validation_loss = loss.value(network.forward(validation[0]), validation[1])
            epoch = Epoch(number=number, train_loss=train_loss, validation_loss=validation_loss)
            history.append(epoch)
            if best is None or validation_loss < best.validation_loss:
                best, best_weights = epoch, network.copy_of_parameters()
            on_epoch(epoch)
            if number - best.number >= patience:
                stopped = "early"
                break
    except KeyboardInterrupt:
        if best is None:
            raise Interrupted("interrupted before the first epoch was done, so there is nothing to keep") from None
        stopped = "interrupted"
    assert best is not None
    network.load(best_weights)
    return Fit(history=tuple(history), best=best, stopped=stopped)


def _train_epoch(
    network: Network,
    train: Split,
    number: int,
    loss: Loss,
    optimizer: Optimizer,
    batch_size: int,
    rng: np.random.Generator,
) -> float:
    """Train for one epoch and return the mean loss of its rows."""
    total_loss = 0.0
    for step, (inputs_BI, targets_BK) in enumerate(mini_batches(*train, batch_size=batch_size, rng=rng), start=1):
        outputs_BK = network.forward(inputs_BI)
        batch_loss = loss.value(outputs_BK, targets_BK)
        if not math.isfinite(batch_loss):
            raise NonFiniteLoss(
                f"the loss became {batch_loss} in epoch {number}, step {step}, at a learning rate of "
                f"{optimizer.learning_rate:.3g}; a lower one may help"
            )
        optimizer.step(network.parameters, network.backward(loss.gradient(outputs_BK, targets_BK)))
        total_loss += batch_loss * len(inputs_BI)
    return total_loss / len(train[0])
