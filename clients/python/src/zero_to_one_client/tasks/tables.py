"""Rows of a table in."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from zero_to_one_client import documents
from zero_to_one_client.cards import ModelCard
from zero_to_one_client.documents import Document
from zero_to_one_client.errors import InvalidRequest, UnexpectedAnswer
from zero_to_one_client.tasks.labels import LabelRequest
from zero_to_one_client.tasks.request import Instances, Request


@dataclass(frozen=True, kw_only=True)
class TabularClassification(LabelRequest):
    """Asks for the labels of rows of a table.

    Attributes:
        rows: Each an object of every feature by its name, or as many numbers in the order of the card's features. Or an
            array of all of them, (B, F).
    """

    kind: ClassVar[str] = "tabular_classification"
    field_name: ClassVar[str] = "rows"

    rows: Instances

    def to_json(self, instance: Any, card: ModelCard) -> Mapping[str, Any]:
        """Return a row as JSON has it."""
        return {"features": _by_name(instance, card)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Regression:
    """The number that one row was answered with; the card's ``target`` says what it is."""

    value: float


@dataclass(frozen=True, kw_only=True)
class TabularRegression(Request[Regression]):
    """Asks for a number for each row of a table.

    Attributes:
        rows: As :class:`TabularClassification` takes them.
    """

    kind: ClassVar[str] = "tabular_regression"
    field_name: ClassVar[str] = "rows"
    answer_tensor: ClassVar[str | None] = "value"

    rows: Instances

    def to_json(self, instance: Any, card: ModelCard) -> Mapping[str, Any]:
        """Return a row as JSON has it."""
        return {"features": _by_name(instance, card)}

    def read(self, prediction: Document) -> Regression:
        """Return a prediction that came as JSON."""
        return Regression(value=documents.number(prediction, "value"))

    def read_rows(self, rows: Any, card: ModelCard) -> list[Regression]:
        """Return what the service itself would have said of values, shape (B,)."""
        if rows.ndim != 1:
            raise UnexpectedAnswer(f"expected a value a row, found an array {rows.shape}")
        return [Regression(value=value) for value in rows.tolist()]


def _by_name(row: Any, card: ModelCard) -> Mapping[str, Any]:
    if isinstance(row, Mapping):
        return row
    numbers = list(row)
    if len(numbers) != len(card.features):
        raise InvalidRequest(
            f"expected {len(card.features)} numbers, as {card.name!r} has features, found {len(numbers)}"
        )
    return dict(zip((feature.name for feature in card.features), numbers, strict=True))
