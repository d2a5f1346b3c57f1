"""The parts of a manifest that follow from the data, the config and the scores."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.bundle.manifest import (
    DataSource,
    ImageClassification,
    InputStatistics,
    TensorSpec,
    Tolerance,
    TrainingRecord,
)
from app.preprocess.image import ImageInput
from training.config import TrainConfig
from training.data import DataSet, Pictures
from training.evaluate import Scores
from training.loop import Fit
from training.provenance import libraries

NUM_BINS = 16
PIXEL_RANGE = (0.0, 255.0)

# Against the eager outputs of the training machine. Other processors and libraries round otherwise, by about 1e-6 of a
# logit; a hundred times that is still far below what could turn one answer into another.
TOLERANCE = Tolerance(atol=1e-4, rtol=1e-4)
BATCH_TOLERANCE = Tolerance(atol=1e-5, rtol=1e-5)


def image_task(data: Pictures) -> ImageClassification:
    """Return the task: one grey picture of the data set's size in, one of its classes out."""
    _, height, width = data.train.images.shape
    low, high = PIXEL_RANGE
    return ImageClassification(
        image=ImageInput(height=height, width=width, mode="L", low=low, high=high), labels=data.classes
    )


def image_tensors(task: ImageClassification) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Return the tensors that go in and come out of an image classifier."""
    image = TensorSpec(name="image", dtype="float32", shape=("batch", task.image.height, task.image.width))
    outputs = tuple(
        TensorSpec(name=name, dtype="float32", shape=("batch", len(task.labels)))
        for name in ("logits", "probabilities")
    )
    return (image,), outputs


def pixel_statistics(images: NDArray[np.uint8]) -> InputStatistics:
    """Return moments and histogram of pixels, uint8 of shape (N, height, width)."""
    low, high = PIXEL_RANGE
    counts_256 = np.bincount(images.reshape(-1), minlength=256)
    values_256 = np.arange(256, dtype=np.float64)
    mean = float((counts_256 * values_256).sum() / images.size)
    variance = float((counts_256 * (values_256 - mean) ** 2).sum() / images.size)
    histogram, _ = np.histogram(values_256, bins=NUM_BINS, range=(low, high), weights=counts_256 / images.size)
    return InputStatistics(
        minimum=low,
        maximum=high,
        mean=round(mean, 6),
        std=round(variance**0.5, 6),
        histogram=tuple(float(share) for share in histogram.clip(0, 1)),
    )


def training_record(
    config: TrainConfig, data: Pictures, fit: Fit, *, duration_s: float, revision: str
) -> TrainingRecord:
    """Record how the network came to be."""
    return TrainingRecord(
        data=data_source(data),
        seed=config.seed,
        epochs=len(fit.history),
        best_epoch=fit.best.number,
        batch_size=config.batch_size,
        optimizer=optimizer_settings(config, fit),
        duration_s=round(duration_s, 3),
        libraries=libraries(),
        code_revision=revision,
    )


def data_source(data: DataSet[Any]) -> DataSource:
    """Tell which data the network has seen."""
    return DataSource(
        name=data.name,
        license=data.license,
        files=data.files,
        split_rows={"train": len(data.train), "validation": len(data.validation), "test": len(data.test)},
    )


def optimizer_settings(config: TrainConfig, fit: Fit) -> dict[str, Any]:
    """Return everything of the config that moved the weights, and why training stopped."""
    return {
        "name": "AdamW",
        "schedule": "one_cycle",
        "peak_learning_rate": config.learning_rate,
        "warmup": config.warmup,
        "weight_decay": config.weight_decay,
        "label_smoothing": config.label_smoothing,
        "max_epochs": config.epochs,
        "patience": config.patience,
        "augmentation": dataclasses.asdict(config.augmentation),
        "stopped": fit.stopped,
    }


def metrics(test: Scores, fit: Fit, classes: Sequence[str]) -> dict[str, float]:
    """Return what was measured on the test set, and the validation accuracy that the weights were chosen by."""
    return {
        "accuracy": test.accuracy,
        "loss": test.loss,
        "macro_f1": test.macro_f1,
        "validation_accuracy": fit.best.validation_score,
    } | {f"recall/{label}": recall for label, recall in zip(classes, test.recall, strict=True)}
