"""One row of a table in, one label out."""

from app.bundle.manifest import TabularClassification
from training.package.asked import Asked, Found
from training.package.config import Config
from training.package.kinds import Tables
from training.package.source import Source, Steps
from training.package.tasks._shared import feed_of, labels_of, score_heads
from training.package.tasks._tables import table_of


def find(source: Source, config: Config, asked: Asked) -> Found | None:
    """Find out; see :func:`training.package.tasks.find`."""
    table = table_of(source, config, asked, "tabular_classification")
    labels, heads = labels_of(source, config, asked), score_heads(source, config, asked)
    if table is None or labels is None:
        return None
    public, private, features = table
    kind = Tables(TabularClassification(features=features, labels=labels), public)
    return Found(kind=kind, steps=Steps(feeds=(feed_of(public, private, config),), heads=heads))
