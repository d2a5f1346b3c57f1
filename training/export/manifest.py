"""The parts of a manifest that tell of the training."""

import dataclasses
from typing import Any

from app.bundle.manifest import DataSource, Tolerance, TrainingRecord
from training.config import TrainConfig
from training.data import DataSet
from training.trained import Trained

NUM_BINS = 16

# Against the eager outputs of the training machine. Other processors and libraries round otherwise, by about 1e-6 of a
# logit; a hundred times that is still far below what could turn one answer into another.
TOLERANCE = Tolerance(atol=1e-4, rtol=1e-4)
BATCH_TOLERANCE = Tolerance(atol=1e-5, rtol=1e-5)

_TOLD_ELSEWHERE = frozenset(
    ("name", "architecture", "problem", "network", "data_set", "data_options", "seed", "num_seeds", "epochs")
) | {"batch_size"}


def training_record(trained: Trained, data: DataSet[Any]) -> TrainingRecord:
    """Record how the network came to be."""
    return TrainingRecord(
        data=data_source(data),
        seed=trained.seed,
        epochs=len(trained.history),
        best_epoch=trained.best_epoch,
        batch_size=trained.batch_size,
        optimizer=trained.optimizer,
        duration_s=round(trained.duration_s, 3),
        libraries=trained.libraries,
        code_revision=trained.code_revision,
    )


def data_source(data: DataSet[Any]) -> DataSource:
    """Tell which data the network has seen."""
    return DataSource(
        name=data.name,
        license=data.license,
        files=data.files,
        split_rows={"train": len(data.train), "validation": len(data.validation), "test": len(data.test)},
    )


def optimizer_settings(config: TrainConfig, stopped: str) -> dict[str, Any]:
    """Return everything of the config that moved the weights, and why training stopped."""
    values = {name: value for name, value in dataclasses.asdict(config).items() if name not in _TOLD_ELSEWHERE}
    return {"name": values.pop("optimizer")} | values | {"max_epochs": config.epochs, "stopped": stopped}
