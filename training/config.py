"""How a network is trained: one frozen config, and the recipe of each model, fixed before the final run."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

from training.augment import Augmentation

DEFAULT_SEED = 20


OptimizerName = Literal["sgd", "momentum", "nesterov", "rmsprop", "adam", "adamw"]
ScheduleName = Literal["constant", "step", "cosine", "one_cycle", "plateau"]
PrecisionName = Literal["fp32", "bf16", "fp16"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """Everything that decides the weights, next to the data.

    Attributes:
        name: Of the recipe and the bundle; without it that of the architecture.
        architecture: A name of `training.architectures`.
        network: Its config, as far as it differs from its defaults.
        problem: A name of `training.problems`: what is learned, and how it is judged.
        data_set: A name of `training.data`.
        data_options: How its rows are prepared, as far as that differs from the problem's defaults.
        seed: Decides weights, order, augmentation and dropout.
        num_seeds: How many trainings tell how far the score depends on the seed; the bundle holds the first.
        epochs: At most.
        batch_size: Rows of each batch.
        by_length: Put rows of similar length into one batch, where rows differ in length.
        accumulate: Batches of each step; their gradients add up to those of one large batch.
        optimizer: See `training.optim`.
        momentum: Of the optimizers ``momentum`` and ``nesterov``.
        learning_rate: The schedule's peak.
        schedule: See `training.optim`.
        warmup: Share of all steps until the peak, of the schedules ``cosine`` and ``one_cycle``.
        decay_epochs: Of the schedule ``step``, epochs between two falls; of ``plateau``, epochs without a better
            validation score until one.
        decay_factor: What ``step`` and ``plateau`` multiply the learning rate by.
        weight_decay: Decoupled from the gradient in ``adamw``, part of it in the others.
        decay_matrices_only: Leave biases and the scales of normalizations without weight decay.
        clip_norm: Most that the norm of all gradients together may be; None leaves them as they are.
        precision: Of the network's arithmetic while training; its weights are float32 in each.
        label_smoothing: Share of the target spread over all classes.
        patience: Epochs without a better validation score until training stops early.
        augmentation: What may happen to the training pictures.
    """

    name: str = ""
    architecture: str
    network: Mapping[str, Any] = field(default_factory=dict)
    problem: str = "image_classification"
    data_set: str = "fashion_mnist"
    data_options: Mapping[str, Any] = field(default_factory=dict)
    seed: int = DEFAULT_SEED
    num_seeds: int = 1
    epochs: int = 20
    batch_size: int = 128
    by_length: bool = False
    accumulate: int = 1
    optimizer: OptimizerName = "adamw"
    momentum: float = 0.9
    learning_rate: float = 1e-3
    schedule: ScheduleName = "one_cycle"
    warmup: float = 0.2
    decay_epochs: int = 10
    decay_factor: float = 0.1
    weight_decay: float = 0.01
    decay_matrices_only: bool = False
    clip_norm: float | None = None
    precision: PrecisionName = "fp32"
    label_smoothing: float = 0.0
    patience: int = 10
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", self.architecture)
        _check(self)
        for name in ("accumulate", "decay_epochs", "num_seeds"):
            _check_number(self, name, getattr(self, name) >= 1, "1 or more")
        for name in ("warmup", "weight_decay", "label_smoothing"):
            _check_number(self, name, 0 <= getattr(self, name) < 1, "at least 0 and below 1")
        for name in ("momentum", "decay_factor"):
            _check_number(self, name, 0 < getattr(self, name) < 1, "above 0 and below 1")
        possible = self.clip_norm is None or 0 < self.clip_norm < math.inf
        _check_number(self, "clip_norm", possible, "above 0, or None for no clipping")
        for name, choices in (("optimizer", OptimizerName), ("schedule", ScheduleName), ("precision", PrecisionName)):
            if (value := getattr(self, name)) not in get_args(choices):
                raise ValueError(f"there is no {name} {value!r}, there are: {', '.join(get_args(choices))}")


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
        _check_number(config, name, getattr(config, name) >= 1, "1 or more")
    _check_number(config, "seed", config.seed >= 0, "0 or more")
    _check_number(config, "learning_rate", 0 < config.learning_rate < math.inf, "above 0")


def _check_number(config: Config, name: str, possible: bool, bounds: str) -> None:
    if not possible:
        raise ValueError(f"{name} must be {bounds}, got {getattr(config, name)}")


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
    "rnn": {
        "problem": "sequence_classification",
        "data_set": "japanese_vowels",
        "num_seeds": 5,
        "network": {"pooling": "last", "noise": 0.6},
        "epochs": 60,
        "batch_size": 16,
        "learning_rate": 8e-3,
        "warmup": 0.3,
        "clip_norm": 1.0,
        "patience": 60,
    },
    "lstm": {
        "problem": "text_classification",
        "data_set": "spam_assassin",
        "network": {"dropout": 0.5, "word_dropout": 0.4},
        "epochs": 15,
        "batch_size": 32,
        "by_length": True,
        "learning_rate": 4e-3,
        "weight_decay": 0.1,
        "label_smoothing": 0.1,
        "clip_norm": 1.0,
        "patience": 15,
    },
    "transformer": {
        "problem": "text_classification",
        "data_set": "spam_assassin",
        # attention takes memory by the square of the length: two long texts fill the cache, and four run slower each
        "data_options": {"max_elements": 1024},
        "network": {"dropout": 0.3, "word_dropout": 0.5},
        "epochs": 14,
        "batch_size": 16,
        "by_length": True,
        "learning_rate": 1e-3,
        "weight_decay": 0.1,
        "label_smoothing": 0.1,
        "clip_norm": 1.0,
        "patience": 14,
    },
    "autoencoder": {
        "problem": "image_reconstruction",
        "network": {"channels": (32, 64)},
        "epochs": 15,
        "batch_size": 128,
        "learning_rate": 5e-3,
        "weight_decay": 0.0,
        "patience": 15,
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
        ValueError: An override is unknown or impossible; the message names it.
    """
    known = {field.name for field in fields(NumpyConfig if name in _NUMPY_RECIPES else TrainConfig)}
    if unknown := sorted(set(overrides) - known):
        raise ValueError(f"there is no setting {unknown[0]!r} of {name}, there are: {', '.join(sorted(known))}")
    if name in _NUMPY_RECIPES:
        return NumpyConfig(name=name, **{**_NUMPY_RECIPES[name], **overrides})
    return TrainConfig(**{"name": name, "architecture": name, **_RECIPES.get(name, {}), **overrides})
