"""The record of a training: what each epoch came to, which one was best, and how it ended."""

import json
import math
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from torch import Tensor, nn

Stopped = Literal["finished", "early", "interrupted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """What one epoch came to.

    Attributes:
        number: Counted from 1.
        train_loss: Mean over the epoch's rows, with dropout, augmentation and label smoothing.
        validation_loss: Of the plain network.
        validation_score: Of the plain network; a higher one is better.
        learning_rate: At its last step.
        duration_s: Seconds for training and validation.
    """

    number: int
    train_loss: float
    validation_loss: float
    validation_score: float
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
    stopped: Stopped


@dataclass(slots=True)
class Record:
    """The epochs so far, and the weights of the best of them.

    Attributes:
        history: All finished epochs.
        best: The one with the highest validation score; among equals with the lowest validation loss.
        best_weights: The network's state after it.
    """

    history: list[Epoch] = field(default_factory=list)
    best: Epoch | None = None
    best_weights: dict[str, Tensor] = field(default_factory=dict)

    def add(self, epoch: Epoch, network: nn.Module) -> None:
        """Add an epoch, and keep the network's weights if it is the best."""
        self.history.append(epoch)
        if self.best is None or _rank(epoch) > _rank(self.best):
            self.best = epoch
            self.best_weights = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}

    def state_dict(self) -> dict[str, Any]:
        """Return the record as tensors, numbers and containers of them."""
        return {
            "history": [asdict(epoch) for epoch in self.history],
            "best": None if self.best is None else asdict(self.best),
            "best_weights": self.best_weights,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the record of another run."""
        self.history = [Epoch(**epoch) for epoch in state["history"]]
        self.best = None if state["best"] is None else Epoch(**state["best"])
        self.best_weights = dict(state["best_weights"])

    @property
    def epochs_without_gain(self) -> int:
        """How many epochs there were since the score last rose above all before it."""
        scores = [epoch.validation_score for epoch in self.history]
        return len(scores) - 1 - scores.index(max(scores))


def epoch_json(epoch: Epoch) -> str:
    """Return an epoch as one line of JSON, for machines; a number that is not finite becomes null."""
    return json.dumps({name: value if math.isfinite(value) else None for name, value in asdict(epoch).items()})


def _rank(epoch: Epoch) -> tuple[float, float]:
    return epoch.validation_score, -epoch.validation_loss
