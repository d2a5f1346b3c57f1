"""One series in, one label out."""

from typing import Any

import numpy as np

from app.bundle.loader import Bundle
from app.bundle.manifest import Manifest, SequenceClassification
from app.errors import InvalidInput, UnsupportedMedia
from app.tasks import Limits, NaturalInput
from app.tasks.decoding.fast_json import FastDecoder
from app.tasks.decoding.raw import RawRows
from app.tasks.decoding.series import series_type
from app.tasks.decoding.strict_json import JsonLimits
from app.tasks.shared.bodies import read_instances, request_model
from app.tasks.shared.labels import LabelAnswers
from app.tasks.shared.ragged import MAX_ARRAYS_TOGETHER, expect_ragged_input, pad, ragged_rows
from app.tensors import Tensors

INPUT = "sequence"
EXAMPLE_LENGTH = 4
# a body of this many steps is read on the event loop, where that takes 10 ms at most; a longer one on a thread
MAX_STEPS_ON_LOOP = 2**15


class SequenceClassificationTask(LabelAnswers):
    """Series to the padded ``sequence``, float32 of shape (B, T, C), and ``lengths``; see :class:`app.tasks.Task`.

    Raises:
        BundleError: The manifest has other tensors.
    """

    media_types: tuple[str, ...] = ()

    def __init__(self, manifest: Manifest, settings: SequenceClassification, limits: Limits) -> None:
        super().__init__(manifest, settings.labels)
        self._spec = spec = settings.sequence
        expect_ragged_input(manifest, INPUT, "float32", spec.num_channels)
        self._limits = limits
        self._fast = FastDecoder(manifest.name, max_instances=limits.max_instances)
        instances = limits.max_instances
        self.json_limits = JsonLimits(
            arrays=1 + min(instances * (1 + spec.max_length), max(MAX_ARRAYS_TOGETHER, 1 + spec.max_length)),
            objects=1 + instances,
            members=2 + instances,
            values=1 + instances * spec.max_length * spec.num_channels,
        )
        self.raw = RawRows(
            next(each for each in manifest.inputs if each.name == INPUT),
            low=spec.low,
            high=spec.high,
            lengths=range(spec.min_length, spec.max_length + 1),
            has_lengths=True,
            max_rows=1,
        )
        self.named = ragged_rows(
            manifest, low=spec.low, high=spec.high, lengths=range(spec.min_length, spec.max_length + 1), limits=limits
        )
        self.natural: NaturalInput | None = None
        self.request_model = request_model(manifest, limits, sequence=(series_type(spec), ...))

    def decode_fast(self, body: bytes) -> Tensors | None:
        """Read steps of numbers; see :class:`app.tasks.Task`."""
        if body.count(b"[") > MAX_STEPS_ON_LOOP:
            return None
        spec = self._spec
        lengths = range(spec.min_length, spec.max_length + 1)
        series = self._fast.series(body, "sequence", spec.num_channels, lengths, spec.low, spec.high)
        try:
            return None if series is None else pad(INPUT, series)
        except InvalidInput:
            return None

    def decode_json(self, document: object) -> Tensors:
        """Validate whatever is there; see :class:`app.tasks.Task`."""
        instances = read_instances(self.request_model, document, self._limits)
        return pad(INPUT, [instance.sequence for instance in instances])

    def decode_file(self, data: bytes) -> Tensors:
        """Refuse: a series has no file format; see :class:`app.tasks.Task`."""
        raise UnsupportedMedia("this model takes application/json")

    def conversion(self) -> None:
        """Say nothing: numbers are taken as they come; see :class:`app.tasks.Task`."""

    def example(self) -> dict[str, Any]:
        """Return a request with a series that rises from -1 to 1, within the bounds; see :class:`app.tasks.Task`."""
        spec = self._spec
        length = min(max(EXAMPLE_LENGTH, spec.min_length), spec.max_length)
        ramp = np.linspace(-1, 1, length * spec.num_channels).round(3)
        steps = ramp.clip(spec.low, spec.high).reshape(length, spec.num_channels)
        return {"instances": [{"sequence": steps.tolist()}]}


def create(bundle: Bundle, limits: Limits) -> SequenceClassificationTask:
    """Return the task of a bundle; see :func:`app.tasks.create`."""
    assert isinstance(bundle.manifest.task, SequenceClassification)
    return SequenceClassificationTask(bundle.manifest, bundle.manifest.task, limits)
