"""Rows of different lengths: requests, golden rows and a whole bundle, answered by arithmetic.

The outputs in the golden file are worked out from the documentation of the dummy backend and not by calling it; it sums
whole rows, lengths included, and padding adds nothing.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from app.bundle.golden import GoldenRows, dump_golden
from app.bundle.loader import MANIFEST_FILE
from app.tensors import LENGTHS, Tensors, concat_padded
from tests.support.bundles import ARTIFACT_FILE, GOLDEN_FILE, manifest_document

CHANNELS = 2
LABELS = ("a", "b", "c")


def series(lengths: Sequence[int], *, start: int = 1) -> Tensors:
    """Return series as a task hands them over: ``series``, float32, shape (B, T, 2), and ``lengths``.

    No number occurs twice, and none is 0: what is 0 is padding.
    """
    rows: list[Tensors] = []
    for length in lengths:
        steps_TC = np.arange(start, start + length * CHANNELS, dtype=np.float32).reshape(1, length, CHANNELS)
        rows.append({"series": steps_TC, LENGTHS: np.array([length], np.int64)})
        start += length * CHANNELS
    return concat_padded(rows)


def row_sums(tensors: Tensors) -> list[float]:
    """Return the sum of the real part of every row, and its length, each row looked at by itself."""
    return [
        math.fsum(float(value) for value in steps_TC[:length].flat) + int(length)
        for steps_TC, length in zip(tensors["series"], tensors[LENGTHS], strict=True)
    ]


def series_outputs(tensors: Tensors) -> Tensors:
    """Return what a dummy backend without faults makes of series."""
    scores_BC = np.array([[total * ((k + 1) / 1000) for k in range(len(LABELS))] for total in row_sums(tensors)])
    exponentials_BC = np.exp(scores_BC - scores_BC.max(axis=1, keepdims=True))
    probabilities_BC = exponentials_BC / exponentials_BC.sum(axis=1, keepdims=True)
    return {"logits": scores_BC.astype(np.float32), "probabilities": probabilities_BC.astype(np.float32)}


def golden_series(lengths: Sequence[int]) -> GoldenRows:
    """Return golden rows of the given lengths."""
    inputs = series(lengths)
    outputs = series_outputs(inputs)
    return GoldenRows(
        requests=[
            {"sequence": steps_TC[:length].tolist()}
            for steps_TC, length in zip(inputs["series"], inputs[LENGTHS], strict=True)
        ],
        inputs=inputs,
        outputs=outputs,
        responses=[
            {"label": LABELS[int(row_C.argmax())], "probabilities": row_C.tolist()}
            for row_C in outputs["probabilities"]
        ],
    )


def series_document(
    *, rows: int, max_rows: int, max_elements: int | None, golden: bytes = b"golden", version: int = 1
) -> dict[str, Any]:
    """Return a valid manifest as JSON, of a model of series."""
    return manifest_document("series", version, rows=rows, artifact=b"{}", golden=golden) | {
        "task": {
            "kind": "sequence_classification",
            "sequence": {"num_channels": CHANNELS, "max_length": 1000},
            "labels": list(LABELS),
        },
        "inputs": [
            {"name": "series", "dtype": "float32", "shape": ["batch", "steps", CHANNELS]},
            {"name": LENGTHS, "dtype": "int64", "shape": ["batch"]},
        ],
        "batching": {"max_rows": max_rows, "max_elements": max_elements},
    }


def series_bundle(
    models_dir: Path, lengths: Sequence[int], *, max_rows: int, max_elements: int | None, version: int = 1
) -> Path:
    """Write a whole, valid bundle of a model of series that the dummy backend serves; return its folder."""
    folder = models_dir / "series" / str(version)
    folder.mkdir(parents=True)
    golden = dump_golden(golden_series(lengths))
    document = series_document(
        rows=len(lengths), max_rows=max_rows, max_elements=max_elements, golden=golden, version=version
    )
    (folder / ARTIFACT_FILE).write_bytes(b"{}")
    (folder / GOLDEN_FILE).write_bytes(golden)
    (folder / MANIFEST_FILE).write_text(json.dumps(document))
    return folder
