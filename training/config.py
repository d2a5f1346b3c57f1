"""How a network is trained: one frozen config, and the recipe of each model, fixed before the final run."""

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

    @property
    def name(self) -> str:
        """Of the bundle."""
        return self.architecture

    def __post_init__(self) -> None:
        _check(self)
        for name in ("warmup", "weight_decay", "label_smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 0 and below 1, got {getattr(self, name)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class NumpyConfig:
    """Everything that decides the weights of a NumPy network, next to the data; its optimizer is Adam.

    Attributes:
        name: Of the bundle.
        architecture: A name of `training.architectures`.
        network: Its config, as far as it differs from its defaults; what follows from the data is filled in.
        data_set: A name of `training.data`.
        seed: Decides weights, order and folds.
        epochs: At most.
        batch_size: Rows of each step.
        learning_rate: Of every step.
        weight_decay: Decoupled, of the weights only.
        patience: Epochs without a lower validation loss until training stops early.
        folds: Of the cross-validation.
    """

    name: str
    architecture: str = "numpy_mlp"
    network: Mapping[str, Any] = field(default_factory=dict)
    data_set: str
    seed: int = DEFAULT_SEED
    epochs: int = 300
    batch_size: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 1.0
    patience: int = 30
    folds: int = 10

    def __post_init__(self) -> None:
        _check(self)
        if self.folds < 2:
            raise ValueError(f"folds must be 2 or more, got {self.folds}")
        if not 0 <= self.weight_decay * self.learning_rate < 1:
            raise ValueError(
                f"weight_decay must be 0 or more, and its share of a step below 1, got {self.weight_decay}"
            )


Config = TrainConfig | NumpyConfig


def _check(config: Config) -> None:
    for name in ("epochs", "batch_size", "patience"):
        if getattr(config, name) < 1:
            raise ValueError(f"{name} must be 1 or more, got {getattr(config, name)}")
    if config.seed < 0:
        raise ValueError(f"seed must be 0 or more, got {config.seed}")
    if not (math.isfinite(config.learning_rate) and config.learning_rate > 0):
        raise ValueError(f"learning_rate must be above 0, got {config.learning_rate}")


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


# Chosen by cross-validation over the rows that are not of the test set. The decay is strong, as the rows are few.
_NUMPY_RECIPES: dict[str, dict[str, Any]] = {
    "numpy_mlp": {"data_set": "breast_cancer", "network": {"hidden": (32,), "activation": "tanh"}},
    "numpy_regression": {"data_set": "diabetes", "network": {"hidden": (8,), "activation": "tanh"}},
}


def recipe_names() -> list[str]:
    """Return the names of all recipes, sorted; an architecture without one is trained with the defaults."""
    return sorted((*_RECIPES, *_NUMPY_RECIPES))


def recipe(name: str, **overrides: Any) -> Config:
    """Return the config of a model; an architecture without its own recipe gets the defaults.

    Args:
        name: Of a recipe, which is that of the bundle too; or of an architecture.
        overrides: Fields of the config that differ from the recipe.

    Raises:
        ValueError: An override is impossible; the message names it.
    """
    if name in _NUMPY_RECIPES:
        return NumpyConfig(name=name, **{**_NUMPY_RECIPES[name], **overrides})
    return TrainConfig(architecture=name, **{**_RECIPES.get(name, {}), **overrides})
