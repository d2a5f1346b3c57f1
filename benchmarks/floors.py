"""What each step of a request costs when nothing stands around it, inside one process."""

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import orjson
import simdjson

from app import tasks
from app.bundle.loader import Bundle
from app.bundle.manifest import Manifest
from app.settings import Settings

BATCH_ROWS = 32
_REPEATS = 5


def measure(bundle: Path, bodies: Sequence[bytes], *, seconds: float) -> dict[str, float]:
    """Return microseconds for one picture, by step: the median of several repeats.

    Args:
        bundle: Folder of the model.
        bodies: JSON of one picture each, at least a batch of them.
        seconds: For each step.
    """
    manifest = Manifest.model_validate_json((bundle / "manifest.json").read_bytes())
    settings = Settings()
    limits = tasks.Limits(max_instances=settings.max_instances, max_image_pixels=settings.max_image_pixels)
    task = tasks.create(Bundle(folder=bundle, manifest=manifest), limits)
    options = task.parse_options({})

    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # before the import, which reports otherwise
    import onnxruntime

    session_options = onnxruntime.SessionOptions()
    session_options.intra_op_num_threads = session_options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(bundle / "model.onnx", session_options, providers=["CPUExecutionProvider"])
    names = [spec.name for spec in manifest.outputs]
    decoded = [task.decode_fast(body) for body in bodies]
    one = decoded[0]
    assert one is not None
    many = {name: np.concatenate([d[name] for d in decoded if d is not None][:BATCH_ROWS]) for name in one}
    outputs = dict(zip(names, session.run(names, one), strict=True))
    bare = _BareDecoder()

    def encode() -> bytes:
        return orjson.dumps({"model": manifest.name, "version": "1", "predictions": task.encode(outputs, options)})

    in_turn = iter(range(2**62))
    steps: dict[str, tuple[Callable[[], object], int]] = {
        "JSON to float32, unchecked": (lambda: bare.decode(bodies[next(in_turn) % len(bodies)]), 1),
        "JSON to float32, checked as the service does": (
            lambda: task.decode_fast(bodies[next(in_turn) % len(bodies)]),
            1,
        ),
        "the model, one row": (lambda: session.run(names, one), 1),
        f"the model, each of {BATCH_ROWS} rows": (lambda: session.run(names, many), BATCH_ROWS),
        "the answer to JSON": (encode, 1),
    }
    return {name: _microseconds(step, seconds) / rows for name, (step, rows) in steps.items()}


class _BareDecoder:
    """The least that makes an array of a body; it would accept ragged rows, and a wrong number of them."""

    def __init__(self) -> None:
        self._parser = simdjson.Parser()

    def decode(self, body: bytes) -> object:
        document: Any = self._parser.parse(body)
        return np.frombuffer(document["instances"][0]["image"].as_buffer(of_type="d")).astype(np.float32)


def _microseconds(step: Callable[[], object], seconds: float) -> float:
    """Return what this process computes for a step. The clock is read once for many calls."""
    calls = 1
    while (once := _time(step, calls)) < seconds / _REPEATS / 4:
        calls *= 2
    calls = max(1, round(calls * seconds / _REPEATS / once))
    return median(_time(step, calls) for _ in range(_REPEATS)) / calls * 1e6


def _time(step: Callable[[], object], calls: int) -> float:
    started_at = time.process_time()
    for _ in range(calls):
        step()
    return time.process_time() - started_at
