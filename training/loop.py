"""The training loop, written out: forward, loss, zero_grad, backward, step.

Shape suffixes: B rows of the batch.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from tqdm import tqdm

from training.batches import Batch, Batches
from training.checkpoint import Checkpoint, Stateful
from training.config import TrainConfig
from training.device import device_of, moved
from training.distributed import Process, this_process
from training.epochs import Epoch, Fit, Record, Stopped
from training.errors import Interrupted, NonFiniteLoss
from training.optim import Schedule, make_optimizer
from training.precision import make_scaler, mixed, take_step

__all__ = ["Epoch", "Fit", "Objective", "Validation", "fit"]


class Validation(NamedTuple):
    """What the plain network, without dropout and augmentation, does on the validation split.

    Attributes:
        loss: Mean over the rows.
        score: A higher one is better.
    """

    loss: float
    score: float


class Objective(Protocol):
    """What a network is trained for."""

    @property
    def score_name(self) -> str:
        """Of the validation score: ``accuracy``, ``r2`` and so on."""
        ...

    def loss(self, outputs: Any, targets: Tensor) -> Tensor:
        """Return the mean loss over the rows of a batch, a scalar; ``outputs`` are as the network returned them."""
        ...

    def validate(self, network: nn.Module) -> Validation:
        """Return what the network does on the validation split; it is left in the mode it was in."""
        ...


def fit(
    network: nn.Module,
    batches: Batches,
    objective: Objective,
    config: TrainConfig,
    *,
    run_dir: Path | None = None,
    show_progress: bool = False,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
    clock: Callable[[], float] = time.monotonic,
) -> Fit:
    """Train a network, and leave it with the weights that did best on validation.

    Best means the highest validation score; among equals the lowest validation loss. Training stops after
    ``config.epochs``, after ``config.patience`` epochs without a better score, or on KeyboardInterrupt; what was best
    until then is kept in each case.

    Args:
        network: Called with the inputs of a batch; trained on the device that it is on, and changed in place.
        batches: The training split.
        objective: Its loss, and the scores on validation that decide which weights are kept.
        config: Optimizer, schedule, precision and patience.
        run_dir: Where checkpoints are kept, from which an unfinished training goes on; None keeps none.
        show_progress: Draw a bar on stderr, where that is a terminal.
        on_epoch: Called with each finished epoch.
        clock: Seconds, for the record only.

    Raises:
        NonFiniteLoss: The loss became NaN or infinite.
        CheckpointError: A checkpoint is damaged, of another run, or cannot be written.
        Interrupted: KeyboardInterrupt came before the first epoch was done.
    """
    # convolutions run up to twice as fast on a CPU in this layout; the numbers stay the same weights
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs omit it
    process = this_process()
    trainer = _Trainer(network, batches, objective, config, process, show_progress=show_progress)
    record = Record()
    checkpoint: Checkpoint | None = None
    stopped: Stopped | None = None
    if run_dir is not None:
        parts = {**trainer.parts, "record": record}
        checkpoint = Checkpoint(run_dir, parts, process=process, config=config, batches=batches)
        stopped = checkpoint.resume()
    try:
        while stopped is None:
            epoch = trainer.run_epoch(len(record.history) + 1, clock)
            record.add(epoch, network)
            if epoch.number == config.epochs:
                stopped = "finished"
            elif record.epochs_without_gain >= config.patience:
                stopped = "early"
            if checkpoint:
                checkpoint.save(stopped)
            if process.is_first:
                on_epoch(epoch)
    except KeyboardInterrupt:
        if record.best is None:
            raise Interrupted("interrupted before the first epoch was done, so there is nothing to keep") from None
        stopped = stopped or "interrupted"
    assert record.best is not None
    network.load_state_dict(record.best_weights)
    network.eval()
    return Fit(history=tuple(record.history), best=record.best, stopped=stopped)


class _Trainer:
    """The network and all that moves its weights."""

    def __init__(
        self,
        network: nn.Module,
        batches: Batches,
        objective: Objective,
        config: TrainConfig,
        process: Process,
        *,
        show_progress: bool,
    ) -> None:
        if batches.world_size != process.world_size:
            raise ValueError(f"batches for {batches.world_size} processes, but there are {process.world_size}")
        self.network, self.batches, self.objective, self.config = network, batches, objective, config
        self.process = process
        self.device = device_of(network)
        self.num_steps = -(-len(batches) // config.accumulate)
        self.model = process.wrap(network, config.seed)
        self.optimizer = make_optimizer(network, config)
        self.schedule = Schedule(self.optimizer, config, steps_per_epoch=self.num_steps)
        self.scaler = make_scaler(config.precision, self.device)
        self.parts: dict[str, Stateful] = {
            "network": network,
            "optimizer": self.optimizer,
            "schedule": self.schedule,
            "scaler": self.scaler,
        }
        self.show_progress = show_progress and process.is_first

    def run_epoch(self, number: int, clock: Callable[[], float]) -> Epoch:
        """Train for one epoch, and look at validation once."""
        started = clock()
        train_loss = self._train(number)
        rate = self.schedule.rate
        validation = self.process.of_first(lambda: self.objective.validate(self.network))
        if not all(map(math.isfinite, validation)):
            raise NonFiniteLoss(
                f"validation came to loss {validation.loss}, score {validation.score} in epoch {number}"
            )
        self.schedule.after_epoch(validation.score)
        return Epoch(
            number=number,
            train_loss=train_loss,
            validation_loss=validation.loss,
            validation_score=validation.score,
            learning_rate=rate,
            duration_s=clock() - started,
        )

    def _train(self, number: int) -> float:
        """Train for one epoch and return the mean loss of its rows."""
        self.network.train()
        total_loss, total_rows = 0.0, 0
        bar = tqdm(
            _groups(self.batches.epoch(number), self.config.accumulate),
            total=self.num_steps,
            desc=f"epoch {number}/{self.config.epochs}",
            unit="step",
            leave=False,
            disable=None if self.show_progress else True,
        )
        for step, group in enumerate(bar, start=1):
            num_rows = int(self.process.total(sum(len(batch.targets) for batch in group)))
            self.optimizer.zero_grad()
            step_loss = 0.0
            for batch in group:
                inputs, targets = moved(batch, self.device)
                share = len(targets) / num_rows
                with mixed(self.config.precision, self.device):
                    outputs = self.model(*inputs)
                    loss = self.objective.loss(outputs, targets)
                # torch averages the gradients of several processes, and what is wanted is their sum
                loss_share: Tensor = self.scaler.scale(loss * share * self.process.world_size)
                loss_share.backward()  # type: ignore[no-untyped-call]
                step_loss += loss.item() * share
            step_loss = self.process.total(step_loss)
            if not math.isfinite(step_loss):
                raise self._non_finite(step_loss, number, step)
            if self.config.clip_norm is not None:
                self.scaler.unscale_(self.optimizer)
                nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip_norm)
            if take_step(self.optimizer, self.scaler):
                self.schedule.after_step()
            total_loss += step_loss * num_rows
            total_rows += num_rows
            bar.set_postfix(loss=f"{total_loss / total_rows:.4f}", refresh=False)
        return total_loss / total_rows

    def _non_finite(self, loss: float, number: int, step: int) -> NonFiniteLoss:
        return NonFiniteLoss(
            f"the loss became {loss} in epoch {number}, step {step} of {self.num_steps}, at a learning rate of "
            f"{self.schedule.rate:.3g}; a lower learning rate may help"
        )


def _groups(batches: Iterable[Batch], size: int) -> Iterator[list[Batch]]:
    """Yield so many batches at a time, and in the end what is left."""
    iterator = iter(batches)
    while group := list(islice(iterator, size)):
        yield group
