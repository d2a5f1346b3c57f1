"""What is told of a request when it is over."""

from dataclasses import dataclass
from typing import Protocol

from app.tracing.context import Trace

# of a path that is told
MAX_PATH = 256


class Timed(Protocol):
    """How a request fared in its batches, in seconds."""

    @property
    def queue_s(self) -> float: ...  # noqa: D102

    @property
    def compute_s(self) -> float: ...  # noqa: D102

    @property
    def batch_rows(self) -> int: ...  # noqa: D102


@dataclass(slots=True)
class Facts:
    """What is told of a request beside its ticket; what is not known is empty, or 0.

    Attributes:
        method: Of HTTP, or ``POST`` of gRPC.
        path: Of HTTP, or the full name of gRPC's method.
        door: Its name in the metrics.
        model: Who answers.
        version: Of the model.
        status: Of HTTP, or the name of gRPC's.
        code: Of the error that it was answered with.
        rows: Of the model's input.
        parse_s: Seconds from its head to its tensors.
        queue_s: Seconds that it waited before its first row was taken.
        compute_s: Seconds that its batches took.
        batch_rows: Rows of the last of these.
        answered_at: When the model had answered, on admission's clock.
        batch: The batch's own place in a trace, where it has one.
    """

    method: str = ""
    path: str = ""
    door: str = ""
    model: str = ""
    version: str = ""
    status: int | str = 0
    code: str = ""
    rows: int = 0
    parse_s: float = 0.0
    queue_s: float = 0.0
    compute_s: float = 0.0
    batch_rows: int = 0
    answered_at: float = 0.0
    batch: Trace | None = None

    def answer(self, answer: Timed, *, rows: int, parse_s: float, at: float, batch: Trace | None = None) -> None:
        """Note how a model has answered."""
        self.rows, self.parse_s, self.answered_at, self.batch = rows, parse_s, at, batch
        self.queue_s, self.compute_s, self.batch_rows = answer.queue_s, answer.compute_s, answer.batch_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchFacts:
    """What is told of a batch.

    Attributes:
        model: Its name.
        version: Of the model.
        requests: How many had rows in it.
        rows: Of all of them.
        elements: Rows times padded length; 0 where rows have no lengths.
        padding_elements: How many of these were padding.
        rejected_rows: Rows that the model fails on by themselves.
        sick_because: Why the model can answer nobody; None where it can.
        compute_s: Seconds that the backend took.
    """

    model: str
    version: str
    requests: int
    rows: int
    elements: int
    padding_elements: int
    rejected_rows: int
    sick_because: str | None
    compute_s: float
