"""Series in: steps in their order, as many as each has."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from zero_to_one_client.cards import ModelCard
from zero_to_one_client.tasks.labels import LabelRequest
from zero_to_one_client.tasks.request import Instances


@dataclass(frozen=True, kw_only=True)
class SequenceClassification(LabelRequest):
    """Asks for the labels of series.

    Attributes:
        sequences: Each an array (T, C) or a list of T steps of C numbers; T may differ from one to the next. Or an
            array of all of them, (B, T, C).
    """

    kind: ClassVar[str] = "sequence_classification"
    field_name: ClassVar[str] = "sequences"

    sequences: Instances

    def to_json(self, instance: Any, card: ModelCard) -> Mapping[str, Any]:
        """Return a series as JSON has it."""
        return {"sequence": instance}
