"""Tasks of manifests that lie on no disk."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

from app import tasks
from app.bundle.loader import Bundle
from app.bundle.manifest import Manifest, TextClassification
from app.preprocess.text import TextPreparation
from app.tasks import Limits, Task
from app.tasks.image_classification import ImageClassificationTask
from app.tasks.sequence_classification import SequenceClassificationTask
from app.tasks.text_classification import TextClassificationTask
from tests.support.bundles import manifest_document
from tests.support.kinds import kind_document, kind_of, tokenizer_json

LIMITS = Limits(max_instances=32, max_image_pixels=10_000)


def task_of(**changes: Any) -> ImageClassificationTask:
    """Return the task of :func:`tests.support.bundles.manifest_document` with the given arguments."""
    return cast(ImageClassificationTask, tasks.create(bundle_of(manifest_document(**changes)), LIMITS))


def bundle_of(document: Mapping[str, Any], folder: Path = Path("nowhere")) -> Bundle:
    """Return the bundle of a manifest that lies nowhere, and its files in a folder, if anywhere."""
    return Bundle(folder=folder, manifest=Manifest.model_validate(document))


FEATURES: Sequence[dict[str, Any]] = (
    {"name": "mean radius", "minimum": 0, "unit": "mm", "description": "of the nuclei"},
    {"name": "a/b~c", "minimum": -1, "maximum": 1, "example": 0.5},
    {"name": "model"},
)


def tabular_document(
    kind: Literal["tabular_classification", "tabular_regression"] = "tabular_classification",
    *,
    features: Sequence[dict[str, Any]] = FEATURES,
    labels: Sequence[str] = ("a", "b", "c"),
    name: str = "table",
) -> dict[str, Any]:
    """Return a valid manifest as JSON of a tabular model, whose files are nowhere."""
    shape, outputs, task = ["batch", len(labels)], ("logits", "probabilities"), {"labels": list(labels)}
    if kind == "tabular_regression":
        shape, outputs, task = ["batch"], ("value",), {"target": {"name": "price", "unit": "EUR"}}  # type: ignore[dict-item]
    return manifest_document(name, labels=labels) | {
        "task": {"kind": kind, "features": list(features)} | task,
        "inputs": [{"name": "features", "dtype": "float32", "shape": ["batch", len(features)]}],
        "outputs": [{"name": each, "dtype": "float32", "shape": shape} for each in outputs],
    }


def tabular_task_of(
    kind: Literal["tabular_classification", "tabular_regression"] = "tabular_classification", **changes: Any
) -> Task:
    """Return the task of :func:`tabular_document` with the given arguments."""
    return tasks.create(bundle_of(tabular_document(kind, **changes)), LIMITS)


def sequence_task_of(name: str = "series", **bounds: Any) -> SequenceClassificationTask:
    """Return the task of a model of series of two channels, 1 to 5 steps, with the given bounds instead."""
    held = kind_of("sequence_classification")
    sequence = held.task["sequence"] | bounds
    document = kind_document("sequence_classification", name)
    document["task"]["sequence"] = sequence
    document["inputs"][0]["shape"] = ["batch", "time", sequence["num_channels"]]
    return cast(SequenceClassificationTask, tasks.create(bundle_of(document), LIMITS))


def text_task_of(
    name: str = "texts", tokenizer: bytes | None = None, limits: Limits = LIMITS, **bounds: int
) -> TextClassificationTask:
    """Return the task of a model of texts, whose tokenizer lies on no disk."""
    document = kind_document("text_classification", name)
    document["task"]["text"] |= bounds
    manifest = bundle_of(document).manifest
    assert isinstance(manifest.task, TextClassification)
    text = manifest.task.text
    preparation = TextPreparation(tokenizer or tokenizer_json(), text.max_chars, text.max_tokens)
    return TextClassificationTask(manifest, manifest.task, limits, preparation)
