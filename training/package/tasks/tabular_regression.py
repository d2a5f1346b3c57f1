"""One row of a table in, a number out."""

from app.bundle.manifest import TabularRegression
from training.errors import PackageRefused
from training.export.verify import VALUE
from training.package.asked import Asked, Found
from training.package.config import Config
from training.package.kinds import Tables
from training.package.source import Head, Source, Steps
from training.package.tasks._shared import feed_of
from training.package.tasks._tables import table_of


def find(source: Source, config: Config, asked: Asked) -> Found | None:
    """Find out; see :func:`training.package.tasks.find`."""
    table = table_of(source, config, asked, "tabular_regression")
    if config.target is None:
        asked.need("target", 'target = {name = "price", unit = "EUR"}', "what the number is")
    names = [output.name for output in source.outputs or () if output.dtype is not None]
    chosen = config.scores_output or (names[0] if len(names) == 1 else None)
    if chosen is None:
        asked.need("scores_output", f'scores_output = "{names[0] if names else VALUE}"', f"out of {', '.join(names)}")
    elif chosen not in names:
        raise PackageRefused(f"the model has no output {chosen!r} that can be served; it has: {', '.join(names)}")
    if table is None or config.target is None or chosen is None:
        return None
    public, private, features = table
    kind = Tables(TabularRegression(features=features, target=config.target), public)
    head = Head(public=VALUE, private=chosen, step="flatten")
    return Found(kind=kind, steps=Steps(feeds=(feed_of(public, private, config),), heads=(head,)))
