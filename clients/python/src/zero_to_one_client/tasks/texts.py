"""Texts in."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from zero_to_one_client.cards import ModelCard
from zero_to_one_client.errors import InvalidRequest
from zero_to_one_client.tasks.labels import LabelRequest
from zero_to_one_client.tasks.request import Instances


@dataclass(frozen=True, kw_only=True)
class TextClassification(LabelRequest):
    """Asks for the labels of texts.

    Attributes:
        texts: Strings of any length; where the service cuts them off, its card says.
    """

    kind: ClassVar[str] = "text_classification"
    field_name: ClassVar[str] = "texts"
    takes_arrays: ClassVar[bool] = False

    texts: Instances

    def to_json(self, instance: Any, card: ModelCard) -> Mapping[str, Any]:
        """Return a text as JSON has it, without what the service would cut off anyway."""
        if not isinstance(instance, str):
            raise InvalidRequest(f"expected a text, found {type(instance).__name__}")
        # str() makes a plain text of NumPy's
        return {"text": str(instance if card.text is None else instance[: card.text.max_chars])}
