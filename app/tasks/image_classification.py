"""One picture in, one label out."""

from app.bundle.loader import Bundle
from app.bundle.manifest import ImageClassification, Manifest
from app.tasks import Limits
from app.tasks.shared.labels import LabelAnswers
from app.tasks.shared.pictures import PictureRequests


class ImageClassificationTask(PictureRequests, LabelAnswers):
    """Pictures to the one input tensor, its ``probabilities`` to labels; see :class:`app.tasks.Task`."""

    def __init__(self, manifest: Manifest, settings: ImageClassification, limits: Limits) -> None:
        PictureRequests.__init__(self, manifest, settings.image, limits)
        LabelAnswers.__init__(self, manifest, settings.labels)


def create(bundle: Bundle, limits: Limits) -> ImageClassificationTask:
    """Return the task of a bundle; see :func:`app.tasks.create`."""
    assert isinstance(bundle.manifest.task, ImageClassification)
    return ImageClassificationTask(bundle.manifest, bundle.manifest.task, limits)
