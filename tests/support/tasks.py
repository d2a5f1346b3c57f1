"""Tasks of manifests that lie on no disk."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

from app import tasks
from app.bundle.loader import Bundle
from app.bundle.manifest import Manifest
from app.tasks import Limits, Task
from app.tasks.image_classification import ImageClassificationTask
from tests.support.bundles import manifest_document

LIMITS = Limits(max_instances=32, max_image_pixels=10_000)


def task_of(**changes: Any) -> ImageClassificationTask:
    """Return the task of :func:`tests.support.bundles.manifest_document` with the given arguments."""
    return cast(ImageClassificationTask, tasks.create(bundle_of(manifest_document(**changes)), LIMITS))


def bundle_of(document: Mapping[str, Any]) -> Bundle:
    """Return the bundle of a manifest whose files are nowhere."""
    return Bundle(folder=Path("nowhere"), manifest=Manifest.model_validate(document))


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
