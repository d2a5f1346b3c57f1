"""How a network is trained: one frozen config, and the recipe of each architecture, fixed before the final run."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from training.augment import Augmentation

DEFAULT_SEED = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """Everything that decides the weights, next to the data.

    Attributes:
        architecture: A name of `training.architectures`.
        network: Its config, as far as it differs from its defaults.
        data_set: A name of `training.data`.
        seed: Decides weights, order, augmentation and dropout.
        epochs: At most.
        batch_size: Rows of each step.
        learning_rate: The peak of the one-cycle schedule.
        warmup: Share of all steps until that peak.
        weight_decay: Of AdamW.
        label_smoothing: Share of the target spread over all classes.
        patience: Epochs without a better validation accuracy until training stops early.
        augmentation: What may happen to the training pictures.
    """

    architecture: str
    network: Mapping[str, Any] = field(default_factory=dict)
    data_set: str = "fashion_mnist"
    seed: int = DEFAULT_SEED
    epochs: int = 20
    batch_size: int = 128
    learning_rate: float = 1e-3
    warmup: float = 0.2
    weight_decay: float = 0.01
    label_smoothing: float = 0.0
    patience: int = 10
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "patience"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, got {getattr(self, name)}")
        if self.seed < 0:
            raise ValueError(f"seed must be 0 or more, got {self.seed}")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise ValueError(f"learning_rate must be above 0, got {self.learning_rate}")
        for name in ("warmup", "weight_decay", "label_smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 0 and below 1, got {getattr(self, name)}")


# Chosen by validation accuracy alone. A mirrored shoe or bag is still one, so flips are free data.
_RECIPES: dict[str, dict[str, Any]] = {
    "mlp": {
        "network": {"hidden": (512, 256), "dropout": 0.3},
        "epochs": 60,
        "batch_size": 256,
        "learning_rate": 2e-3,
        "weight_decay": 0.1,
        "patience": 20,
        "augmentation": Augmentation(flip=True),
    },
    "cnn": {
        "network": {"dropout": 0.3},
        "epochs": 40,
        "learning_rate": 3e-3,
        "weight_decay": 0.05,
        "patience": 15,
        "augmentation": Augmentation(flip=True, max_shift=1),
    },
}


def recipe(architecture: str, **overrides: Any) -> TrainConfig:
    """Return the config for an architecture; one without its own recipe gets the defaults.

    Raises:
        ValueError: An override is impossible; the message names it.
    """
    return TrainConfig(architecture=architecture, **{**_RECIPES.get(architecture, {}), **overrides})
