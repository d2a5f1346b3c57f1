"""The models as every peer runs them, so that what differs is the server: ONNX Runtime with one thread, and NumPy.

Runs in the peers' own environments; needs NumPy, ONNX Runtime and, for texts, tokenizers. The tensors are those that
the service makes (``app.preprocess``, ``app.tasks``), written out again, since nothing of the service is there; before
anything is measured, the answers are held against the service's.

Environment:
    BENCH_BUNDLE: Folder with ``manifest.json`` and the files that it names.
    BENCH_PORT: Where to listen, on the loopback.
    BENCH_MAX_BATCH: Most instances in a batch; 1 turns the peer's batching off.
    BENCH_WAIT_MS: How long a batch may wait for more of them.
    BENCH_OUTPUTS: Names of the tensors to answer with, parted by commas, and nothing made of them; without it, answers
        are what the service words.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # before the import, which reports otherwise
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
import onnxruntime
from numpy.typing import NDArray

Row = NDArray[Any]
Prediction = dict[str, Any]


class Model:
    """One session with one thread, which is what one core has room for.

    Args:
        bundle: Folder of the model.

    Attributes:
        field: Name of what an instance holds, ``image`` or ``text``.
        outputs: Names of the tensors that answers are made of.
        is_bare: Whether answers are these tensors and nothing else.
    """

    def __init__(self, bundle: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(bundle / "model.onnx", options, providers=["CPUExecutionProvider"])
        task = json.loads((bundle / "manifest.json").read_text())["task"]
        self._labels: list[str] | None = task.get("labels")
        self._threshold: float = task.get("threshold", 0.0)
        self._tokenizer = _Tokenizer(bundle, task["text"]) if "text" in task else None
        self.field = "text" if self._tokenizer else "image"
        asked = os.environ.get("BENCH_OUTPUTS", "")
        self.is_bare = bool(asked)
        self.outputs = tuple(asked.split(",")) if asked else ("probabilities",) if self._labels else ("error", "code")

    def row(self, value: Any) -> Row:
        """Return one input: float32 of shape (28, 28) of a picture, int64 of shape (tokens,) of a text."""
        return self._tokenizer.ids(value) if self._tokenizer else np.array(value, dtype=np.float32)

    def run(self, rows: Sequence[Row]) -> dict[str, NDArray[np.float32]]:
        """Run a batch; texts are padded with zeros to the longest."""
        if self._tokenizer is None:
            inputs = {"image": np.stack(rows)}
        else:
            lengths_B = np.array([len(row) for row in rows], dtype=np.int64)
            tokens_BT = np.zeros((len(rows), lengths_B.max()), dtype=np.int64)
            for padded, row in zip(tokens_BT, rows, strict=True):
                padded[: len(row)] = row
            inputs = {"tokens": tokens_BT, "lengths": lengths_B}
        return dict(zip(self.outputs, self._session.run(self.outputs, inputs), strict=True))

    def describe(self, outputs: Mapping[str, NDArray[np.float32]]) -> list[Prediction]:
        """Return one prediction for each row, as the service words it."""
        if self._labels is None:
            errors, codes = outputs["error"].tolist(), outputs["code"].tolist()
            return [
                {"error": error, "anomaly": error > self._threshold, "code": code}
                for error, code in zip(errors, codes, strict=True)
            ]
        best_B = outputs["probabilities"].argmax(axis=1).tolist()
        return [
            {
                "label": self._labels[best],
                "index": best,
                "probability": row[best],
                "probabilities": dict(zip(self._labels, row, strict=True)),
            }
            for best, row in zip(best_B, outputs["probabilities"].tolist(), strict=True)
        ]

    def predict(self, instances: Sequence[Mapping[str, Any]]) -> list[Prediction]:
        """Return one prediction for each instance."""
        return self.describe(self.run([self.row(instance[self.field]) for instance in instances]))

    def names(self, outputs: Mapping[str, NDArray[np.float32]]) -> list[str]:
        """Return the label of each row."""
        assert self._labels is not None
        return [self._labels[best] for best in outputs["probabilities"].argmax(axis=1).tolist()]

    def anomalies(self, outputs: Mapping[str, NDArray[np.float32]]) -> NDArray[np.bool_]:
        """Return whether each row is too far from its reconstruction."""
        return np.array([error > self._threshold for error in outputs["error"].tolist()])


class _Tokenizer:
    """Texts to ids as ``app.preprocess.text`` makes them."""

    def __init__(self, bundle: Path, spec: Mapping[str, Any]) -> None:
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_file(str(bundle / spec["tokenizer"]["path"]))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(spec["max_tokens"])
        self._tokenizer.encode_special_tokens = True
        self._max_chars: int = spec["max_chars"]

    def ids(self, text: str) -> Row:
        (encoding,) = self._tokenizer.encode_batch_fast([text[: self._max_chars]])
        return np.array(encoding.ids, dtype=np.int64)


def from_environ() -> Model:
    """Return the model that the environment names."""
    return Model(Path(os.environ["BENCH_BUNDLE"]))


def port() -> int:
    """Return where to listen."""
    return int(os.environ["BENCH_PORT"])


def max_batch() -> int:
    """Return the most instances in a batch."""
    return int(os.environ.get("BENCH_MAX_BATCH", "1"))


def wait_ms() -> float:
    """Return how long a batch may wait for more instances."""
    return float(os.environ.get("BENCH_WAIT_MS", "0"))
