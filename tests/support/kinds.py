"""A bundle of every kind of task, that the dummy backend serves; requests, tensors and answers are written out by hand.

The outputs are worked out from the documentation of the dummy backend, as in :mod:`tests.support.bundles`.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from app.bundle.golden import GoldenRows, dump_golden
from app.bundle.loader import MANIFEST_FILE
from app.tensors import Array, Tensors
from tests.support.bundles import ARTIFACT_FILE, GOLDEN_FILE, file_ref, manifest_document, prediction

LABELS = ("a", "b", "c")
TOKENIZER_FILE = "tokenizer.json"
MAX_CHARS, MAX_TOKENS = 40, 8
CODE_SIZE, THRESHOLD = 4, 0.05

Spec = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What a bundle of one kind of task holds.

    Attributes:
        task: Settings, as the manifest writes them.
        inputs: Specifications of the tensors.
        outputs: Likewise.
        requests: Golden ones.
        tensors: What they become, padded to the longest.
        answer: From the outputs to the golden responses.
        files: Beside manifest, artifact and golden rows.
    """

    task: dict[str, Any]
    inputs: list[Spec]
    outputs: list[Spec]
    requests: list[dict[str, Any]]
    tensors: Tensors
    answer: Callable[[Tensors], list[dict[str, Any]]]
    files: Mapping[str, bytes] = field(default_factory=dict)


@cache
def tokenizer_json() -> bytes:
    """Return a tokenizer trained on a few sentences; its unknown token is 1, and it adds no special tokens."""
    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.BpeTrainer(vocab_size=60, special_tokens=["[PAD]", "[UNK]"], show_progress=False)
    tokenizer.train_from_iterator(["the cat sat on the mat", "the dog sat on the log", "hello to the cat"], trainer)
    return tokenizer.to_str().encode()


def _spec(name: str, dtype: str, *axes: int | str) -> Spec:
    return {"name": name, "dtype": dtype, "shape": ["batch", *axes]}


_SCORES = [_spec("logits", "float32", len(LABELS)), _spec("probabilities", "float32", len(LABELS))]


def _name_labels(outputs: Tensors) -> list[dict[str, Any]]:
    return [prediction(row_C, LABELS) for row_C in outputs["probabilities"]]


def _image_classification() -> Kind:
    images_BHW = np.array([[[0, 0, 0], [0, 0, 0]], [[1, 2, 3], [4, 5, 6]], [[0.5, 9, 9], [9, 9, 255]]], np.float32)
    return Kind(
        task={"image": {"height": 2, "width": 3, "low": 0.0, "high": 255.0}, "labels": list(LABELS)},
        inputs=[_spec("image", "float32", 2, 3)],
        outputs=_SCORES,
        requests=[{"image": image_HW.tolist()} for image_HW in images_BHW],
        tensors={"image": images_BHW},
        answer=_name_labels,
    )


def _image_reconstruction() -> Kind:
    def answer(outputs: Tensors) -> list[dict[str, Any]]:
        return [
            {
                "error": float(error),
                "anomaly": float(error) > THRESHOLD,
                "code": [float(number) for number in code],
                "reconstruction": [[float(number) for number in row] for row in picture],
            }
            for error, code, picture in zip(outputs["error"], outputs["code"], outputs["reconstruction"], strict=True)
        ]

    pictures = _image_classification()
    return Kind(
        task={
            "image": pictures.task["image"],
            "code_size": CODE_SIZE,
            "threshold": THRESHOLD,
            "threshold_quantile": 0.99,
        },
        inputs=pictures.inputs,
        outputs=[
            _spec("error", "float32"),
            _spec("code", "float32", CODE_SIZE),
            _spec("reconstruction", "float32", 2, 3),
        ],
        requests=pictures.requests,
        tensors=pictures.tensors,
        answer=answer,
    )


def _sequence_classification() -> Kind:
    series = [[[1, 2]], [[-3, 0.5], [0, 0], [3, 3]], [[0.25, -0.25], [1e-3, 2]]]
    padded_BTC = np.zeros((3, 3, 2), np.float32)
    for row, steps in enumerate(series):
        for t, step in enumerate(steps):
            padded_BTC[row, t] = step
    return Kind(
        task={
            "sequence": {"num_channels": 2, "min_length": 1, "max_length": 5, "low": -3.0, "high": 3.0},
            "labels": list(LABELS),
        },
        inputs=[_spec("sequence", "float32", "time", 2), _spec("lengths", "int64")],
        outputs=_SCORES,
        requests=[{"sequence": steps} for steps in series],
        tensors={"sequence": padded_BTC, "lengths": np.array([1, 3, 2])},
        answer=_name_labels,
    )


def _tabular(outputs: list[Spec], answer: Callable[[Tensors], list[dict[str, Any]]], **settings: Any) -> Kind:
    features = [{"name": "x", "minimum": 0.0}, {"name": "y", "maximum": 9.0}]
    rows_BF = np.array([[0, 0], [1.5, 9], [7, -2]], np.float32)
    return Kind(
        task={"features": features} | settings,
        inputs=[_spec("features", "float32", 2)],
        outputs=outputs,
        requests=[{"features": {"y": float(y), "x": float(x)}} for x, y in rows_BF],
        tensors={"features": rows_BF},
        answer=answer,
    )


def _tabular_classification() -> Kind:
    return _tabular(_SCORES, _name_labels, labels=list(LABELS))


def _tabular_regression() -> Kind:
    def answer(outputs: Tensors) -> list[dict[str, Any]]:
        return [{"value": float(value)} for value in outputs["value"]]

    return _tabular([_spec("value", "float32")], answer, target={"name": "price", "unit": "EUR"})


def _text_classification() -> Kind:
    encode = Tokenizer.from_str(tokenizer_json().decode()).encode
    # the blank one is the unknown token; the long ones are cut, once by characters and once by tokens
    texts = ["The cat", " ", "日本", "hello\0 dog", "t" * 45, "on " * 12]
    ids = [encode("the cat").ids, [1], [1, 1], encode("hello\0 dog").ids, encode("t" * 40).ids, encode("on " * 8).ids]
    rows = [row[:MAX_TOKENS] for row in ids]
    padded_BT = np.zeros((len(rows), max(map(len, rows))), np.int64)
    for index, row in enumerate(rows):
        padded_BT[index, : len(row)] = row
    data = tokenizer_json()
    return Kind(
        task={
            "text": {"tokenizer": file_ref(TOKENIZER_FILE, data), "max_chars": MAX_CHARS, "max_tokens": MAX_TOKENS},
            "labels": list(LABELS),
        },
        inputs=[_spec("tokens", "int64", "tokens"), _spec("lengths", "int64")],
        outputs=_SCORES,
        requests=[{"text": text} for text in texts],
        tensors={"tokens": padded_BT, "lengths": np.array([len(row) for row in rows])},
        answer=_name_labels,
        files={TOKENIZER_FILE: data},
    )


def _tensors() -> Kind:
    def answer(outputs: Tensors) -> list[dict[str, Any]]:
        return [
            {"outputs": {"scores": scores.tolist(), "total": float(total)}}
            for scores, total in zip(outputs["scores"], outputs["total"], strict=True)
        ]

    matrices = [[[0.5, -1], [2, 3]], [[0, 0], [1e-3, 7]], [[1, 2], [3, 4]]]
    counts, flags = [0, 9, 3], [[True, False, True], [False] * 3, [True] * 3]
    return Kind(
        task={"bounds": {"count": {"low": 0, "high": 9}}, "max_lengths": {"rows": 4}},
        inputs=[_spec("matrix", "float32", "rows", 2), _spec("count", "int64"), _spec("flags", "bool", 3)],
        outputs=[_spec("scores", "float32", 2, 2), _spec("total", "float64")],
        requests=[
            {"inputs": {"matrix": matrix, "count": count, "flags": flag}}
            for matrix, count, flag in zip(matrices, counts, flags, strict=True)
        ],
        tensors={
            "matrix": np.array(matrices, np.float32),
            "count": np.array(counts, np.int64),
            "flags": np.array(flags),
        },
        answer=answer,
    )


_KINDS: dict[str, Callable[[], Kind]] = {
    "image_classification": _image_classification,
    "image_reconstruction": _image_reconstruction,
    "sequence_classification": _sequence_classification,
    "tabular_classification": _tabular_classification,
    "tabular_regression": _tabular_regression,
    "tensors": _tensors,
    "text_classification": _text_classification,
}
KINDS: Sequence[str] = tuple(_KINDS)


def kind_of(kind: str) -> Kind:
    """Return what a bundle of a kind of task holds."""
    return _KINDS[kind]()


def kind_document(kind: str, name: str | None = None, version: int = 1, **bytes_of: bytes) -> dict[str, Any]:
    """Return a valid manifest as JSON, of a bundle named after its kind; ``artifact`` and ``golden`` are its files."""
    held = kind_of(kind)
    return manifest_document(name or kind, version, rows=len(held.requests), **bytes_of) | {
        "task": {"kind": kind} | held.task,
        "inputs": held.inputs,
        "outputs": held.outputs,
        "metrics": {},
    }


def kind_golden(kind: str) -> GoldenRows:
    """Return the golden rows of a kind of task."""
    held = kind_of(kind)
    outputs = dummy_outputs(held.tensors, held.outputs)
    return GoldenRows(requests=held.requests, inputs=held.tensors, outputs=outputs, responses=held.answer(outputs))


def kind_bundle(
    models_dir: Path,
    kind: str,
    name: str | None = None,
    version: int = 1,
    *,
    behavior: Mapping[str, Any] | None = None,
) -> Path:
    """Write a whole, valid bundle of a kind of task; return its folder, ``models_dir/name/version``."""
    folder = models_dir / (name or kind) / str(version)
    folder.mkdir(parents=True)
    files = {ARTIFACT_FILE: json.dumps(dict(behavior or {})).encode(), GOLDEN_FILE: dump_golden(kind_golden(kind))}
    document = kind_document(kind, name, version, artifact=files[ARTIFACT_FILE], golden=files[GOLDEN_FILE])
    for path, data in (files | kind_of(kind).files).items():
        (folder / path).write_bytes(data)
    (folder / MANIFEST_FILE).write_text(json.dumps(document, indent=2))
    return folder


def dummy_outputs(tensors: Tensors, specs: Sequence[Spec]) -> Tensors:
    """Return what a dummy backend without faults makes of tensors."""
    rows = range(len(next(iter(tensors.values()))))
    totals = [math.fsum(float(value) for array in tensors.values() for value in array[row].flat) for row in rows]
    return {spec["name"]: np.stack([_output(spec, total) for total in totals]) for spec in specs}


def _output(spec: Spec, total: float) -> Array:
    shape = [axis for axis in spec["shape"] if axis != "batch"]
    numbers = [total * ((k + 1) / 1000) for k in range(math.prod(shape))]
    if spec["name"] == "probabilities":
        exponentials = [math.exp(number - max(numbers)) for number in numbers]
        numbers = [value / math.fsum(exponentials) for value in exponentials]
    return np.array(numbers, spec["dtype"]).reshape(shape)
