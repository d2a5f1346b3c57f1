"""One grey picture in, one of the data set's classes out.

Shape suffixes: N rows of the split, B golden rows, H height, W width.
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
from training.export.golden import NUM_REAL_ROWS, edge_images
from training.export.verify import Run
from training.problems._classification import Classification
from training.problems._options import expect_options
from training.problems._pictures import image_input, image_spec, pixel_statistics


class ImageClassificationProblem(Classification[Rows]):
    """Pictures and their classes; see :class:`training.problems.Problem`."""

    def __init__(self, config: TrainConfig, data: DataSet[Rows]) -> None:
        self._augmentation = config.augmentation
        super().__init__(data, label_smoothing=config.label_smoothing)
        self.inputs = (image_spec(data.train.images),)

    def measured(self) -> dict[str, Any]:
        """Return size, classes and scale; see :class:`training.problems.Problem`."""
        _, height, width = self.data.train.images.shape
        pixels = pixel_statistics(self.data.train.images)
        return {
            "height": height,
            "width": width,
            "num_classes": len(self.data.classes),
            "input_mean": round(pixels.mean, 4),
            "input_std": round(pixels.std, 4),
        }

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
        return {"image": rows.images.astype(np.float32)}

    def golden(self, run: Run, settings: TaskSettings) -> GoldenRows:
        """Return edges and validation pictures; see :class:`training.problems.Problem`."""
        del settings
        images_NHW = self.data.validation.images
        images_BHW = np.concatenate([edge_images(*images_NHW.shape[1:]), images_NHW[:NUM_REAL_ROWS]])
        requests = [{"image": image_HW.tolist()} for image_HW in images_BHW]
        return self.answer(requests, {"image": images_BHW.astype(np.float32)}, run)

    def statistics(self) -> dict[str, InputStatistics]:
        """Return those of all pixels; see :class:`training.problems.Problem`."""
        return {"image": pixel_statistics(self.data.train.images)}


def create(config: TrainConfig, data: DataSet[Rows]) -> ImageClassificationProblem:
    """Return the problem; see :func:`training.problems.create`."""
    expect_options(config.data_options, {})
    return ImageClassificationProblem(config, data)
