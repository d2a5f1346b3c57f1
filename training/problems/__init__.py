"""What a network is trained for, one file per kind of task, found by the file's name.

A problem knows how the rows of its data become tensors, how a network is judged on them, and what its bundle tells the
service. The loop, the exports and the reports know nothing of pictures, series, texts or tables.

Such a module offers ``create(config, data) -> Problem``; its name is the ``kind`` in the manifest's task settings.
"""

import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Sized
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Literal, Protocol, Self, TypeVar, cast

import numpy as np
from torch import Tensor, nn

from app.bundle.golden import GoldenRows
from app.bundle.manifest import InputStatistics, TaskSettings, TensorSpec
from app.tensors import Array, Tensors
from training.batches import Examples
from training.data import DataSet
from training.errors import ConfigError
from training.export.verify import Run
from training.loop import Validation
from training.report import Course, Evaluation

RowsT = TypeVar("RowsT", bound="Takeable")

# Training rows that are run once more by the plain network, to see how far it has learned by heart.
NUM_SAMPLED = 5000


class Takeable(Sized, Protocol):
    """Rows of any kind, of which some can be taken."""

    def take(self, indices: Array, /) -> Self:
        """Return the rows at ``indices``, int64 of shape (M,)."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a finished network answers, for its evaluation.

    Attributes:
        run: The network as it is served.
        course: How training went.
        sample: Served outputs for the first training rows, at most ``NUM_SAMPLED``.
        validation: Served outputs for the validation split.
        test: Served outputs for the test split.
        temperature: What the logits among them are divided by.
        settings: The task of the manifest.
    """

    run: Run
    course: Course
    sample: Tensors
    validation: Tensors
    test: Tensors
    temperature: float
    settings: TaskSettings


class Problem(ABC, Generic[RowsT]):
    """One data set, seen as one kind of task. It is the objective of the loop, too.

    Attributes:
        score_name: What the score is called by which weights are chosen and variants compared; higher is better.
        data: The data set.
        inputs: What goes into the served network.
        outputs: What comes out.
        int8: How the network is quantized: integers throughout, or weights only; None for not at all.
        max_elements: Most rows times padded length in one call; None where rows are of one length.
        privacy: What the model card says of people in the data; None for what it says of all.
    """

    score_name: ClassVar[str]
    int8: ClassVar[Literal["static", "weight_only"] | None] = "static"
    data: DataSet[RowsT]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    max_elements: int | None = None
    privacy: ClassVar[str | None] = None

    @abstractmethod
    def measured(self) -> dict[str, Any]:
        """Return the fields of an architecture's config that follow from the data, as far as it has them."""

    @abstractmethod
    def examples(self, rows: RowsT, *, augmented: bool = False) -> Examples:
        """Return rows as a network takes them.

        Args:
            rows: Of any split.
            augmented: Whether they are trained on, so that what the config allows may happen to them.
        """

    @abstractmethod
    def loss(self, outputs: Any, targets: Tensor) -> Tensor:
        """Return the mean loss of a batch; outputs as the network returned them."""

    @abstractmethod
    def validate(self, network: nn.Module) -> Validation:
        """Judge the plain network on the validation split."""

    @abstractmethod
    def settings(self, run: Run) -> TaskSettings:
        """Return the task of the manifest.

        Args:
            run: The network as it is served, for what depends on it.
        """

    @abstractmethod
    def tensors(self, rows: RowsT) -> Tensors:
        """Return a whole split as it is fed to the served network."""

    @abstractmethod
    def golden(self, run: Run, settings: TaskSettings) -> GoldenRows:
        """Build golden rows: edges of what can be asked, and validation rows where they may be shown; none of the test.

        Args:
            run: The trainer's own network as it is served.
            settings: From :meth:`settings`.
        """

    @abstractmethod
    def score(self, outputs: Tensors, rows: RowsT) -> float:
        """Return the score, of ``score_name``, of served outputs for rows."""

    def accuracy(self, outputs: Tensors, rows: RowsT) -> float | None:
        """Return the share of the rows that are right; None where there is no such thing."""
        return self.score(outputs, rows) if self.score_name == "accuracy" else None

    def temperature(self, network: nn.Module) -> float | None:
        """Return what logits should be divided by, fitted on validation; None where there are no logits."""
        del network
        return None

    def sample(self) -> RowsT:
        """Return the first training rows, at most ``NUM_SAMPLED``."""
        return self.data.train.take(np.arange(min(NUM_SAMPLED, len(self.data.train))))

    @property
    def longest(self) -> dict[str, int]:
        """Return the greatest length of each named axis of the inputs, beyond the batch."""
        return {}

    @abstractmethod
    def statistics(self) -> dict[str, InputStatistics]:
        """Return statistics of the training inputs, for telling drift, by the keys of the manifest."""

    def files(self) -> dict[str, bytes]:
        """Return further files of the bundle that the task's settings describe, by path."""
        return {}

    def reports(self, outputs: Tensors, rows: RowsT) -> dict[str, object]:
        """Return JSON documents of the report on served outputs for rows, by name."""
        del outputs, rows
        return {}

    @abstractmethod
    def evaluate(self, found: Found) -> Evaluation:
        """Measure and draw all that is told of a network, beside a simple model."""

    def targets(self, rows: RowsT) -> Array | None:
        """Return what is right for each row, for explanations; None where the rows are their own targets."""
        del rows
        return None


class _ProblemModule(Protocol):
    def create(self, config: Any, data: DataSet[Any]) -> Problem[Any]: ...


def kinds() -> list[str]:
    """Return the kinds of all problems, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))


def create(kind: str, config: Any, data: DataSet[Any]) -> Problem[Any]:
    """Return a data set seen as a kind of task.

    Args:
        kind: One of :func:`kinds`.
        config: Of the training.
        data: Of the kind that the problem takes.

    Raises:
        ConfigError: There is no such kind, the data are of another one, or an option is unknown or impossible.
    """
    if kind not in kinds():
        raise ConfigError(f"there is no problem {kind!r}, there are: {', '.join(kinds())}")
    module = cast(_ProblemModule, importlib.import_module(f"{__name__}.{kind}"))
    return module.create(config, data)
