"""What can be asked of a model, one file for each kind of thing that it takes."""

from typing import Any, TypeAlias

from zero_to_one_client.cards import ModelCard
from zero_to_one_client.errors import InvalidRequest
from zero_to_one_client.tasks.images import ImageClassification, ImageReconstruction, Reconstruction
from zero_to_one_client.tasks.labels import Classification
from zero_to_one_client.tasks.request import Instances, Request
from zero_to_one_client.tasks.series import SequenceClassification
from zero_to_one_client.tasks.tables import Regression, TabularClassification, TabularRegression
from zero_to_one_client.tasks.tensors import TensorOutputs, TensorRows
from zero_to_one_client.tasks.texts import TextClassification

Prediction: TypeAlias = Classification | Reconstruction | Regression | TensorOutputs

_KINDS: dict[str, type[Request[Any]]] = {
    kind.kind: kind
    for kind in (
        ImageClassification,
        ImageReconstruction,
        SequenceClassification,
        TabularClassification,
        TabularRegression,
        TensorRows,
        TextClassification,
    )
}


def request_for(
    card: ModelCard, instances: Instances, *, version: str | None, top_k: int | None, outputs: tuple[str, ...]
) -> Request[Prediction]:
    """Return the request that fits the task of a model.

    Raises:
        InvalidRequest: This client does not know the task, or an option does not go with it.
    """
    kind = _KINDS.get(card.task or "")
    if kind is None:
        told = f"the task {card.task!r}, which this client does not know" if card.task else f"no task: {card.reason}"
        raise InvalidRequest(f"the model {card.name!r} has {told}")
    options: dict[str, Any] = {} if top_k is None else {"top_k": top_k}
    if outputs:
        options["outputs"] = outputs
    if unknown := options.keys() - set(kind.__dataclass_fields__):
        raise InvalidRequest(f"{', '.join(sorted(unknown))}: no option of {card.task}, the task of {card.name!r}")
    return kind.of(card.name, instances, version, **options)


__all__ = [
    "Classification",
    "ImageClassification",
    "ImageReconstruction",
    "Instances",
    "Prediction",
    "Reconstruction",
    "Regression",
    "Request",
    "SequenceClassification",
    "TabularClassification",
    "TabularRegression",
    "TensorOutputs",
    "TensorRows",
    "TextClassification",
    "request_for",
]
