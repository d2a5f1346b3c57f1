"""What classifiers answer, whatever they look at."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from zero_to_one_client import documents
from zero_to_one_client.cards import ModelCard
from zero_to_one_client.documents import Document
from zero_to_one_client.errors import InvalidRequest, UnexpectedAnswer
from zero_to_one_client.tasks.request import Request


@dataclass(frozen=True, slots=True, kw_only=True)
class Classification:
    """What one instance was taken for.

    Attributes:
        label: The most probable.
        index: Its place among the labels of the model.
        probability: Of that label.
        probabilities: Of every label, in the order of the model; with ``top_k`` the best alone, best first.
    """

    label: str
    index: int
    probability: float
    probabilities: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class LabelRequest(Request[Classification]):
    """Asks for labels.

    Attributes:
        top_k: How many labels to tell; None for all.
    """

    answer_tensor: ClassVar[str | None] = "probabilities"

    top_k: int | None = None

    def __post_init__(self) -> None:
        # an answer in bytes is shortened here, where nobody else would say so
        given: object = self.top_k
        if given is not None and (not isinstance(given, int) or given < 1):
            raise InvalidRequest(f"top_k: expected a whole number above 0, found {self.top_k!r}")

    def query(self) -> dict[str, str]:
        """Return the parameters of the request's query."""
        return super().query() | ({} if self.top_k is None else {"top_k": str(self.top_k)})

    def read(self, prediction: Document) -> Classification:
        """Return a prediction that came as JSON."""
        return Classification(
            label=documents.text(prediction, "label"),
            index=documents.whole(prediction, "index"),
            probability=documents.number(prediction, "probability"),
            probabilities=documents.numbers(prediction, "probabilities"),
        )

    def read_rows(self, rows: Any, card: ModelCard) -> list[Classification]:
        """Return what the service itself would have said of probabilities, shape (B, C)."""
        if rows.ndim != 2 or rows.shape[1] != len(card.labels):
            raise UnexpectedAnswer(f"expected {len(card.labels)} probabilities a row, found an array {rows.shape}")
        predictions = []
        for best, row in zip(rows.argmax(axis=1).tolist(), rows.tolist(), strict=True):
            named = list(zip(card.labels, row, strict=True))
            if self.top_k is not None:
                # stable, so of equals the first label is told first, as by the service
                named = sorted(named, key=lambda pair: -pair[1])[: self.top_k]
            predictions.append(
                Classification(label=card.labels[best], index=best, probability=row[best], probabilities=dict(named))
            )
        return predictions
