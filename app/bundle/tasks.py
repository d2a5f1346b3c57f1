"""The task settings of the manifest: what a model takes and tells, one class for each kind of task."""

from typing import Annotated, Literal, Self, TypeAlias

from pydantic import AfterValidator, Field, model_validator

from app.bundle.parts import FileRef, Float32, Fraction, Part
from app.preprocess.image import FLOAT32_MAX, ImageInput


def _distinct(labels: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(labels)) != len(labels):
        raise ValueError("labels must be distinct")
    return labels


Labels: TypeAlias = Annotated[tuple[str, ...], Field(min_length=2), AfterValidator(_distinct)]


class ImageClassification(Part):
    """One picture in, one of ``labels`` out."""

    kind: Literal["image_classification"] = "image_classification"
    image: ImageInput
    labels: Labels


class Feature(Part):
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


class TabularClassification(Part):
    """One row of a table in, one of ``labels`` out; the features are the columns of the input, in their order."""

    kind: Literal["tabular_classification"] = "tabular_classification"
    features: Features
    labels: Labels


class Target(Part):
    """What a regression tells: a number, with its name and unit."""

    name: str
    unit: str | None = None
    description: str = ""


class TabularRegression(Part):
    """One row of a table in, a number out; the features are the columns of the input, in their order."""

    kind: Literal["tabular_regression"] = "tabular_regression"
    features: Features
    target: Target


class SequenceInput(Part):
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


class SequenceClassification(Part):
    """One series in, one of ``labels`` out. The inputs are the padded series and their ``lengths``."""

    kind: Literal["sequence_classification"] = "sequence_classification"
    sequence: SequenceInput
    labels: Labels


class TextInput(Part):
    """A text as the model takes it.

    Attributes:
        tokenizer: A ``tokenizer.json`` of the `tokenizers` library; special tokens and their ids are its own.
        max_chars: Characters that are read; what follows is cut off before the text is tokenized, in training too.
        max_tokens: Tokens that are kept, special ones included; what follows is cut off.
    """

    tokenizer: FileRef
    max_chars: Annotated[int, Field(gt=0, le=1_000_000)]
    max_tokens: Annotated[int, Field(gt=0, le=65_536)]


class TextClassification(Part):
    """One text in, one of ``labels`` out. The inputs are the padded token ids and their ``lengths``."""

    kind: Literal["text_classification"] = "text_classification"
    text: TextInput
    labels: Labels


class ImageReconstruction(Part):
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


class TensorBounds(Part):
    """What the numbers of one input may be; None for what its dtype holds."""

    low: float | None = None
    high: float | None = None

    @model_validator(mode="after")
    def _bounds_are_ordered(self) -> Self:
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ValueError(f"low ({self.low:g}) must be below high ({self.high:g})")
        return self


class GenericTensors(Part):
    """The inputs of the manifest as they are, its outputs as they come: for models that fit no other task.

    Attributes:
        bounds: By the name of an input; one that is not here takes all that its dtype holds.
        max_lengths: The greatest length of each named axis of the inputs, but for the batch.
    """

    kind: Literal["tensors"] = "tensors"
    bounds: dict[str, TensorBounds] = Field(default={})
    max_lengths: dict[str, Annotated[int, Field(gt=0, le=65_536)]] = Field(default={})


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
