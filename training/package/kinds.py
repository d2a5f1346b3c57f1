"""What the service makes of requests and outputs, written down once more for the golden rows: the service checks it.

Shape suffixes: B rows, F features, H height, W width, T steps or tokens, C channels or classes.
"""

from collections.abc import Mapping

import numpy as np

from app.bundle.manifest import (
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
from training.export.golden import edge_images
from training.export.verify import VALUE
from training.package.kind import (
    Kind,
    Requests,
    array_of,
    expect_shape,
    expect_within,
    member_of,
    number_of,
    only_array,
)
from training.problems._golden_texts import GOLDEN_TEXTS

# of numbers without a bound
_WIDE = 1e3


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
            features = member_of(request, "features", index)
            if not isinstance(features, dict) or set(features) != set(names):
                raise PackageRefused(f"row {index} has not the features {', '.join(names)}")
            rows.append([number_of(features[name], index, name) for name in names])
        rows_BF = np.array(rows)
        for column, feature in enumerate(self._features):
            expect_within(rows_BF[:, column], feature.low, feature.high, feature.name)
        return {self.inputs[0].name: rows_BF.astype(np.float32)}

    def requests(self, arrays: Mapping[str, Array]) -> Requests:
        """See :class:`Kind`."""
        return self._named(only_array(arrays, (len(self._features),)))

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
        rows = [array_of(member_of(each, "image", index), index) for index, each in enumerate(requests)]
        for index, row in enumerate(rows):
            expect_shape(row, (image.height, image.width), index)
            expect_within(row, image.low, image.high, "image")
        return {self.inputs[0].name: np.stack(rows).astype(np.float32)}

    def requests(self, arrays: Mapping[str, Array]) -> Requests:
        """See :class:`Kind`."""
        image = self._settings.image
        return [{"image": image_HW.tolist()} for image_HW in only_array(arrays, (image.height, image.width))]


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
        rows = [array_of(member_of(each, "sequence", index), index) for index, each in enumerate(requests)]
        for index, row in enumerate(rows):
            expect_shape(row, (len(row), spec.num_channels), index)
            if not spec.min_length <= len(row) <= spec.max_length:
                raise PackageRefused(f"row {index} has {len(row)} steps, not {spec.min_length} to {spec.max_length}")
            expect_within(row, spec.low, spec.high, "sequence")
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
            text = member_of(request, "text", index)
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
