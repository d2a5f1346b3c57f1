"""One grey picture in; a narrow code, and what can be drawn again from it, out. The error tells what is unusual.

Shape suffixes: N rows of the split, B rows of the batch, H height, W width, D numbers of the code.
"""

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from app.bundle.golden import GoldenRows
from app.bundle.manifest import ImageReconstruction, InputStatistics, TaskSettings, TensorSpec
from app.tensors import Tensors
from training.baselines import principal_components
from training.config import TrainConfig
from training.data import DataSet, Rows
from training.errors import ConfigError
from training.examples import PictureExamples
from training.export.verify import Run, run_in_batches
from training.inference import batches_in_order, inference
from training.loop import Validation
from training.metrics import reconstruction_scores
from training.problems import Found, Problem
from training.problems._options import expect_options, expect_positive, expect_rows
from training.problems._pictures import (
    INPUT,
    PIXEL_RANGE,
    as_inputs,
    digits,
    golden_pictures,
    image_input,
    image_spec,
    measured_size,
    pixel_statistics,
)
from training.report import Evaluation, evaluate_reconstruction

_SPAN = PIXEL_RANGE[1] - PIXEL_RANGE[0]
_BATCH_SIZE = 500


class ImageReconstructionProblem(Problem[Rows]):
    """Pictures, which are their own targets; see :class:`training.problems.Problem`.

    Args:
        config: Of the training; the option ``threshold_quantile`` is the share of validation pictures whose error may
            lie at or below the threshold of anomalies.
        data: Its classes are not used.
    """

    # and not the error: a point of it means the same as one of accuracy, where variants are held against each other
    score_name: ClassVar[str] = "r2"

    def __init__(self, config: TrainConfig, data: DataSet[Rows], *, code_size: int, threshold_quantile: float) -> None:
        self.data = data
        self._augmentation = config.augmentation
        self._code_size = code_size
        self._quantile = threshold_quantile
        self._validation = self.examples(data.validation)
        self._validation_spread = spread(data.validation.images)
        self.inputs = (image_spec(data.train.images),)
        shapes: dict[str, tuple[int, ...]] = {
            "error": (),
            "code": (code_size,),
            "reconstruction": data.train.images.shape[1:],
        }
        self.outputs = tuple(
            TensorSpec(name=name, dtype="float32", shape=("batch", *shape)) for name, shape in shapes.items()
        )

    def measured(self) -> dict[str, Any]:
        """Return the sizes; see :class:`training.problems.Problem`."""
        return {**measured_size(self.data.train.images), "code_size": self._code_size}

    def examples(self, rows: Rows, *, augmented: bool = False) -> PictureExamples:
        """Return pictures; see :class:`training.problems.Problem`."""
        return PictureExamples(rows.images, None, self._augmentation if augmented else None)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean squared difference on the scale from 0 to 1, of pixels of shape (B, H, W)."""
        return (((outputs - targets) / _SPAN) ** 2).mean()

    def validate(self, network: nn.Module) -> Validation:
        """Return the mean squared difference and R2; see :class:`training.problems.Problem`."""
        total = 0.0
        with inference(network) as device:  # sums, as the reconstructions themselves are not needed
            for indices_B, batch in batches_in_order(self._validation, _BATCH_SIZE):
                pixels_BHW = batch.inputs[0].to(device)
                total += self.loss(network(pixels_BHW), pixels_BHW).item() * len(indices_B)
        mse = total / len(self._validation)
        return Validation(loss=mse, score=1 - mse / self._validation_spread)

    def settings(self, run: Run) -> ImageReconstruction:
        """Return the size, and the threshold that follows from the validation pictures; see the base class."""
        errors_N = run_in_batches(run, self.tensors(self.data.validation), _BATCH_SIZE)["error"]
        return ImageReconstruction(
            image=image_input(self.data.train.images),
            code_size=self._code_size,
            threshold=float(f"{np.quantile(errors_N, self._quantile):.6g}"),
            threshold_quantile=self._quantile,
        )

    def tensors(self, rows: Rows) -> Tensors:
        """Return the pixels; see :class:`training.problems.Problem`."""
        return as_inputs(rows.images)

    def golden(self, run: Run, settings: TaskSettings) -> GoldenRows:
        """Return edges and validation pictures; see :class:`training.problems.Problem`."""
        assert isinstance(settings, ImageReconstruction)
        requests, inputs = golden_pictures(self.data.validation)
        outputs = run(inputs)
        responses = [
            {
                "error": float(error),
                "anomaly": float(error) > settings.threshold,
                "code": code_D.tolist(),
                "reconstruction": reconstruction_HW.tolist(),
            }
            for error, code_D, reconstruction_HW in zip(
                outputs["error"], outputs["code"], outputs["reconstruction"], strict=True
            )
        ]
        return GoldenRows(requests=requests, inputs=inputs, outputs=outputs, responses=responses)

    def score(self, outputs: Tensors, rows: Rows) -> float:
        """Return R2; see :class:`training.problems.Problem`."""
        # the network has compared the pictures itself
        return 1 - float(outputs["error"].mean(dtype=np.float64)) / spread(rows.images)

    def evaluate(self, found: Found) -> Evaluation:
        """Measure and draw, and try pictures of another kind: handwritten digits; see the base class."""
        assert isinstance(found.settings, ImageReconstruction)
        train, validation, test = self.data.train, self.data.validation, self.data.test
        low, high = PIXEL_RANGE
        digits_KHW = digits(*test.images.shape[1:])
        rebuilt_NHW = found.sample["reconstruction"]
        return evaluate_reconstruction(
            originals_MHW=test.images,
            reconstructions_MHW=found.test["reconstruction"],
            validation_originals_NHW=validation.images,
            validation_reconstructions_NHW=found.validation["reconstruction"],
            low=low,
            high=high,
            threshold=found.settings.threshold,
            course=found.course,
            train_r2=reconstruction_scores(rebuilt_NHW / _SPAN, self.sample().images / _SPAN).r2,
            baseline=principal_components(
                np.concatenate([train.images, validation.images]), test.images, self._code_size
            ),
            other_errors_K=run_in_batches(found.run, {INPUT: digits_KHW}, _BATCH_SIZE)["error"],
            other_name="handwritten digits",
        )

    def statistics(self) -> dict[str, InputStatistics]:
        """Return those of all pixels; see :class:`training.problems.Problem`."""
        return {INPUT: pixel_statistics(self.data.train.images)}


def spread(images_NHW: NDArray[np.uint8]) -> float:
    """Return the mean squared difference of pictures from their mean picture, on the scale from 0 to 1.

    Raises:
        ValueError: All pictures are the same, so that there is no R2.
    """
    # of whole numbers, so that pictures that are all the same come to zero and not to nearly zero
    variance = float(images_NHW.var(axis=0, dtype=np.float64).mean())
    if not variance > 0:
        raise ValueError(f"there is no R2 of {len(images_NHW)} pictures that are all the same")
    return variance / _SPAN**2


def create(config: TrainConfig, data: DataSet[Rows]) -> ImageReconstructionProblem:
    """Return the problem; see :func:`training.problems.create`."""
    expect_rows(data, Rows, problem="image_reconstruction")
    options = expect_options(config.data_options, {"code_size": 32, "threshold_quantile": 0.99})
    expect_positive(options, *options)
    if options["threshold_quantile"] >= 1:
        raise ConfigError(
            f"the data option 'threshold_quantile' must be below 1, got {options['threshold_quantile']!r}"
        )
    return ImageReconstructionProblem(config, data, **options)
