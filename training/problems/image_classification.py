"""One grey picture in, one of the data set's classes out.

Shape suffixes: N rows of the split, H height, W width.
"""

from typing import Any

import numpy as np

from app.bundle.golden import GoldenRows
from app.bundle.manifest import ImageClassification, InputStatistics, TaskSettings
from app.tensors import Array, Tensors
from training.baselines import Baseline, logistic_regression_of_pictures
from training.config import TrainConfig
from training.data import DataSet, Rows
from training.examples import PictureExamples
from training.export.verify import Run
from training.problems._classification import Classification
from training.problems._options import expect_options, expect_rows
from training.problems._pictures import (
    INPUT,
    as_inputs,
    golden_pictures,
    image_input,
    image_spec,
    measured_size,
    pixel_statistics,
)


class ImageClassificationProblem(Classification[Rows]):
    """Pictures and their classes; see :class:`training.problems.Problem`."""

    def __init__(self, config: TrainConfig, data: DataSet[Rows]) -> None:
        self._augmentation = config.augmentation
        super().__init__(data, label_smoothing=config.label_smoothing)
        self.inputs = (image_spec(data.train.images),)

    def measured(self) -> dict[str, Any]:
        """Return size, classes and scale; see :class:`training.problems.Problem`."""
        return {**measured_size(self.data.train.images), "num_classes": len(self.data.classes)}

    def labels(self, rows: Rows) -> Array:
        """Return the class of each picture."""
        return rows.labels

    def images(self, rows: Rows) -> Array:
        """Return the pictures; nobody is on them."""
        return rows.images

    def baseline(self) -> Baseline:
        """Return logistic regression on pixels; see the base class."""
        train, validation, test = self.data.train, self.data.validation, self.data.test
        return logistic_regression_of_pictures(
            np.concatenate([train.images, validation.images]),
            np.concatenate([train.labels, validation.labels]),
            test.images,
            test.labels,
            num_classes=len(self.data.classes),
        )

    def examples(self, rows: Rows, *, augmented: bool = False) -> PictureExamples:
        """Return pictures and classes; see :class:`training.problems.Problem`."""
        return PictureExamples(rows.images, rows.labels, self._augmentation if augmented else None)

    def settings(self, run: Run) -> ImageClassification:
        """Return size, range and labels; see :class:`training.problems.Problem`."""
        del run
        return ImageClassification(image=image_input(self.data.train.images), labels=self.data.classes)

    def tensors(self, rows: Rows) -> Tensors:
        """Return the pixels; see :class:`training.problems.Problem`."""
        return as_inputs(rows.images)

    def golden(self, run: Run, settings: TaskSettings) -> GoldenRows:
        """Return edges and validation pictures; see :class:`training.problems.Problem`."""
        del settings
        return self.answer(*golden_pictures(self.data.validation), run)

    def statistics(self) -> dict[str, InputStatistics]:
        """Return those of all pixels; see :class:`training.problems.Problem`."""
        return {INPUT: pixel_statistics(self.data.train.images)}


def create(config: TrainConfig, data: DataSet[Rows]) -> ImageClassificationProblem:
    """Return the problem; see :func:`training.problems.create`."""
    expect_rows(data, Rows, problem="image_classification")
    expect_options(config.data_options, {})
    return ImageClassificationProblem(config, data)
