"""Rows of named tensors in, for a model that fits no other task."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from zero_to_one_client import documents
from zero_to_one_client.cards import ModelCard
from zero_to_one_client.documents import Document
from zero_to_one_client.tasks.request import Instances, Request, one_of_many


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorOutputs:
    """The outputs for one row, by name: numbers, or nested lists of them without the batch axis."""

    outputs: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class TensorRows(Request[TensorOutputs]):
    """Asks for the outputs for rows of tensors; ``infer`` takes whole batches of arrays instead.

    Attributes:
        rows: Each an object of every input by its name: an array or nested lists, without the batch axis.
        outputs: The outputs to tell; empty for all.
    """

    kind: ClassVar[str] = "tensors"
    field_name: ClassVar[str] = "rows"
    # of several inputs an array would not say which it is
    takes_arrays: ClassVar[bool] = False

    rows: Instances
    outputs: tuple[str, ...] = ()

    def query(self) -> dict[str, str]:
        """Return the parameters of the request's query."""
        return super().query() | one_of_many(self.outputs)

    def to_json(self, instance: Any, card: ModelCard) -> Mapping[str, Any]:
        """Return a row as JSON has it."""
        return {"inputs": instance}

    def read(self, prediction: Document) -> TensorOutputs:
        """Return a prediction that came as JSON."""
        return TensorOutputs(outputs=documents.members(prediction, "outputs"))
