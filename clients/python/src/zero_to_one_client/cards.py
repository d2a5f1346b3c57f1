"""What the service tells of itself: its models, their cards, its readiness."""

from dataclasses import dataclass, field

from zero_to_one_client import documents
from zero_to_one_client.documents import Document
from zero_to_one_client.errors import UnexpectedAnswer


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSummary:
    """One line of the list of models.

    Attributes:
        name: By which it is asked.
        version: The version that answers when none is asked for.
        state: ``loading``, ``proving``, ``ready`` or ``failed``.
        reason: Why it is not ready; None where it is.
        task: The kind of its task; None where the service cannot read its manifest.
        description: For people.
    """

    name: str
    version: str
    state: str
    reason: str | None
    task: str | None
    description: str | None

    @property
    def is_ready(self) -> bool:
        """Whether it answers."""
        return self.state == "ready"


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec:
    """An input or output of a model.

    Attributes:
        name: By which it is sent or asked for.
        dtype: As NumPy calls it.
        shape: The size of each axis, or the name of one that is open; the first is the batch.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one request may hold.

    Attributes:
        max_body_bytes: Of its body.
        max_instances: In it.
        max_image_pixels: Of each picture.
        default_timeout_ms: Milliseconds that the service takes where the caller says nothing.
    """

    max_body_bytes: int
    max_instances: int
    max_image_pixels: int
    default_timeout_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSettings:
    """The picture that a model takes.

    Attributes:
        height: Its rows.
        width: Its columns.
        mode: ``L`` (grey) or ``RGB``.
        low: Least value of a pixel.
        high: Greatest value of a pixel.
    """

    height: int
    width: int
    mode: str
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TextSettings:
    """Where a text is cut off: behind so many characters, or tokens."""

    max_chars: int
    max_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesSettings:
    """The series that a model takes: numbers in each step, and least and most steps."""

    num_channels: int
    min_length: int
    max_length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureSettings:
    """One column of the table that a model takes; None where nothing bounds it, or it has no unit."""

    name: str
    minimum: float | None
    maximum: float | None
    unit: str | None
    description: str
    example: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionCard:
    """One version of a model.

    Attributes:
        version: Its number, as text.
        state: ``loading``, ``proving``, ``ready`` or ``failed``.
        reason: Why it is not ready; None where it is.
        backend: What serves it; None until it is loaded.
        metrics: What was measured of it, by name.
    """

    version: str
    state: str
    reason: str | None
    backend: str | None
    metrics: "dict[str, float]"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard(ModelSummary):
    """All that a caller needs to know of a model.

    Attributes:
        license: Of the model.
        labels: Of a classifier, in the order of its probabilities; empty for others.
        features: Of a table, in the order of its columns; empty for others.
        image: Of a model of pictures; None for others.
        text: Of a model of texts; None for others.
        series: Of a model of series; None for others.
        target: What a regression tells; None for others.
        threshold: The error above which a reconstruction is an anomaly; None for others.
        inputs: The tensors that it takes.
        outputs: The tensors that it gives.
        media_types: What the body of a request may be.
        bytes_layout: What a body of plain bytes holds; None where it takes none.
        limits: What one request may hold.
        versions: All of them.
        document: All that the service told, with what this client does not know.
    """

    license: str | None
    labels: tuple[str, ...]
    features: tuple[FeatureSettings, ...]
    image: ImageSettings | None
    text: TextSettings | None
    series: SeriesSettings | None
    target: str | None
    threshold: float | None
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    media_types: tuple[str, ...]
    bytes_layout: str | None
    limits: Limits
    versions: tuple[VersionCard, ...]
    document: Document = field(repr=False)

    def output(self, name: str) -> TensorSpec:
        """Return the output of a name.

        Raises:
            UnexpectedAnswer: There is none.
        """
        for spec in self.outputs:
            if spec.name == name:
                return spec
        raise UnexpectedAnswer(f"the card of {self.name!r} has no output {name!r}, which its task {self.task} needs")


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """Whether the service wants traffic, and why not.

    Attributes:
        status: ``ready``, ``not_ready`` or ``draining``.
        models: The state of each model, by its name.
        reasons: Why a model is not ready, by its name; of those alone that are not.
    """

    status: str
    models: "dict[str, str]"
    reasons: "dict[str, str]"

    @property
    def is_ready(self) -> bool:
        """Whether every required model answers."""
        return self.status == "ready"


def read_summaries(document: Document) -> tuple[ModelSummary, ...]:
    """Return the list of ``GET /models``."""
    return tuple(_summary(line) for line in documents.objects(document, "models"))


def read_readiness(document: Document) -> Readiness:
    """Return what ``GET /readyz`` tells."""
    models = documents.members(document, "models")
    states = {name: documents.text(documents.members(models, name), "state") for name in models}
    reasons = {name: documents.text_or_none(models[name], "reason") or states[name] for name in models}
    return Readiness(
        status=documents.text(document, "status"),
        models=states,
        reasons={name: reason for name, reason in reasons.items() if states[name] != "ready"},
    )


def read_card(document: Document) -> ModelCard:
    """Return the card of ``GET /models/{model}``."""
    summary = _summary(document)
    settings = {} if document.get("task_settings") is None else documents.members(document, "task_settings")
    return ModelCard(
        **{name: getattr(summary, name) for name in ModelSummary.__slots__},
        license=documents.text_or_none(document, "license"),
        labels=tuple(map(str, documents.items(settings, "labels"))),
        features=tuple(_feature(entry) for entry in documents.objects(settings, "features")),
        image=_image(documents.members(settings, "image")) if "image" in settings else None,
        text=_text(documents.members(settings, "text")) if "text" in settings else None,
        series=_series(documents.members(settings, "sequence")) if "sequence" in settings else None,
        target=documents.text(documents.members(settings, "target"), "name") if "target" in settings else None,
        threshold=documents.number_or_none(settings, "threshold"),
        inputs=_tensors(document, "inputs"),
        outputs=_tensors(document, "outputs"),
        media_types=tuple(map(str, documents.items(document, "media_types"))),
        bytes_layout=documents.text_or_none(document, "bytes_layout"),
        limits=_limits(documents.members(document, "limits")),
        versions=tuple(_version(entry) for entry in documents.objects(document, "versions")),
        document=document,
    )


def _summary(document: Document) -> ModelSummary:
    return ModelSummary(
        name=documents.text(document, "name"),
        version=documents.text(document, "version"),
        state=documents.text(document, "state"),
        reason=documents.text_or_none(document, "reason"),
        task=documents.text_or_none(document, "task"),
        description=documents.text_or_none(document, "description"),
    )


def _tensors(document: Document, key: str) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(
            name=documents.text(entry, "name"),
            dtype=documents.text(entry, "dtype"),
            shape=tuple(documents.items(entry, "shape")),
        )
        for entry in documents.objects(document, key)
    )


def _limits(document: Document) -> Limits:
    return Limits(
        max_body_bytes=documents.whole(document, "max_body_bytes"),
        max_instances=documents.whole(document, "max_instances"),
        max_image_pixels=documents.whole(document, "max_image_pixels"),
        default_timeout_ms=documents.whole(document, "default_timeout_ms"),
    )


def _image(document: Document) -> ImageSettings:
    return ImageSettings(
        height=documents.whole(document, "height"),
        width=documents.whole(document, "width"),
        mode=documents.text(document, "mode"),
        low=documents.number(document, "low"),
        high=documents.number(document, "high"),
    )


def _text(document: Document) -> TextSettings:
    return TextSettings(
        max_chars=documents.whole(document, "max_chars"), max_tokens=documents.whole(document, "max_tokens")
    )


def _series(document: Document) -> SeriesSettings:
    return SeriesSettings(
        num_channels=documents.whole(document, "num_channels"),
        min_length=documents.whole(document, "min_length"),
        max_length=documents.whole(document, "max_length"),
    )


def _feature(document: Document) -> FeatureSettings:
    return FeatureSettings(
        name=documents.text(document, "name"),
        minimum=documents.number_or_none(document, "minimum"),
        maximum=documents.number_or_none(document, "maximum"),
        unit=documents.text_or_none(document, "unit"),
        description=documents.text_or_none(document, "description") or "",
        example=documents.number_or_none(document, "example"),
    )


def _version(document: Document) -> VersionCard:
    return VersionCard(
        version=documents.text(document, "version"),
        state=documents.text(document, "state"),
        reason=documents.text_or_none(document, "reason"),
        backend=documents.text_or_none(document, "backend"),
        metrics=dict(documents.numbers(document, "metrics")) if document.get("metrics") else {},
    )
