"""What people say of their model: the options of the command, and a TOML file of the same names."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from app.bundle.manifest import NAME_PATTERN, DType, Feature, Labels, Target, TensorBounds, TensorSpec
from app.preprocess.image import ImageConversion
from training.errors import PackageRefused

Task: TypeAlias = Literal[
    "image_classification",
    "sequence_classification",
    "tabular_classification",
    "tabular_regression",
    "tensors",
    "text_classification",
]
TASKS: tuple[str, ...] = get_args(Task)
DTYPES: tuple[str, ...] = get_args(DType)

Size: TypeAlias = Annotated[int, Field(gt=0)]


def _named(values: object) -> object:
    """Let a feature without more to say be its name."""
    if not isinstance(values, list | tuple):
        return values
    return [{"name": value} if isinstance(value, str) else value for value in values]


class Config(BaseModel):
    """All that can be said; None is what has not been.

    Attributes:
        name: Of the bundle; else that of the file.
        version: Of the bundle; else the next.
        description: For people.
        license: Of the model, as an SPDX expression.
        task: What it is for.
        labels: In the order of the outputs.
        features: Names of the columns, in their order; or tables with bounds, units, descriptions.
        target: What a regression tells.
        low: Least number that goes in, where nothing closer says otherwise.
        high: Greatest number that goes in.
        bounds: By the name of an input, of ``tensors``.
        max_lengths: By the name of an open axis, of ``tensors``.
        height: Of pictures; asked for where the file leaves it open.
        width: Of pictures.
        conversion: What is done to pictures of another size or mode.
        scale: Pixels or features are multiplied by it, inside the graph.
        mean: Then subtracted.
        std: Then divided by.
        scores: What the model answers with: ``logits``, which get a softmax, or ``probabilities``.
        scores_output: Which of its outputs that is, where there are several.
        min_length: Fewest steps of a series.
        max_length: Most steps of a series.
        inputs: Names, dtypes and shapes, of a file that does not tell them.
        output_names: Of a file that does not name its outputs.
        architecture: A registered name, for weights.
        network: Its config.
        tokenizer: A ``tokenizer.json``.
        max_chars: Characters of a text that are read.
        max_tokens: Tokens of a text that are kept.
        golden: Rows that the bundle is proven by, ``.npz`` or ``.jsonl``; else they are drawn within the bounds.
        test: Rows with ``labels`` or ``targets``, to measure on.
        max_rows: Most rows of a batch.
        seed: Of what is drawn.
        allow_torchscript: Whether a TorchScript file may be run: it is a program.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: Annotated[str, Field(pattern=NAME_PATTERN)] | None = None
    version: Size | None = None
    description: Annotated[str, Field(min_length=1)] | None = None
    license: Annotated[str, Field(min_length=1)] | None = None
    task: Task | None = None
    labels: Labels | None = None
    features: Annotated[tuple[Feature, ...], Field(min_length=1), BeforeValidator(_named)] | None = None
    target: Target | None = None
    low: float | None = None
    high: float | None = None
    bounds: dict[str, TensorBounds] = {}
    max_lengths: dict[str, Size] = {}
    height: Size | None = None
    width: Size | None = None
    conversion: ImageConversion = ImageConversion()
    scale: float | None = None
    mean: float | None = None
    std: Annotated[float, Field(gt=0)] | None = None
    scores: Literal["logits", "probabilities"] | None = None
    scores_output: str | None = None
    min_length: Size = 1
    max_length: Size | None = None
    inputs: Annotated[tuple[TensorSpec, ...], Field(min_length=1)] | None = None
    output_names: tuple[str, ...] | None = None
    architecture: str | None = None
    network: dict[str, Any] = {}
    tokenizer: Path | None = None
    max_chars: Size | None = None
    max_tokens: Size | None = None
    golden: Path | None = None
    test: Path | None = None
    max_rows: Annotated[int, Field(gt=0, le=1024)] = 32
    seed: Annotated[int, Field(ge=0)] = 0
    allow_torchscript: bool = False


_PATHS = ("tokenizer", "golden", "test")


def read_config(path: Path | None, options: Mapping[str, Any]) -> Config:
    """Return what was said: options win over the file.

    Args:
        path: A TOML file; the paths in it are relative to its folder.
        options: By the names of :class:`Config`; None is what was not said.

    Raises:
        PackageRefused: The file cannot be read, or holds unknown keys or impossible values; all of them are named.
    """
    values = {} if path is None else _read_toml(path)
    values |= {key: value for key, value in options.items() if value is not None}
    if {"mean", "std"} & set(values) and ("mean" in values) != ("std" in values):
        raise PackageRefused("mean and std go together: pixels or features become (x * scale - mean) / std")
    try:
        return Config.model_validate(values)
    except ValidationError as exc:
        faults = (f"{'.'.join(map(str, error['loc']))}: {_told(error['type'], error['msg'])}" for error in exc.errors())
        raise PackageRefused("; ".join(faults)) from exc


def _told(kind: str, message: str) -> str:
    if kind != "extra_forbidden":
        return message
    return f"there is no such key; there are: {', '.join(Config.model_fields)}"


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        raise PackageRefused(f"{path} cannot be read: {exc}") from exc
    for key in _PATHS:
        if isinstance(values.get(key), str):
            values[key] = path.parent / values[key]
    return values
