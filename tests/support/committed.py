"""The bundles of the repository, by what they do."""

from pathlib import Path

from app.bundle.loader import find_bundles, open_bundle

MODELS = Path(__file__).parents[2] / "models"
# versions rise, so the highest of each name stays
LATEST = {ref.name: ref for ref in find_bundles(MODELS)}
NAMES = list(LATEST)


def names_of(kind: str) -> list[str]:
    """Return the names of the committed models of a kind of task."""
    return [name for name, ref in LATEST.items() if open_bundle(ref).manifest.task.kind == kind]
