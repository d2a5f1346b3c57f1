"""The bundles of the repository, by what they do."""

import json
import shutil
from pathlib import Path

from app.bundle.loader import MANIFEST_FILE, find_bundles, open_bundle

MODELS = Path(__file__).parents[2] / "models"
# versions rise, so the highest of each name stays
LATEST = {ref.name: ref for ref in find_bundles(MODELS)}
NAMES = list(LATEST)


def names_of(kind: str) -> list[str]:
    """Return the names of the committed models of a kind of task."""
    return [name for name, ref in LATEST.items() if open_bundle(ref).manifest.task.kind == kind]


def copy_as_first(name: str, models_dir: Path) -> Path:
    """Copy a committed bundle below another folder, as version 1 of its name, and return its folder."""
    folder = models_dir / name / "1"
    shutil.copytree(LATEST[name].folder, folder)
    manifest = json.loads((folder / MANIFEST_FILE).read_text())
    (folder / MANIFEST_FILE).write_text(json.dumps({**manifest, "version": 1}))
    return folder
