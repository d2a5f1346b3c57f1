"""Builds bundles on disk that are right, and damages them on purpose.

The outputs written into the golden file are worked out here once more, from the documentation of the dummy backend and
not by calling it, so that the two hold each other.
"""

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.bundle.golden import GoldenRows, dump_golden
from app.bundle.loader import MANIFEST_FILE, Bundle, BundleRef, open_bundle
from app.serving.proof import WARM_UP_BATCHES
from app.tensors import Array, Tensors

ARTIFACT_FILE = "dummy.json"
GOLDEN_FILE = "golden.npz"
INPUT_NAME = "image"


def dummy_bundle(
    models_dir: Path,
    name: str = "dummy",
    version: int = 1,
    *,
    behavior: Mapping[str, Any] | None = None,
    labels: Sequence[str] = ("a", "b", "c"),
    height: int = 2,
    width: int = 3,
    max_rows: int = 8,
    max_wait_ms: float = 0.0,
    low: float = 0.0,
    high: float = 255.0,
    rows: int = 16,
) -> Path:
    """Write a whole, valid bundle that the dummy backend serves; return its folder, ``models_dir/name/version``.

    Its task is image_classification. The golden rows avoid the values on which ``behavior`` raises or answers NaN, so
    that the bundle is proven all the same, and fails on those who ask for it.
    """
    folder = models_dir / name / str(version)
    folder.mkdir(parents=True)
    behavior = dict(behavior or {})
    images_BHW = golden_images(
        rows,
        height,
        width,
        low=low,
        high=high,
        without=tuple(value for name, value in behavior.items() if name.endswith("_on")),
    )
    artifact = json.dumps(behavior).encode()
    golden = dump_golden(golden_rows(images_BHW, labels))
    (folder / ARTIFACT_FILE).write_bytes(artifact)
    (folder / GOLDEN_FILE).write_bytes(golden)
    manifest = manifest_document(
        name,
        version,
        labels=labels,
        height=height,
        width=width,
        max_rows=max_rows,
        max_wait_ms=max_wait_ms,
        low=low,
        high=high,
        rows=rows,
        artifact=artifact,
        golden=golden,
    )
    (folder / MANIFEST_FILE).write_text(json.dumps(manifest, indent=2))
    return folder


@contextmanager
def fault(folder: Path, **what: object) -> Iterator[None]:
    """Break the dummy of a bundle that heeds faults, for as long as the block runs; see the dummy's ``Fault``."""
    file = folder.with_name(f"{folder.name}.faults.json")
    beside = file.with_suffix(".tmp")
    beside.write_text(json.dumps(what))
    beside.rename(file)
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


@contextmanager
def held(folder: Path) -> Iterator[Callable[[], bool]]:
    """Hold up the next call of the dummy of a bundle that heeds faults until the block ends, however long that takes.

    The file of its fault is a pipe meanwhile, which the call reads. Yields what tells whether a call waits by now.
    """
    file = folder.with_name(f"{folder.name}.faults.json")
    os.mkfifo(file)
    opened: list[int] = []

    def is_waiting() -> bool:
        if not opened:
            with suppress(OSError):  # nobody reads it yet
                opened.append(os.open(file, os.O_WRONLY | os.O_NONBLOCK))
        return bool(opened)

    try:
        yield is_waiting
    finally:
        opened.append(os.open(file, os.O_RDWR))  # from here on, whoever opens it finds the other end open
        file.unlink()
        os.write(opened[-1], b'{"fault": "slow", "sleep_s": 0}')
        for descriptor in opened:
            os.close(descriptor)


def manifest_document(
    name: str = "dummy",
    version: int = 1,
    *,
    labels: Sequence[str] = ("a", "b", "c"),
    height: int = 2,
    width: int = 3,
    max_rows: int = 8,
    max_wait_ms: float = 0.0,
    low: float = 0.0,
    high: float = 255.0,
    rows: int = 16,
    artifact: bytes = b"{}",
    golden: bytes = b"golden",
) -> dict[str, Any]:
    """Return a valid manifest as JSON, of a bundle whose two files hold the given bytes."""
    return {
        "schema_version": 1,
        "name": name,
        "version": version,
        "description": "Answers by arithmetic.",
        "license": "Apache-2.0",
        "task": {
            "kind": "image_classification",
            "image": {"height": height, "width": width, "low": low, "high": high},
            "labels": list(labels),
        },
        "architecture": {"name": "arithmetic", "config": {}},
        "inputs": [{"name": INPUT_NAME, "dtype": "float32", "shape": ["batch", height, width]}],
        "outputs": [
            {"name": "logits", "dtype": "float32", "shape": ["batch", len(labels)]},
            {"name": "probabilities", "dtype": "float32", "shape": ["batch", len(labels)]},
        ],
        "artifacts": [{"format": "dummy", **file_ref(ARTIFACT_FILE, artifact)}],
        "batching": {"max_rows": max_rows, "max_wait_ms": max_wait_ms},
        "golden": {
            **file_ref(GOLDEN_FILE, golden),
            "rows": rows,
            "tolerance": {"dummy": {"atol": 1e-6, "rtol": 1e-6}},
            "batch_tolerance": {"atol": 1e-6, "rtol": 1e-6},
        },
        "metrics": {"accuracy": 1.0},
    }


def golden_images(
    rows: int, height: int, width: int, *, low: float = 0.0, high: float = 255.0, without: Sequence[float | None] = ()
) -> NDArray[np.float32]:
    """Return pictures in the range, float32, shape (rows, height, width): all low, all high, then noise."""
    images_BHW = np.random.default_rng(0).integers(0, 256, (rows, height, width)) * ((high - low) / 255) + low
    images_BHW[0] = low
    images_BHW[1:2] = high
    images_BHW = images_BHW.astype(np.float32)
    allowed = next(value for value in np.linspace(low, high, 7, dtype=np.float32)[1:] if value not in without)
    images_BHW[np.isin(images_BHW, [value for value in without if value is not None])] = allowed
    return images_BHW


def dummy_outputs(images_BHW: Array, num_labels: int) -> Tensors:
    """Return what a dummy backend without faults makes of pictures: ``logits`` and ``probabilities``, float32."""
    logits: list[list[float]] = []
    probabilities: list[list[float]] = []
    for image_HW in images_BHW:
        total = math.fsum(float(value) for value in image_HW.flat)
        scores = [total * ((k + 1) / 1000) for k in range(num_labels)]
        exponentials = [math.exp(score - max(scores)) for score in scores]
        logits.append(scores)
        probabilities.append([value / math.fsum(exponentials) for value in exponentials])
    return {"logits": np.array(logits, np.float32), "probabilities": np.array(probabilities, np.float32)}


def prediction(probabilities_C: Array, labels: Sequence[str]) -> dict[str, Any]:
    """Return the prediction that a classification answers with, from the probabilities of one row."""
    index = int(np.argmax(probabilities_C))
    named = {label: float(value) for label, value in zip(labels, probabilities_C, strict=True)}
    return {"label": labels[index], "index": index, "probability": named[labels[index]], "probabilities": named}


def predict(images_BHW: Array, labels: Sequence[str] = ("a", "b", "c")) -> list[dict[str, Any]]:
    """Return the predictions that a dummy bundle of these labels answers with, one per picture."""
    return [prediction(row_C, labels) for row_C in dummy_outputs(images_BHW, len(labels))["probabilities"]]


def golden_rows(images_BHW: NDArray[np.float32], labels: Sequence[str]) -> GoldenRows:
    """Return golden rows of the given pictures, answered by arithmetic."""
    outputs = dummy_outputs(images_BHW, len(labels))
    return GoldenRows(
        requests=[{INPUT_NAME: image_HW.tolist()} for image_HW in images_BHW],
        inputs={INPUT_NAME: images_BHW},
        outputs=outputs,
        responses=[prediction(row_C, labels) for row_C in outputs["probabilities"]],
    )


def open_folder(folder: Path) -> Bundle:
    """Open the bundle that lies in ``.../name/version``."""
    return open_bundle(BundleRef(name=folder.parent.name, version=int(folder.name), folder=folder))


def calls_until_ready(folder: Path) -> int:
    """Return how often the backend of a bundle is called before it is ready: golden replay, and warm-up."""
    manifest = read_manifest(folder)
    rows, max_rows = int(manifest["golden"]["rows"]), int(manifest["batching"]["max_rows"])
    # its manifest does not say what one row costs, so the warm-up finds out
    return math.ceil(rows / max_rows) + rows + 2 * WARM_UP_BATCHES


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest as it stands on disk, valid or not."""
    document: dict[str, Any] = json.loads((folder / MANIFEST_FILE).read_text())
    return document


def edit_manifest(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Change the manifest in place with a function; no digest is brought up to date."""
    document = read_manifest(folder)
    edit(document)
    (folder / MANIFEST_FILE).write_text(json.dumps(document, indent=2))


def rewrite_manifest(folder: Path, **changes: object) -> None:
    """Replace members of the manifest; no digest is brought up to date."""
    edit_manifest(folder, lambda document: document.update(changes))


def write_file_with_digest(folder: Path, path: str, data: bytes) -> None:
    """Write a file of the bundle, and its new size and digest into the manifest wherever that names it."""

    def edit(document: dict[str, Any]) -> None:
        texts = document["task"].get("text", {})
        for ref in (*document["artifacts"], document["golden"], *([texts["tokenizer"]] if texts else [])):
            if ref["path"] == path:
                ref.update(file_ref(path, data))

    (folder / path).write_bytes(data)
    edit_manifest(folder, edit)


def write_golden(folder: Path, golden: GoldenRows) -> None:
    """Replace the golden rows, with digest, size and count."""
    write_file_with_digest(folder, GOLDEN_FILE, dump_golden(golden))
    edit_manifest(folder, lambda document: document["golden"].update(rows=len(golden)))


def file_ref(path: str, data: bytes) -> dict[str, Any]:
    """Return path, digest and size as the manifest writes them."""
    return {"path": path, "sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data)}
