"""The manifest: the one contract between training and the service.

``models/<name>/<version>/manifest.json`` is validated by :class:`Manifest`, and ``models/manifest.schema.json`` is
generated from it (``python -m app schema``). Unknown fields are errors, so a misspelled one never passes silently.
"""

import re
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from app.preprocess.image import FLOAT32_MAX, ImageInput
from app.tensors import LENGTHS, Array

SCHEMA_VERSION = 1
NAME_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,63}$"
# without a hyphen: it parts the format from the variant in the key of an artifact
FORMAT_PATTERN = r"^[a-z0-9][a-z0-9_]{0,31}$"

DType: TypeAlias = Literal["float32", "float64", "int64", "int32", "uint8", "bool"]


def _inside_bundle(path: str) -> str:
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or "\\" in path or "\0" in path or not pure.name:
        raise ValueError("must be a relative path inside the bundle folder, without '..'")
    return path


RelativePath: TypeAlias = Annotated[str, AfterValidator(_inside_bundle)]
Sha256: TypeAlias = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Fraction: TypeAlias = Annotated[float, Field(ge=0, le=1)]
Float32: TypeAlias = Annotated[float, Field(ge=-FLOAT32_MAX, le=FLOAT32_MAX)]


class _Part(BaseModel):
    """Base of every part of the manifest: frozen, and strict about names."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class FileRef(_Part):
    """A file of the bundle, with the digest that it must have."""

    path: RelativePath
    sha256: Sha256
    size_bytes: Annotated[int, Field(gt=0)]


class Parity(_Part):
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
    fixed_axes: dict[str, Annotated[int, Field(gt=0)]] = {}
    golden: FileRef | None = None
    test_accuracy: Fraction | None = None
    latency_ms: dict[str, Annotated[float, Field(gt=0)]] = {}
    parity: Parity | None = None

    @property
    def key(self) -> str:
        """What tells this artifact from the others of its bundle: ``onnx``, ``onnx-int8``."""
        return self.format if self.variant is None else f"{self.format}-{self.variant}"


class TensorSpec(_Part):
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


def _distinct(labels: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(labels)) != len(labels):
        raise ValueError("labels must be distinct")
    return labels


Labels: TypeAlias = Annotated[tuple[str, ...], Field(min_length=2), AfterValidator(_distinct)]


class ImageClassification(_Part):
    """One picture in, one of ``labels`` out."""

    kind: Literal["image_classification"] = "image_classification"
    image: ImageInput
    labels: Labels


class Feature(_Part):
    """A number with a name, one column of a table.

    Attributes:
        name: As the requests write it.
        minimum: Least number that is accepted; None for the least of float32.
        maximum: Greatest number that is accepted; None for the greatest of float32.
        unit: Of the number; None where it has none, or none is known.
        description: What it tells.
        example: A number that stands for it in documentation; None for the accepted one that is nearest to 0.
    """

    name: Annotated[str, Field(min_length=1, max_length=128)]
    minimum: Float32 | None = None
    maximum: Float32 | None = None
    unit: str | None = None
    description: str = ""
    example: Float32 | None = None

    @property
    def low(self) -> float:
        """The least number that is accepted."""
        return -FLOAT32_MAX if self.minimum is None else self.minimum

    @property
    def high(self) -> float:
        """The greatest number that is accepted."""
        return FLOAT32_MAX if self.maximum is None else self.maximum

    @property
    def typical(self) -> float:
        """A number that is accepted."""
        return min(max(0.0, self.low), self.high) if self.example is None else self.example

    @model_validator(mode="after")
    def _example_is_accepted(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"minimum ({self.low:g}) must be below maximum ({self.high:g})")
        if self.example is not None and not self.low <= self.example <= self.high:
            raise ValueError(f"the example ({self.example:g}) lies outside {self.low:g} to {self.high:g}")
        return self


def _names_are_distinct(features: tuple[Feature, ...]) -> tuple[Feature, ...]:
    if len({feature.name for feature in features}) != len(features):
        raise ValueError("the names of features must be distinct")
    return features


Features: TypeAlias = Annotated[
    tuple[Feature, ...], Field(min_length=1, max_length=4096), AfterValidator(_names_are_distinct)
]


class TabularClassification(_Part):
    """One row of a table in, one of ``labels`` out; the features are the columns of the input, in their order."""

    kind: Literal["tabular_classification"] = "tabular_classification"
    features: Features
    labels: Labels


class Target(_Part):
    """What a regression tells: a number, with its name and unit."""

    name: str
    unit: str | None = None
    description: str = ""


class TabularRegression(_Part):
    """One row of a table in, a number out; the features are the columns of the input, in their order."""

    kind: Literal["tabular_regression"] = "tabular_regression"
    features: Features
    target: Target


class SequenceInput(_Part):
    """A series as the model takes it: steps in their order, each a list of numbers, one per channel.

    Attributes:
        num_channels: Numbers of each step.
        min_length: Fewest steps.
        max_length: Most steps.
        low: Least number that is accepted.
        high: Greatest number that is accepted.
    """

    num_channels: Annotated[int, Field(gt=0, le=4096)]
    min_length: Annotated[int, Field(gt=0)] = 1
    max_length: Annotated[int, Field(gt=0, le=65_536)]
    low: Float32 = -FLOAT32_MAX
    high: Float32 = FLOAT32_MAX

    @model_validator(mode="after")
    def _bounds_are_ordered(self) -> Self:
        if self.min_length > self.max_length:
            raise ValueError(f"min_length ({self.min_length}) must not be above max_length ({self.max_length})")
        if self.low >= self.high:
            raise ValueError(f"low ({self.low:g}) must be below high ({self.high:g})")
        return self


class SequenceClassification(_Part):
    """One series in, one of ``labels`` out. The inputs are the padded series and their ``lengths``."""

    kind: Literal["sequence_classification"] = "sequence_classification"
    sequence: SequenceInput
    labels: Labels


class TextInput(_Part):
    """A text as the model takes it.

    Attributes:
        tokenizer: A ``tokenizer.json`` of the `tokenizers` library; special tokens and their ids are its own.
        max_chars: Characters that are read; what follows is cut off before the text is tokenized, in training too.
        max_tokens: Tokens that are kept, special ones included; what follows is cut off.
    """

    tokenizer: FileRef
    max_chars: Annotated[int, Field(gt=0, le=1_000_000)]
    max_tokens: Annotated[int, Field(gt=0, le=65_536)]


class TextClassification(_Part):
    """One text in, one of ``labels`` out. The inputs are the padded token ids and their ``lengths``."""

    kind: Literal["text_classification"] = "text_classification"
    text: TextInput
    labels: Labels


class ImageReconstruction(_Part):
    """One picture in; out comes what is left of it after a narrow code, and how far that is from the picture.

    The outputs are ``error``, the mean squared difference on a scale from 0 (``image.low``) to 1 (``image.high``),
    shape (batch,); ``code``, shape (batch, code_size); ``reconstruction``, in the units of the picture.

    Attributes:
        image: As the model takes it.
        code_size: Numbers of the code.
        threshold: A picture with an error above this is called an anomaly.
        threshold_quantile: Share of the validation pictures whose error lies at or below ``threshold``.
    """

    kind: Literal["image_reconstruction"] = "image_reconstruction"
    image: ImageInput
    code_size: Annotated[int, Field(gt=0)]
    threshold: Annotated[float, Field(gt=0)]
    threshold_quantile: Fraction


class TensorBounds(_Part):
    """What the numbers of one input may be; None for what its dtype holds."""

    low: float | None = None
    high: float | None = None

    @model_validator(mode="after")
    def _bounds_are_ordered(self) -> Self:
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ValueError(f"low ({self.low:g}) must be below high ({self.high:g})")
        return self


class GenericTensors(_Part):
    """The inputs of the manifest as they are, its outputs as they come: for models that fit no other task.

    Attributes:
        bounds: By the name of an input; one that is not here takes all that its dtype holds.
        max_lengths: The greatest length of each named axis of the inputs, but for the batch.
    """

    kind: Literal["tensors"] = "tensors"
    bounds: dict[str, TensorBounds] = {}
    max_lengths: dict[str, Annotated[int, Field(gt=0, le=65_536)]] = {}


# A further task is a further class here, joined by its ``kind``; a contract test holds the list against `app/tasks`.
TaskSettings: TypeAlias = Annotated[
    GenericTensors
    | ImageClassification
    | ImageReconstruction
    | SequenceClassification
    | TabularClassification
    | TabularRegression
    | TextClassification,
    Field(discriminator="kind"),
]


class Architecture(_Part):
    """A registered network and the config that rebuilds it."""

    name: Annotated[str, Field(pattern=NAME_PATTERN)]
    config: dict[str, Any] = {}


class Calibration(_Part):
    """How sure the network may claim to be: its logits are divided by ``temperature`` (Guo et al., arXiv:1706.04599).

    The division is part of every exported graph; ``logits`` and ``probabilities`` are those after it.

    Attributes:
        temperature: Fitted on the validation split; 1 leaves the logits as they are.
    """

    temperature: Annotated[float, Field(gt=0)]


class Batching(_Part):
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


class Tolerance(_Part):
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
    output_tolerance: dict[str, dict[str, Tolerance]] = {}
    batch_tolerance: Tolerance

    def tolerance_of(self, key: str, output: str) -> Tolerance:
        """Return how far an output of an artifact may lie from that of the trainer."""
        return self.output_tolerance.get(key, {}).get(output, self.tolerance[key])


class DataSource(_Part):
    """Which data the network has seen, by digest."""

    name: str
    license: str
    files: dict[str, Sha256]
    split_rows: dict[str, Annotated[int, Field(gt=0)]]


class TrainingRecord(_Part):
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


class InputStatistics(_Part):
    """Statistics of the training inputs, for telling drift: moments, and a histogram over equal bins."""

    minimum: float
    maximum: float
    mean: float
    std: Annotated[float, Field(ge=0)]
    histogram: tuple[Fraction, ...]


class Manifest(_Part):
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
        for kind, specs in (("inputs", self.inputs), ("outputs", self.outputs)):
            if len({spec.name for spec in specs}) != len(specs):
                raise ValueError(f"the names of {kind} must be distinct, got {[spec.name for spec in specs]}")
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
