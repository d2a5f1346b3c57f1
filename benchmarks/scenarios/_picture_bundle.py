"""A small model of large pictures: 3x224x224 float32 in, ten scores out, and little to compute in between."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from app.bundle.golden import GoldenRows, dump_golden

SHAPE = (3, 224, 224)
NAME = "picture"
INPUT, OUTPUT = "image", "scores"
_CHANNELS, _PATCH, _SCORES = 8, 16, 10
_GOLDEN_ROWS = 2  # as JSON they are some megabytes each
_OPSET, _IR_VERSION = 17, 8  # which ONNX Runtime has known for long
_ARTIFACT, _GOLDEN = "model.onnx", "golden.npz"


def pictures(count: int, *, seed: int = 0) -> NDArray[np.float32]:
    """Return made-up pictures, shape (count, 3, 224, 224), float32 from 0 to 1."""
    return np.random.default_rng(seed).random((count, *SHAPE)).astype(np.float32)


def _weights() -> dict[str, NDArray[np.float32]]:
    generator = np.random.default_rng(0)
    kernel = generator.standard_normal((_CHANNELS, SHAPE[0], _PATCH, _PATCH)) / _PATCH
    dense = generator.standard_normal((_CHANNELS, _SCORES))
    return {"kernel": kernel.astype(np.float32), "dense": dense.astype(np.float32)}


def network() -> bytes:
    """Return an ONNX file: a convolution of patches, the mean over all of them, one dense layer."""
    graph = helper.make_graph(
        [
            helper.make_node("Conv", [INPUT, "kernel"], ["found"], strides=[_PATCH, _PATCH]),
            helper.make_node("Relu", ["found"], ["positive"]),
            helper.make_node("GlobalAveragePool", ["positive"], ["mean"]),
            helper.make_node("Flatten", ["mean"], ["flat"]),
            helper.make_node("MatMul", ["flat", "dense"], [OUTPUT]),
        ],
        NAME,
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["batch", *SHAPE])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch", _SCORES])],
        [numpy_helper.from_array(array, name) for name, array in _weights().items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)])
    model.ir_version = _IR_VERSION
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content


def write(models_dir: Path) -> Path:
    """Write the bundle, with the task ``tensors``; return its folder."""
    folder = models_dir / NAME / "1"
    folder.mkdir(parents=True)
    artifact = network()
    rows = pictures(_GOLDEN_ROWS, seed=1)
    scores = _scores(rows)
    golden = dump_golden(
        GoldenRows(
            requests=[{"inputs": {INPUT: row.tolist()}} for row in rows],
            inputs={INPUT: rows},
            outputs={OUTPUT: scores},
            responses=[{"outputs": {OUTPUT: row.tolist()}} for row in scores],
        )
    )
    tolerance = {"atol": 1e-5, "rtol": 1e-5}
    document = {
        "schema_version": 1,
        "name": NAME,
        "version": 1,
        "description": "Little to compute for much to read.",
        "license": "Apache-2.0",
        "task": {"kind": "tensors", "bounds": {INPUT: {"low": 0.0, "high": 1.0}}},
        "architecture": {"name": "convolution", "config": {}},
        "inputs": [{"name": INPUT, "dtype": "float32", "shape": ["batch", *SHAPE]}],
        "outputs": [{"name": OUTPUT, "dtype": "float32", "shape": ["batch", _SCORES]}],
        "artifacts": [{"format": "onnx", **_file(_ARTIFACT, artifact)}],
        "batching": {"max_rows": 8},
        "golden": {
            **_file(_GOLDEN, golden),
            "rows": _GOLDEN_ROWS,
            "tolerance": {"onnx": tolerance},
            "batch_tolerance": tolerance,
        },
    }
    (folder / _ARTIFACT).write_bytes(artifact)
    (folder / _GOLDEN).write_bytes(golden)
    (folder / "manifest.json").write_text(json.dumps(document))
    return folder


def _scores(rows_BCHW: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what the network has to answer, worked out without it: float32 of shape (B, 10)."""
    weights = _weights()
    channels, height, width = SHAPE
    patches = rows_BCHW.reshape(-1, channels, height // _PATCH, _PATCH, width // _PATCH, _PATCH)
    found = np.einsum("bciyjx,kcyx->bkij", patches, weights["kernel"], dtype=np.float64, optimize=True)
    scores: NDArray[np.float32] = (np.maximum(found, 0).mean(axis=(2, 3)) @ weights["dense"]).astype(np.float32)
    return scores


def _file(path: str, data: bytes) -> dict[str, Any]:
    return {"path": path, "sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data)}
