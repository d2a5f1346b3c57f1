"""One row of a table in, one label out."""

from app.bundle.manifest import Manifest, TabularClassification
from app.tasks import Limits
from app.tasks.shared.features import FeatureRequests
from app.tasks.shared.labels import LabelAnswers


class TabularClassificationTask(FeatureRequests, LabelAnswers):
    """Rows of features to the one input tensor, its ``probabilities`` to labels; see :class:`app.tasks.Task`."""

    def __init__(self, manifest: Manifest, settings: TabularClassification, limits: Limits) -> None:
        FeatureRequests.__init__(self, manifest, settings.features, limits)
        LabelAnswers.__init__(self, manifest, settings.labels)


def create(manifest: Manifest, limits: Limits) -> TabularClassificationTask:
    """Return the task of a manifest; see :func:`app.tasks.create`."""
    assert isinstance(manifest.task, TabularClassification)
    return TabularClassificationTask(manifest, manifest.task, limits)
