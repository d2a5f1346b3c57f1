"""Tasks of manifests that lie on no disk."""

from typing import Any, cast

from app import tasks
from app.bundle.manifest import Manifest
from app.tasks import Limits
from app.tasks.image_classification import ImageClassificationTask
from tests.support.bundles import manifest_document

LIMITS = Limits(max_instances=32, max_image_pixels=10_000)


def task_of(**changes: Any) -> ImageClassificationTask:
    """Return the task of :func:`tests.support.bundles.manifest_document` with the given arguments."""
    manifest = Manifest.model_validate(manifest_document(**changes))
    return cast(ImageClassificationTask, tasks.create(manifest, LIMITS))
