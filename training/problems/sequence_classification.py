"""One series of any length in, one of the data set's classes out.

Shape suffixes: N rows of the split, T steps, K channels.
"""

from typing import Any, ClassVar, Literal

import numpy as np

from app.bundle.golden import GoldenRows
from app.bundle.manifest import InputStatistics, SequenceClassification, SequenceInput, TaskSettings, TensorSpec
from app.tensors import LENGTHS, Array, Tensors
from training.baselines import Baseline, nearest_neighbor
from training.config import TrainConfig
from training.data import SequenceRows, Sequences
from training.errors import ConfigError
from training.examples import RaggedExamples, pad
from training.export.golden import NUM_REAL_ROWS
from training.export.tables import column_statistics
from training.export.verify import Run
from training.problems._classification import Classification, column_moments
from training.problems._options import expect_options, expect_rows, part_of_manifest

INPUT = "sequence"
MAX_ROWS = 32


class SequenceClassificationProblem(Classification[SequenceRows]):
    """Series and their classes; see :class:`training.problems.Problem`.

    Args:
        config: Of the training; the options ``min_length`` and ``max_length`` bound what the service takes.
        data: Series.
    """

    int8: ClassVar[Literal["weight_only"]] = "weight_only"
    data: Sequences

    def __init__(self, config: TrainConfig, data: Sequences, *, min_length: int, max_length: int) -> None:
        self._bounds = part_of_manifest(
            SequenceInput, num_channels=data.num_channels, min_length=min_length, max_length=max_length
        )
        for name in ("train", "validation", "test"):
            _expect_within(getattr(data, name), self._bounds, where=f"{data.name}, {name} split")
        super().__init__(data, label_smoothing=config.label_smoothing)
        self.max_elements = MAX_ROWS * max_length
        self.inputs = (
            TensorSpec(name=INPUT, dtype="float32", shape=("batch", "time", data.num_channels)),
            TensorSpec(name=LENGTHS, dtype="int64", shape=("batch",)),
        )

    @property
    def longest(self) -> dict[str, int]:
        """Return the bound of the service; see :class:`training.problems.Problem`."""
        return {"time": self._bounds.max_length}

    def measured(self) -> dict[str, Any]:
        """Return channels, classes and scale; see :class:`training.problems.Problem`."""
        means, stds = column_moments(np.concatenate(self.data.train.series))
        return {
            "num_channels": self.data.num_channels,
            "num_classes": len(self.data.classes),
            "input_mean": means,
            "input_std": stds,
        }

    def labels(self, rows: SequenceRows) -> Array:
        """Return the class of each series."""
        return rows.labels

    def lengths(self, rows: SequenceRows) -> Array:
        """Return the steps of each series."""
        return np.array([len(each_TK) for each_TK in rows.series], np.int64)

    def baseline(self) -> Baseline:
        """Return the nearest neighbor under dynamic time warping; see the base class."""
        train, validation, test = self.data.train, self.data.validation, self.data.test
        return nearest_neighbor(
            (*train.series, *validation.series),
            np.concatenate([train.labels, validation.labels]),
            test.series,
            test.labels,
            num_classes=len(self.data.classes),
        )

    def examples(self, rows: SequenceRows, *, augmented: bool = False) -> RaggedExamples:
        """Return padded series and classes; see :class:`training.problems.Problem`."""
        del augmented
        return RaggedExamples(rows.series, rows.labels)

    def settings(self, run: Run) -> SequenceClassification:
        """Return the bounds and labels; see :class:`training.problems.Problem`."""
        del run
        return SequenceClassification(sequence=self._bounds, labels=self.data.classes)

    def tensors(self, rows: SequenceRows) -> Tensors:
        """Return the padded series and their lengths; see :class:`training.problems.Problem`."""
        return as_inputs(rows.series)

    def golden(self, run: Run, settings: TaskSettings) -> GoldenRows:
        """Return edges and validation series; see :class:`training.problems.Problem`."""
        del settings
        series = [*self._edges(), *self.data.validation.series[:NUM_REAL_ROWS]]
        requests = [{INPUT: [[float(value) for value in step_K] for step_K in each_TK]} for each_TK in series]
        return self.answer(requests, as_inputs(series), run)

    def _edges(self) -> list[Array]:
        """Return series at the edges of what can be asked.

        They are zeros of the least, of a middle and of the greatest length; the extremes of each channel in turn;
        the means, again and again, of the least length; a ramp; and noise of the greatest length.
        """
        steps_NK = np.concatenate(self.data.train.series)
        shortest, longest = self._bounds.min_length, self._bounds.max_length
        low_K, mean_K, high_K = steps_NK.min(axis=0), steps_NK.mean(axis=0), steps_NK.max(axis=0)
        ramp_T1 = np.linspace(0, 1, longest)[:, None]
        noise_TK = np.random.default_rng(0).normal(mean_K, steps_NK.std(axis=0), (longest, len(mean_K)))
        edges = [
            *(np.zeros((length, len(mean_K))) for length in (shortest, (shortest + longest) // 2, longest)),
            np.stack([low_K, high_K] * -(-longest // 2))[:longest],
            np.tile(mean_K, (shortest, 1)),
            low_K + ramp_T1 * (high_K - low_K),
            noise_TK,
        ]
        return [edge_TK.astype(np.float32) for edge_TK in edges]

    def statistics(self) -> dict[str, InputStatistics]:
        """Return those of every channel, and of the lengths; see :class:`training.problems.Problem`."""
        series = self.data.train.series
        channels = {
            f"{INPUT}/{index}": column_statistics(column_N.astype(np.float64))
            for index, column_N in enumerate(np.concatenate(series).T)
        }
        return channels | {LENGTHS: column_statistics(np.array([len(each) for each in series], np.float64))}


def _expect_within(rows: SequenceRows, bounds: SequenceInput, *, where: str) -> None:
    """Refuse series that the service would refuse: of no steps, of too few or of too many.

    Raises:
        ConfigError: There is one; the message names it.
    """
    for number, each_TK in enumerate(rows.series, 1):
        if not bounds.min_length <= len(each_TK) <= bounds.max_length:
            raise ConfigError(
                f"{where}, series {number}: {len(each_TK)} steps, expected {bounds.min_length} to {bounds.max_length}; "
                "leave it out, or change the data options 'min_length' and 'max_length'"
            )


def as_inputs(series: list[Array] | tuple[Array, ...]) -> Tensors:
    """Return series as they are fed to the served network."""
    padded_NTK, lengths_N = pad(series)
    return {INPUT: padded_NTK, LENGTHS: lengths_N}


def create(config: TrainConfig, data: Sequences) -> SequenceClassificationProblem:
    """Return the problem; see :func:`training.problems.create`."""
    expect_rows(data, SequenceRows, problem="sequence_classification")
    options = expect_options(config.data_options, {"min_length": data.min_length, "max_length": data.max_length})
    return SequenceClassificationProblem(config, data, **options)
