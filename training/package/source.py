"""What a file says of a model, whatever form it has; and the steps that are to become part of its graph."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from app.bundle.manifest import TensorSpec
from training.export.verify import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """One output of a model: its name, and its dtype where the file tells one that can be served."""

    name: str
    dtype: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Feed:
    """How one input of the service becomes one of the model: ``(x * scale - mean) / std``, its shape, its dtype.

    Attributes:
        public: What the service calls it.
        private: What the model calls it.
        dtype: Of the model's; the service's is in the contract.
        tail: Shape of a row as the model takes it, where that is another one.
        scale: None for 1.
        mean: None for 0.
        std: None for 1.
    """

    public: TensorSpec
    private: str
    dtype: str
    tail: tuple[int, ...] | None = None
    scale: float | None = None
    mean: float | None = None
    std: float | None = None

    @property
    def is_plain(self) -> bool:
        """Whether nothing is done but to name it."""
        steps = (self.tail, self.scale, self.mean, self.std)
        return all(step is None for step in steps) and self.dtype == self.public.dtype


@dataclass(frozen=True, slots=True, kw_only=True)
class TextFeed:
    """How ``tokens`` and ``lengths`` become what exporters of Hugging Face name: ids, mask, types.

    Attributes:
        dtypes: Of the inputs that the model has, by their names.
        pad_id: Stands behind the length of a row.
    """

    dtypes: Mapping[str, str]
    pad_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """How one output of the model becomes one of the service.

    Attributes:
        public: What the service calls it.
        private: What the model calls it.
        step: ``softmax`` over classes; ``flatten`` of (batch, 1) to (batch); None for neither.
    """

    public: str
    private: str
    step: Literal["softmax", "flatten"] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """What becomes part of the graph."""

    feeds: tuple[Feed, ...] = ()
    text: TextFeed | None = None
    heads: tuple[Head, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """One artifact, and how it is run.

    Attributes:
        format: Names the backend.
        path: Inside the bundle.
        content: The file.
        run: Runs these very bytes.
    """

    format: str
    path: str
    content: bytes
    run: Run


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What lies beside the file, of a folder as exporters write it."""

    labels: tuple[str, ...] | None = None
    tokenizer: bytes | None = None
    max_tokens: int | None = None
    pad_id: int = 0
    is_text: bool = False


class Source(Protocol):
    """A model's file, read.

    Attributes:
        told: What lies beside it.
        missing: What has to be said before more of it can be told: key, example, reason.
        inputs: Names, dtypes and shapes of what goes in; None where the file does not tell.
        outputs: What comes out; None where that is not known without the inputs.
    """

    @property
    def told(self) -> Told: ...  # noqa: D102

    @property
    def missing(self) -> tuple[tuple[str, str, str], ...]: ...  # noqa: D102

    @property
    def inputs(self) -> tuple[TensorSpec, ...] | None: ...  # noqa: D102

    @property
    def outputs(self) -> tuple[Output, ...] | None: ...  # noqa: D102

    def build(self, steps: Steps, inputs: tuple[TensorSpec, ...]) -> tuple[Run, tuple[Built, ...]]:
        """Make the artifacts, with the steps inside.

        Args:
            steps: Around the model.
            inputs: Of the service.

        Returns:
            What answers the golden rows, and the artifacts, which are held against it.

        Raises:
            PackageRefused: The steps cannot be put around this model.
        """
        ...

    def architecture(self) -> tuple[str, dict[str, Any]]:
        """Return name and config for the manifest."""
        ...
