"""The manifest: the one contract between training and the service.

``models/<name>/<version>/manifest.json`` is validated by :class:`Manifest`, and ``models/manifest.schema.json`` is
generated from it (``python -m app schema``). Unknown fields are errors, so a misspelled one never passes silently. What
the kinds of tasks have of their own is in :mod:`app.bundle.tasks`; whoever reads manifests imports it from here.
"""

import re
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import Field, model_validator

from app.bundle.parts import FileRef, Fraction, Part, Sha256
from app.bundle.tasks import (
    Feature,
    Features,
    GenericTensors,
    ImageClassification,
    ImageReconstruction,
    Labels,
    SequenceClassification,
    SequenceInput,
    TabularClassification,
    TabularRegression,
    Target,
    TaskSettings,
    TensorBounds,
    TextClassification,
    TextInput,
)
from app.tensors import LENGTHS, Array

__all__ = [
    "FORMAT_PATTERN",
    "NAME_PATTERN",
    "SCHEMA_VERSION",
    "Architecture",
    "Artifact",
    "Batching",
    "Calibration",
    "DType",
    "DataSource",
    "Feature",
    "Features",
    "FileRef",
    "GenericTensors",
    "Golden",
    "ImageClassification",
    "ImageReconstruction",
    "InputStatistics",
    "Labels",
    "Manifest",
    "Parity",
    "SequenceClassification",
    "SequenceInput",
    "TabularClassification",
    "TabularRegression",
    "Target",
    "TaskSettings",
    "TensorBounds",
    "TensorSpec",
    "TextClassification",
    "TextInput",
    "Tolerance",
    "TrainingRecord",
    "is_version",
]

SCHEMA_VERSION = 1
NAME_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,63}$"
# without a hyphen: it parts the format from the variant in the key of an artifact
FORMAT_PATTERN = r"^[a-z0-9][a-z0-9_]{0,31}$"

DType: TypeAlias = Literal["float32", "float64", "int64", "int32", "uint8", "bool"]


class Parity(Part):
    """How close an exported artifact is to the eager network, over the whole test set."""

    rows: Annotated[int, Field(gt=0)]
    max_abs_difference: Annotated[float, Field(ge=0)] = Field(description="Largest of any probability, or value.")
    label_agreement: Fraction | None = Field(default=None, description="Null where the task has no labels.")


class Artifact(FileRef):
    """One serialised form of the network, and what was measured of exactly this file.

    Attributes:
        format: Names the backend that serves it.
        variant: What was done to the network, as ``int8`` or ``pruned``; None for the plain one.
        fixed_axes: Lengths of the named axes that this artifact fixes; its backend pads shorter inputs up to them.
        golden: Golden rows of its own, as many as those of the bundle: a pruned network is another one than the
            trainer's, and is held against what it answered itself before it was exported.
        test_accuracy: Share of the test set that this variant gets right, where the task has an accuracy.
        latency_ms: Median milliseconds for a batch, by its number of rows, on one thread of the training machine.
        parity: Against the eager network.
    """

    format: Annotated[str, Field(pattern=FORMAT_PATTERN)]
    variant: Annotated[str, Field(pattern=FORMAT_PATTERN)] | None = None
    fixed_axes: dict[str, Annotated[int, Field(gt=0)]] = Field(default={})
    golden: FileRef | None = None
    test_accuracy: Fraction | None = None
    latency_ms: dict[str, Annotated[float, Field(gt=0)]] = Field(default={})
    parity: Parity | None = None

    @property
    def key(self) -> str:
        """What tells this artifact from the others of its bundle: ``onnx``, ``onnx-int8``."""
        return self.format if self.variant is None else f"{self.format}-{self.variant}"


class TensorSpec(Part):
    """Name, dtype and shape of one tensor; a string in the shape names a dynamic axis, the first is the batch."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.]*$")]
    dtype: DType
    shape: Annotated[tuple[str | Annotated[int, Field(gt=0)], ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _batch_axis_is_dynamic(self) -> Self:
        if not isinstance(self.shape[0], str):
            raise ValueError(f"the first axis of {self.name!r} is the batch and must be named, not {self.shape[0]}")
        return self

    def describes(self, array: Array) -> bool:
        """Tell whether an array has this dtype and shape, at any length of the named axes."""
        return (
            array.dtype == self.dtype
            and array.ndim == len(self.shape)
            and all(
                isinstance(axis, str) or axis == length for axis, length in zip(self.shape, array.shape, strict=True)
            )
        )


class Architecture(Part):
    """A registered network and the config that rebuilds it."""

    name: Annotated[str, Field(pattern=NAME_PATTERN)]
    config: dict[str, Any] = Field(default={})


class Calibration(Part):
    """How sure the network may claim to be: its logits are divided by ``temperature`` (Guo et al., arXiv:1706.04599).

    The division is part of every exported graph; ``logits`` and ``probabilities`` are those after it.

    Attributes:
        temperature: Fitted on the validation split; 1 leaves the logits as they are.
    """

    temperature: Annotated[float, Field(gt=0)]


class Batching(Part):
    """What one call of the backend may hold.

    Attributes:
        max_rows: Most rows.
        max_elements: Most rows times padded length, which bounds the memory that sequences take; None for no bound.
            A single row longer than that still runs, alone.
        max_wait_ms: Milliseconds that an idle runner waits for a batch to fill.
    """

    max_rows: Annotated[int, Field(gt=0, le=65_536)] = 32
    max_elements: Annotated[int, Field(gt=0)] | None = None
    max_wait_ms: Annotated[float, Field(ge=0, le=10_000)] = 0.0


class Tolerance(Part):
    """Largest difference allowed between two answers: ``|a - b| <= atol + rtol * |b|``, as in `numpy.allclose`."""

    atol: Annotated[float, Field(ge=0)]
    rtol: Annotated[float, Field(ge=0)] = 0.0


class Golden(FileRef):
    """Golden rows: the request, the tensors and the response of the trainer, replayed before anything is served.

    Attributes:
        rows: How many.
        tolerance: By the key of the artifact, against the trainer's eager outputs.
        output_tolerance: By the key of the artifact and by output, where one needs its own: what int8 does to logits
            would say nothing of probabilities.
        batch_tolerance: Between a row alone and the same row inside a full batch, for every artifact.
    """

    rows: Annotated[int, Field(gt=0)]
    tolerance: dict[str, Tolerance]
    output_tolerance: dict[str, dict[str, Tolerance]] = Field(default={})
    batch_tolerance: Tolerance

    def tolerance_of(self, key: str, output: str) -> Tolerance:
        """Return how far an output of an artifact may lie from that of the trainer."""
        return self.output_tolerance.get(key, {}).get(output, self.tolerance[key])


class DataSource(Part):
    """Which data the network has seen, by digest."""

    name: str
    license: str
    files: dict[str, Sha256]
    split_rows: dict[str, Annotated[int, Field(gt=0)]]


class TrainingRecord(Part):
    """How the network came to be; enough to train it again."""

    data: DataSource
    seed: int
    epochs: Annotated[int, Field(gt=0)]
    best_epoch: Annotated[int, Field(gt=0)]
    batch_size: Annotated[int, Field(gt=0)]
    optimizer: dict[str, Any]
    duration_s: Annotated[float, Field(gt=0)]
    libraries: dict[str, str]
    code_revision: str


class InputStatistics(Part):
    """Statistics of the training inputs, for telling drift: moments, and a histogram over equal bins."""

    minimum: float
    maximum: float
    mean: float
    std: Annotated[float, Field(ge=0)]
    histogram: tuple[Fraction, ...]


class Manifest(Part):
    """All that is known of one version of one model.

    Raises:
        pydantic.ValidationError: A field is missing, unknown, or not what its type says.
    """

    schema_version: Literal[1]
    name: Annotated[str, Field(pattern=NAME_PATTERN)]
    version: Annotated[int, Field(gt=0)]
    description: str
    license: str
    task: TaskSettings
    architecture: Architecture
    calibration: Calibration | None = None
    inputs: Annotated[tuple[TensorSpec, ...], Field(min_length=1)]
    outputs: Annotated[tuple[TensorSpec, ...], Field(min_length=1)]
    artifacts: Annotated[tuple[Artifact, ...], Field(min_length=1)]
    batching: Batching = Batching()
    golden: Golden
    training: TrainingRecord | None = None
    metrics: dict[str, float] = Field(
        default={},
        description="On the test set, measured once, after all choices; what starts with `cross_validation/`, over "
        "the folds of all rows.",
    )
    input_statistics: dict[str, InputStatistics] = Field(
        default={}, description="By the name of the input, or by the input and one of its features, as `input/feature`."
    )

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        keys = [artifact.key for artifact in self.artifacts]
        if len(set(keys)) != len(keys):
            raise ValueError(f"one artifact per format and variant, got {keys}")
        without = sorted(set(keys) - set(self.golden.tolerance))
        if without:
            raise ValueError(f"golden.tolerance says nothing of the artifacts {without}")
        if unknown := sorted(set(self.golden.output_tolerance) - set(keys)):
            raise ValueError(f"golden.output_tolerance names no artifact: {unknown}")
        outputs = {spec.name for spec in self.outputs}
        if unknown := sorted({name for of in self.golden.output_tolerance.values() for name in of} - outputs):
            raise ValueError(f"golden.output_tolerance names no output: {unknown}")
        self._fixed_axes_are_masked()
        inputs = {spec.name for spec in self.inputs}
        for spec in self.inputs:
            if spec.name == LENGTHS and (spec.dtype != "int64" or len(spec.shape) != 1):
                raise ValueError(f"the input {LENGTHS!r} tells the length of every row, as int64 of shape (batch,)")
            if spec.name != LENGTHS and LENGTHS in inputs and (len(spec.shape) < 2 or isinstance(spec.shape[1], int)):
                raise ValueError(f"beside {LENGTHS!r}, the second axis of {spec.name!r} must be a named one")
        if unknown := sorted(key for key in self.input_statistics if key.partition("/")[0] not in inputs):
            raise ValueError(f"input_statistics name no input: {unknown}")
        return self

    @model_validator(mode="after")
    def _names_are_distinct(self) -> Self:
        for kind, specs in (("inputs", self.inputs), ("outputs", self.outputs)):
            names = [spec.name for spec in specs]
            if len(set(names)) != len(names):
                raise ValueError(f"the names of {kind} must be distinct, got {names}")
        return self

    @model_validator(mode="after")
    def _bound_has_lengths(self) -> Self:
        if self.batching.max_elements is not None and all(spec.name != LENGTHS for spec in self.inputs):
            raise ValueError(f"batching.max_elements bounds padded rows, and there is no input {LENGTHS!r}")
        return self

    def _fixed_axes_are_masked(self) -> None:
        named = {axis for spec in self.inputs for axis in spec.shape[1:] if isinstance(axis, str)}
        has_lengths = any(spec.name == LENGTHS for spec in self.inputs)
        for artifact in self.artifacts:
            if unknown := sorted(set(artifact.fixed_axes) - named):
                raise ValueError(f"fixed_axes of {artifact.key!r} name no dynamic axis of an input: {unknown}")
            if artifact.fixed_axes and not has_lengths:
                raise ValueError(f"fixed_axes of {artifact.key!r}: padding needs the input {LENGTHS!r}, to be told")
            for axis, length in artifact.fixed_axes.items():
                if length < (longest := self._longest(axis)):
                    raise ValueError(
                        f"fixed_axes of {artifact.key!r} hold {length} along {axis!r}, and the task takes {longest}"
                    )

    def _longest(self, axis: str) -> int:
        """Return the greatest length of a named axis that the task takes; 0 where it does not say."""
        if isinstance(self.task, GenericTensors):
            return self.task.max_lengths.get(axis, 0)
        if isinstance(self.task, SequenceClassification):
            return self.task.sequence.max_length
        return self.task.text.max_tokens if isinstance(self.task, TextClassification) else 0

    @property
    def temperature(self) -> float:
        """What the logits of the network are divided by."""
        return 1.0 if self.calibration is None else self.calibration.temperature

    def artifact(self, key: str) -> Artifact | None:
        """Return the artifact of a key, as ``onnx`` or ``onnx-int8``, or None where the bundle has none."""
        return next((artifact for artifact in self.artifacts if artifact.key == key), None)


def is_version(name: str) -> bool:
    """Tell whether a folder's name is a version: a positive integer without leading zeros."""
    return re.fullmatch(r"[1-9][0-9]{0,8}", name) is not None
