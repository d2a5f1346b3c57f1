"""What the service makes of requests and outputs, written down once more for the golden rows: the service checks it.

Shape suffixes: B rows, F features, H height, W width, T steps or tokens, C channels or classes.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from app.bundle.manifest import (
    GenericTensors,
    ImageClassification,
    SequenceClassification,
    TabularClassification,
    TabularRegression,
    TaskSettings,
    TensorSpec,
    TextClassification,
)
from app.preprocess.text import TextPreparation
from app.tensors import LENGTHS, Array, Tensors
from training.errors import PackageRefused
from training.examples import pad
from training.export import tables
from training.export.golden import edge_images, response
from training.export.verify import PROBABILITIES, VALUE
from training.problems._golden_texts import GOLDEN_TEXTS

Requests = list[Any]

# of numbers without a bound
_WIDE = 1e3


class Kind(ABC):
    """One kind of task, with the settings of one model."""

    inputs: tuple[TensorSpec, ...]

    @property
    @abstractmethod
    def settings(self) -> TaskSettings:
        """The task of the manifest."""

    @property
    def labels(self) -> tuple[str, ...] | None:
        """The labels, where there are any."""
        settings = self.settings
        return None if isinstance(settings, GenericTensors | TabularRegression) else getattr(settings, "labels", None)

    @abstractmethod
    def draw(self, generator: np.random.Generator, count: int, steps: int) -> Requests:
        """Return requests at the edges of what can be asked, and random ones.

        Args:
            generator: Decides the random ones.
            count: How many of these.
            steps: Length of open axes, where all rows must have the same.
        """

    @abstractmethod
    def tensors(self, requests: Requests) -> Tensors:
        """Return the tensors of requests.

        Raises:
            PackageRefused: One is not what the model takes; the message names the row.
        """

    @abstractmethod
    def requests(self, arrays: Mapping[str, Array]) -> Requests:
        """Return the requests that become the rows of arrays.

        Raises:
            PackageRefused: The arrays are others than the model takes.
        """

    def responses(self, outputs: Tensors) -> Requests:
        """Return the predictions that a service would answer with."""
        assert self.labels is not None
        return [response(row_C, self.labels) for row_C in outputs[PROBABILITIES]]


class Tables(Kind):
    """Rows of features."""

    def __init__(self, settings: TabularClassification | TabularRegression, spec: TensorSpec) -> None:
        self._settings = settings
        self._features = settings.features
        self.inputs = (spec,)

    @property
    def settings(self) -> TaskSettings:
        """See :class:`Kind`."""
        return self._settings

    def draw(self, generator: np.random.Generator, count: int, steps: int) -> Requests:
        """Return the least, the greatest and the typical of each feature, and numbers between; see :class:`Kind`."""
        del steps
        low_F, high_F = (np.array([getattr(each, side) for each in self._features]) for side in ("low", "high"))
        typical_F = np.array([feature.typical for feature in self._features])
        random_BF = generator.uniform(0, 1, (count, len(low_F)))
        rows_BF = np.concatenate([[low_F, high_F, typical_F], low_F + random_BF * (high_F - low_F)])
        rows_BF = rows_BF.astype(np.float32).astype(np.float64).clip(low_F, high_F)
        return self._named(rows_BF)

    def tensors(self, requests: Requests) -> Tensors:
        """See :class:`Kind`."""
        names = [feature.name for feature in self._features]
        rows: list[list[float]] = []
        for index, request in enumerate(requests):
            features = _member(request, "features", index)
            if not isinstance(features, dict) or set(features) != set(names):
                raise PackageRefused(f"row {index} has not the features {', '.join(names)}")
            rows.append([_number(features[name], index, name) for name in names])
        rows_BF = np.array(rows)
        for column, feature in enumerate(self._features):
            _expect_within(rows_BF[:, column], feature.low, feature.high, feature.name)
        return {self.inputs[0].name: rows_BF.astype(np.float32)}

    def requests(self, arrays: Mapping[str, Array]) -> Requests:
        """See :class:`Kind`."""
        return self._named(_only(arrays, (len(self._features),)))

    def responses(self, outputs: Tensors) -> Requests:
        """See :class:`Kind`."""
        if isinstance(self._settings, TabularRegression):
            return [{"value": float(value)} for value in outputs[VALUE]]
        return super().responses(outputs)

    def _named(self, rows_BF: Array) -> Requests:
        names = [feature.name for feature in self._features]
        return [{tables.INPUT: dict(zip(names, row_F.tolist(), strict=True))} for row_F in rows_BF]


class Pictures(Kind):
    """Grey pictures."""

    def __init__(self, settings: ImageClassification, spec: TensorSpec) -> None:
        self._settings = settings
        self.inputs = (spec,)

    @property
    def settings(self) -> TaskSettings:
        """See :class:`Kind`."""
        return self._settings

    def draw(self, generator: np.random.Generator, count: int, steps: int) -> Requests:
        """Return black, white, patterns and noise, see :func:`edge_images`; see :class:`Kind`."""
        del steps
        image = self._settings.image
        noise_BHW = generator.integers(0, 256, (count, image.height, image.width))
        shares_BHW = np.concatenate([edge_images(image.height, image.width), noise_BHW]) / 255
        pixels_BHW = (image.low + shares_BHW * (image.high - image.low)).astype(np.float32)
        return [{"image": image_HW.tolist()} for image_HW in pixels_BHW.clip(image.low, image.high)]

    def tensors(self, requests: Requests) -> Tensors:
        """See :class:`Kind`."""
        image = self._settings.image
        rows = [_array(_member(each, "image", index), index) for index, each in enumerate(requests)]
        for index, row in enumerate(rows):
            _expect_shape(row, (image.height, image.width), index)
            _expect_within(row, image.low, image.high, "image")
        return {self.inputs[0].name: np.stack(rows).astype(np.float32)}

    def requests(self, arrays: Mapping[str, Array]) -> Requests:
        """See :class:`Kind`."""
        image = self._settings.image
        return [{"image": image_HW.tolist()} for image_HW in _only(arrays, (image.height, image.width))]


class Series(Kind):
    """Series of steps, of different lengths."""

    def __init__(self, settings: SequenceClassification, inputs: tuple[TensorSpec, ...]) -> None:
        self._settings = settings
        self._spec = settings.sequence
        self.inputs = inputs

    @property
    def settings(self) -> TaskSettings:
        """See :class:`Kind`."""
        return self._settings

    def draw(self, generator: np.random.Generator, count: int, steps: int) -> Requests:
        """Return the shortest and the longest of the least and the greatest, and noise; see :class:`Kind`."""
        del steps
        spec = self._spec
        lengths = [spec.min_length, spec.max_length] * 2
        lengths += generator.integers(spec.min_length, spec.max_length + 1, count).tolist()
        low, high = max(spec.low, -_WIDE), min(spec.high, _WIDE)
        series = [generator.uniform(low, high, (length, spec.num_channels)) for length in lengths]
        series[0][:], series[1][:] = low, high
        return [{"sequence": row_TC.astype(np.float32).clip(low, high).tolist()} for row_TC in series]

    def tensors(self, requests: Requests) -> Tensors:
        """See :class:`Kind`."""
        spec = self._spec
        rows = [_array(_member(each, "sequence", index), index) for index, each in enumerate(requests)]
        for index, row in enumerate(rows):
            _expect_shape(row, (len(row), spec.num_channels), index)
            if not spec.min_length <= len(row) <= spec.max_length:
                raise PackageRefused(f"row {index} has {len(row)} steps, not {spec.min_length} to {spec.max_length}")
            _expect_within(row, spec.low, spec.high, "sequence")
        padded_BTC, lengths_B = pad([row.astype(np.float32) for row in rows])
        return {self.inputs[0].name: padded_BTC, LENGTHS: lengths_B}

    def requests(self, arrays: Mapping[str, Array]) -> Requests:
        """See :class:`Kind`."""
        names = {LENGTHS, self.inputs[0].name}
        if set(arrays) != names or arrays[LENGTHS].ndim != 1:
            raise PackageRefused(f"expected arrays named {', '.join(sorted(names))}, found {', '.join(sorted(arrays))}")
        rows = zip(arrays[self.inputs[0].name], arrays[LENGTHS].tolist(), strict=True)
        return [{"sequence": row_TC[:length].tolist()} for row_TC, length in rows]


class WrittenTexts(Kind):
    """Texts."""

    def __init__(
        self, settings: TextClassification, inputs: tuple[TensorSpec, ...], preparation: TextPreparation
    ) -> None:
        self._settings = settings
        self._preparation = preparation
        self.inputs = inputs

    @property
    def settings(self) -> TaskSettings:
        """See :class:`Kind`."""
        return self._settings

    def draw(self, generator: np.random.Generator, count: int, steps: int) -> Requests:
        """Return texts of ours, one beyond every bound, and shuffled ones; see :class:`Kind`."""
        del steps
        words = [word for text in GOLDEN_TEXTS for word in text.split()]
        texts = [*GOLDEN_TEXTS, "word " * self._settings.text.max_tokens]
        texts += [" ".join(generator.choice(words, generator.integers(1, 40))) for _ in range(count)]
        return [{"text": text} for text in texts]

    def tensors(self, requests: Requests) -> Tensors:
        """See :class:`Kind`."""
        rows: list[Array] = []
        for index, request in enumerate(requests):
            text = _member(request, "text", index)
            if not isinstance(text, str) or not text:
                raise PackageRefused(f"row {index} is no text, or an empty one")
            try:
                rows.append(self._preparation.ids(text))
            except ValueError as exc:
                raise PackageRefused(f"row {index}: {exc}") from exc
        padded_BT, lengths_B = pad(rows)
        return {self.inputs[0].name: padded_BT, LENGTHS: lengths_B}

    def requests(self, arrays: Mapping[str, Array]) -> Requests:
        """Refuse: tokens are the tokenizer's, texts are asked for; see :class:`Kind`."""
        del arrays
        raise PackageRefused('rows of texts are written as .jsonl, one {"text": "..."} a line')


class AnyTensors(Kind):
    """Tensors as they are; all rows of one shape, but beside ``lengths``."""

    def __init__(self, settings: GenericTensors, inputs: tuple[TensorSpec, ...]) -> None:
        self._settings = settings
        self.inputs = inputs
        self._has_lengths = any(spec.name == LENGTHS for spec in inputs)

    @property
    def settings(self) -> TaskSettings:
        """See :class:`Kind`."""
        return self._settings

    def draw(self, generator: np.random.Generator, count: int, steps: int) -> Requests:
        """Return the least, the greatest, and numbers between, of rows of the same shape; see :class:`Kind`."""
        rows: Requests = []
        for index in range(count + 2):
            length = steps if not self._has_lengths or index < 2 else int(generator.integers(1, steps + 1))
            rows.append({"inputs": {s.name: self._draw(s, generator, index, length) for s in self._own()}})
        return rows

    def tensors(self, requests: Requests) -> Tensors:
        """See :class:`Kind`."""
        rows: list[Tensors] = []
        for index, request in enumerate(requests):
            inputs = _member(request, "inputs", index)
            names = {spec.name for spec in self.inputs}
            if not isinstance(inputs, dict) or not names - {LENGTHS} <= set(inputs) <= names:
                raise PackageRefused(f"row {index} has not the inputs {', '.join(sorted(names))}")
            rows.append({spec.name: self._row(inputs[spec.name], spec, index) for spec in self._own()})
        if self._has_lengths:
            padded = {spec.name: pad([row[spec.name] for row in rows]) for spec in self._own()}
            lengths_B = next(iter(padded.values()))[1]
            return {spec.name: lengths_B if spec.name == LENGTHS else padded[spec.name][0] for spec in self.inputs}
        for index, row in enumerate(rows):
            for name, array in row.items():
                _expect_shape(array, rows[0][name].shape, index)
        return {spec.name: np.stack([row[spec.name] for row in rows]) for spec in self.inputs}

    def requests(self, arrays: Mapping[str, Array]) -> Requests:
        """See :class:`Kind`."""
        names = [spec.name for spec in self.inputs]
        if set(arrays) != set(names):
            raise PackageRefused(f"expected arrays named {', '.join(names)}, found {', '.join(sorted(arrays))}")
        rows: Requests = []
        for index in range(min(len(array) for array in arrays.values())):
            length = int(arrays[LENGTHS][index]) if self._has_lengths else None
            rows.append({"inputs": {s.name: arrays[s.name][index][:length].tolist() if self._has_lengths
                                    else arrays[s.name][index].tolist() for s in self._own()}})  # fmt: skip
        return rows

    def responses(self, outputs: Tensors) -> Requests:
        """See :class:`Kind`."""
        columns = {name: array.tolist() for name, array in outputs.items()}
        return [{"outputs": dict(zip(columns, row, strict=True))} for row in zip(*columns.values(), strict=True)]

    def _own(self) -> Sequence[TensorSpec]:
        return [spec for spec in self.inputs if spec.name != LENGTHS]

    def _bounds(self, spec: TensorSpec) -> tuple[float, float]:
        """Return the bounds that the service will hold an input to."""
        dtype = np.dtype(spec.dtype)
        info = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype) if dtype.kind in "iu" else None
        low, high = (0, 1) if info is None else (info.min, info.max)
        bounds = self._settings.bounds.get(spec.name)
        if bounds is not None:
            low = low if bounds.low is None else bounds.low
            high = high if bounds.high is None else bounds.high
        return (float(low), float(high)) if dtype.kind == "f" else (int(np.ceil(low)), int(np.floor(high)))

    def _draw(self, spec: TensorSpec, generator: np.random.Generator, index: int, steps: int) -> Any:
        maximum = self._settings.max_lengths
        shape = tuple(min(steps, maximum[axis]) if isinstance(axis, str) else axis for axis in spec.shape[1:])
        low, high = self._bounds(spec)
        if index < 2:
            return np.full(shape, (low, high)[index], spec.dtype).tolist()
        if np.dtype(spec.dtype).kind == "f":
            return generator.uniform(low, high, shape).astype(spec.dtype).clip(low, high).tolist()
        return generator.integers(int(low), int(high), shape, endpoint=True).astype(spec.dtype).tolist()

    def _row(self, value: Any, spec: TensorSpec, index: int) -> Array:
        row = _array(value, index, spec.dtype)
        lengths = self._settings.max_lengths
        fits = row.ndim == len(spec.shape) - 1 and all(
            1 <= length <= lengths[axis] if isinstance(axis, str) else length == axis
            for axis, length in zip(spec.shape[1:], row.shape, strict=True)
        )
        if not fits:
            raise PackageRefused(f"row {index} of {spec.name!r} has the shape {row.shape}, expected {spec.shape[1:]}")
        _expect_within(row, *self._bounds(spec), spec.name)
        return row


def _member(request: Any, key: str, index: int) -> Any:
    if not isinstance(request, dict) or set(request) != {key}:
        raise PackageRefused(f'row {index} is not of the form {{"{key}": ...}}')
    return request[key]


def _number(value: Any, index: int, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise PackageRefused(f"row {index}: {name} is no number")
    return float(value)


def _array(value: Any, index: int, dtype: str = "float64") -> Array:
    try:
        array = np.array(value)
        if array.dtype.kind not in ("b" if dtype == "bool" else "iuf"):
            raise ValueError(f"expected numbers, found {array.dtype}")
        if np.dtype(dtype).kind in "iu" and array.dtype.kind == "f" and np.any(array != np.floor(array)):
            raise ValueError("expected whole numbers")
        return array.astype(dtype)
    except (TypeError, ValueError, OverflowError) as exc:
        raise PackageRefused(f"row {index} cannot be read: {exc}") from exc


def _only(arrays: Mapping[str, Array], shape: tuple[int, ...]) -> Array:
    if len(arrays) != 1:
        raise PackageRefused(f"expected one array of rows beside labels or targets, found {', '.join(sorted(arrays))}")
    (rows,) = arrays.values()
    if rows.shape[1:] != shape or rows.dtype.kind not in "iuf":
        raise PackageRefused(f"the rows are {rows.dtype} of shape {rows.shape}, expected numbers of (rows, {shape})")
    return rows.astype(np.float64)


def _expect_shape(row: Array, shape: tuple[int, ...], index: int) -> None:
    if row.shape != shape:
        raise PackageRefused(f"row {index} has the shape {row.shape}, expected {shape}")


def _expect_within(array: Array, low: float, high: float, name: str) -> None:
    if array.size and not (array.min() >= low and array.max() <= high):
        raise PackageRefused(
            f"{name!r} has numbers from {array.min():g} to {array.max():g}, and the bounds are {low:g} to {high:g}"
        )
