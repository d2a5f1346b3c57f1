"""One row of a table in, one label out."""

from app.bundle.loader import Bundle
from app.bundle.manifest import Manifest, TabularClassification
from app.tasks import Limits
from app.tasks.shared.features import FeatureRequests
from app.tasks.shared.labels import LabelAnswers


class TabularClassificationTask(FeatureRequests, LabelAnswers):
    """Rows of features to the one input tensor, its ``probabilities`` to labels; see :class:`app.tasks.Task`."""

    def __init__(self, manifest: Manifest, settings: TabularClassification, limits: Limits) -> None:
        FeatureRequests.__init__(self, manifest, settings.features, limits)
        LabelAnswers.__init__(self, manifest, settings.labels)


def create(bundle: Bundle, limits: Limits) -> TabularClassificationTask:
    """Return the task of a bundle; see :func:`app.tasks.create`."""
    assert isinstance(bundle.manifest.task, TabularClassification)
    return TabularClassificationTask(bundle.manifest, bundle.manifest.task, limits)
