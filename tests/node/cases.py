"""Writes golden rows down for another language: arrays as base64 of little-endian numbers, tolerances by output."""

import base64
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from app.bundle.loader import Bundle, find_bundles, open_bundle
from app.tensors import Array

# formats that onnxruntime-node reads
FORMAT = "onnx"


def cases_of(bundle: Bundle) -> list[dict[str, Any]]:
    """Return one case for every ONNX artifact of a bundle."""
    manifest = bundle.manifest
    return [_case(bundle, artifact.key) for artifact in manifest.artifacts if artifact.format == FORMAT]


def write(models_dir: Path, target: Path) -> int:
    """Write the cases of all bundles below a folder; return their number."""
    cases = [case for ref in find_bundles(models_dir) for case in cases_of(open_bundle(ref))]
    target.write_text(json.dumps(cases))
    return len(cases)


def _case(bundle: Bundle, key: str) -> dict[str, Any]:
    manifest, golden, artifact = bundle.manifest, bundle.golden(key), bundle.artifact(key)
    bundle.read(artifact)  # whose digest is then known to be right
    return {
        "label": f"{manifest.name}/{manifest.version} {key}",
        "model": str((bundle.folder / artifact.path).resolve()),
        "rows": len(golden),
        "maxRows": manifest.batching.max_rows,
        "inputs": {spec.name: array_document(golden.inputs[spec.name]) for spec in manifest.inputs},
        "outputs": {spec.name: array_document(golden.outputs[spec.name]) for spec in manifest.outputs},
        "tolerance": {
            spec.name: manifest.golden.tolerance_of(key, spec.name).model_dump() for spec in manifest.outputs
        },
        "batchTolerance": manifest.golden.batch_tolerance.model_dump(),
    }


def array_document(array: Array) -> dict[str, Any]:
    """Return an array as JSON."""
    data = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()
    return {"dtype": array.dtype.name, "dims": list(array.shape), "base64": base64.b64encode(data).decode()}


if __name__ == "__main__":
    write(Path(sys.argv[1]), Path(sys.argv[2]))
