"""The committed bundles, and bundles of the dummy backend that take as long as they are told to."""

import hashlib
import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from app.backends.dummy import Behavior, DummyBackend
from app.bundle.golden import GoldenRows, dump_golden
from app.bundle.manifest import Manifest, TensorSpec
from benchmarks.pictures import REPOSITORY

MODELS_DIR = REPOSITORY / "models"
LABELS = ("a", "b", "c")
HEIGHT, WIDTH = 2, 3
_ROWS = 16
_ARTIFACT, _GOLDEN = "dummy.json", "golden.npz"


def newest(model: str) -> Path:
    """Return the folder of the highest version of a committed model, which is the one that answers.

    Raises:
        FileNotFoundError: There is no such model.
    """
    versions = sorted(MODELS_DIR.glob(f"{model}/*/manifest.json"), key=lambda path: int(path.parent.name))
    if not versions:
        raise FileNotFoundError(f"no model {model!r} in {MODELS_DIR.name}/")
    return versions[-1].parent


def manifest_of(folder: Path) -> Manifest:
    """Return the manifest of a bundle."""
    return Manifest.model_validate_json((folder / "manifest.json").read_bytes())


def committed() -> tuple[str, ...]:
    """Return the names of all committed models."""
    return tuple(sorted({path.parent.parent.name for path in MODELS_DIR.glob("*/*/manifest.json")}))


def link(names: Iterable[str], models_dir: Path) -> None:
    """Put some of the committed models into a models folder of their own, without a copy."""
    models_dir.mkdir(parents=True, exist_ok=True)
    for name in names:
        (models_dir / name).symlink_to(MODELS_DIR / name)


def copy_unbounded(model: str, models_dir: Path, *, max_rows: int, name: str) -> Path:
    """Copy a committed model under another name, with larger batches; return its folder."""
    folder = models_dir / name / "1"
    shutil.copytree(newest(model), folder)
    document = json.loads((folder / "manifest.json").read_text())
    document |= {"name": name, "version": 1, "batching": {"max_rows": max_rows}}
    (folder / "manifest.json").write_text(json.dumps(document))
    return folder


def write_dummy(
    models_dir: Path, name: str, *, sleep_s: float, max_rows: int = 32, height: int = HEIGHT, width: int = WIDTH
) -> Path:
    """Write a bundle whose every call takes so many seconds, whatever its rows; return its folder.

    Its task is image_classification.
    """
    folder = models_dir / name / "1"
    folder.mkdir(parents=True)
    images_BHW = np.random.default_rng(0).integers(0, 256, (_ROWS, height, width)).astype(np.float32)
    outputs = [_spec(output, len(LABELS)) for output in ("logits", "probabilities")]
    answers = DummyBackend(Behavior(), tuple(TensorSpec.model_validate(spec) for spec in outputs)).run(
        {"image": images_BHW}
    )
    golden = dump_golden(
        GoldenRows(
            requests=[{"image": image_HW.tolist()} for image_HW in images_BHW],
            inputs={"image": images_BHW},
            outputs=answers,
            responses=[_prediction(row_C) for row_C in answers["probabilities"].tolist()],
        )
    )
    artifact = Behavior(sleep_s=sleep_s).model_dump_json().encode()
    tolerance = {"atol": 1e-6, "rtol": 1e-6}
    document = {
        "schema_version": 1,
        "name": name,
        "version": 1,
        "description": f"Takes {sleep_s * 1e3:g} ms for every batch.",
        "license": "Apache-2.0",
        "task": {
            "kind": "image_classification",
            "image": {"height": height, "width": width, "low": 0.0, "high": 255.0},
            "labels": list(LABELS),
        },
        "architecture": {"name": "arithmetic", "config": {}},
        "inputs": [{"name": "image", "dtype": "float32", "shape": ["batch", height, width]}],
        "outputs": outputs,
        "artifacts": [{"format": "dummy", **_file(_ARTIFACT, artifact)}],
        "batching": {"max_rows": max_rows},
        "golden": {
            **_file(_GOLDEN, golden),
            "rows": _ROWS,
            "tolerance": {"dummy": tolerance},
            "batch_tolerance": tolerance,
        },
    }
    (folder / _ARTIFACT).write_bytes(artifact)
    (folder / _GOLDEN).write_bytes(golden)
    (folder / "manifest.json").write_text(json.dumps(document))
    return folder


def _spec(name: str, width: int) -> dict[str, Any]:
    return {"name": name, "dtype": "float32", "shape": ["batch", width]}


def _file(path: str, data: bytes) -> dict[str, Any]:
    return {"path": path, "sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data)}


def _prediction(probabilities_C: list[float]) -> dict[str, Any]:
    index = int(np.argmax(probabilities_C))
    named = dict(zip(LABELS, probabilities_C, strict=True))
    return {"label": LABELS[index], "index": index, "probability": probabilities_C[index], "probabilities": named}
