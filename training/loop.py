"""The training loop, written out: forward, loss, zero_grad, backward, step.

Shape suffixes: B rows of the batch, H height, W width, C classes.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from training.batches import Batches
from training.config import TrainConfig
from training.data import Rows
from training.errors import Interrupted, NonFiniteLoss
from training.evaluate import predict, score


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """What one epoch came to.

    Attributes:
        number: Counted from 1.
        train_loss: Mean over the epoch's rows, with dropout, augmentation and label smoothing.
        validation_loss: Cross-entropy of the plain network.
        validation_accuracy: Share of the validation rows that are right.
        learning_rate: At its last step.
        duration_s: Seconds for training and validation.
    """

    number: int
    train_loss: float
    validation_loss: float
    validation_accuracy: float
    learning_rate: float
    duration_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """The outcome of training. The network itself holds the weights of ``best``.

    Attributes:
        history: All finished epochs.
        best: The one whose weights were kept.
        stopped: Why training ended.
    """

    history: tuple[Epoch, ...]
    best: Epoch
    stopped: Literal["finished", "early", "interrupted"]


def fit(
    network: nn.Module,
    batches: Batches,
    validation: Rows,
    config: TrainConfig,
    *,
    show_progress: bool = False,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
    clock: Callable[[], float] = time.monotonic,
) -> Fit:
    """Train a network, and leave it with the weights that did best on validation.

    Best means the highest validation accuracy; among equals the lowest validation loss. Training stops after
    ``config.epochs``, after ``config.patience`` epochs without a better accuracy, or on KeyboardInterrupt; what was
    best until then is kept in each case.

    Args:
        network: Takes float32 pixels of shape (B, height, width), returns logits of shape (B, C); changed in place.
        batches: The training split.
        validation: Decides which weights are kept.
        config: Optimizer, schedule and patience.
        show_progress: Draw a bar on stderr, where that is a terminal.
        on_epoch: Called with each finished epoch.
        clock: Seconds, for the record only.

    Raises:
        NonFiniteLoss: The loss became NaN or infinite.
        Interrupted: KeyboardInterrupt came before the first epoch was done.
    """
    # convolutions run up to twice as fast on a CPU in this layout; the numbers stay the same weights
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs omit it
    optimizer, schedule = make_optimizer(network, config, steps=config.epochs * len(batches))
    history: list[Epoch] = []
    best: Epoch | None = None
    best_weights: dict[str, Tensor] = {}
    last_gain = 0
    stopped: Literal["finished", "early", "interrupted"] = "finished"
    try:
        for number in range(1, config.epochs + 1):
            started = clock()
            train_loss = _train_epoch(network, batches, number, optimizer, schedule, config, show_progress)
            (logits_NC,) = predict(network, validation.images)
            scores = score(logits_NC, validation.labels)
            epoch = Epoch(
                number=number,
                train_loss=train_loss,
                validation_loss=scores.loss,
                validation_accuracy=scores.accuracy,
                learning_rate=float(schedule.get_last_lr()[0]),
                duration_s=clock() - started,
            )
            history.append(epoch)
            if best is None or epoch.validation_accuracy > best.validation_accuracy:
                last_gain = number
            if best is None or _rank(epoch) > _rank(best):
                weights = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
                best, best_weights = epoch, weights
            on_epoch(epoch)
            if number - last_gain >= config.patience and number < config.epochs:
                stopped = "early"
                break
    except KeyboardInterrupt:
        if best is None:
            raise Interrupted("interrupted before the first epoch was done, so there is nothing to keep") from None
        stopped = "interrupted"
    assert best is not None
    network.load_state_dict(best_weights)
    network.eval()
    return Fit(history=tuple(history), best=best, stopped=stopped)


def make_optimizer(
    network: nn.Module, config: TrainConfig, *, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """Return AdamW and a one-cycle schedule over ``steps`` (Smith and Topin, arXiv:1708.07120)."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    total_steps = steps + 1  # one is taken when the schedule is made
    # a rise of a single step is a division by zero in torch
    warmup = config.warmup if config.warmup * total_steps >= 2 else 0.0
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=config.learning_rate, total_steps=total_steps, pct_start=warmup
    )
    return optimizer, schedule


def _rank(epoch: Epoch) -> tuple[float, float]:
    return epoch.validation_accuracy, -epoch.validation_loss


def _train_epoch(
    network: nn.Module,
    batches: Batches,
    number: int,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    config: TrainConfig,
    show_progress: bool,
) -> float:
    """Train for one epoch and return the mean loss of its rows."""
    network.train()
    total_loss, num_rows = 0.0, 0
    bar = tqdm(
        batches.epoch(number),
        total=len(batches),
        desc=f"epoch {number}/{config.epochs}",
        unit="batch",
        leave=False,
        disable=None if show_progress else True,
    )
    for step, (pixels_BHW, labels_B) in enumerate(bar, start=1):
        logits_BC = network(pixels_BHW)
        loss = functional.cross_entropy(logits_BC, labels_B, label_smoothing=config.label_smoothing)
        loss_value = loss.item()
        if not math.isfinite(loss_value):
            raise NonFiniteLoss(
                f"the loss became {loss_value} in epoch {number}, step {step} of {len(batches)}, at a learning rate of "
                f"{schedule.get_last_lr()[0]:.3g}; a lower learning rate may help"
            )
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        total_loss += loss_value * len(labels_B)
        num_rows += len(labels_B)
        bar.set_postfix(loss=f"{total_loss / num_rows:.4f}", refresh=False)
    return total_loss / num_rows
