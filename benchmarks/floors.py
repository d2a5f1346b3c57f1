"""What each step of a request costs when nothing stands around it, inside one process."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle
from statistics import median
from typing import Any

import numpy as np
import orjson
import simdjson

from app import tasks
from app.bundle.loader import Bundle
from app.bundle.manifest import Manifest
from app.settings import Settings
from benchmarks.doors import DOORS
from benchmarks.workloads import Workload

BATCH_ROWS = 32
_REPEATS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of a request.

    Attributes:
        name: In the table.
        us: Microseconds for one instance, the median of several repeats.
        counts: Whether it is in the sum; what does not count is the same work done in another way.
    """

    name: str
    us: float
    counts: bool


def measure(workload: Workload, *, seconds: float) -> list[Step]:
    """Measure the steps of a workload.

    Args:
        workload: Whose instances are read, run and answered.
        seconds: For each step.
    """
    manifest = Manifest.model_validate_json((workload.bundle / "manifest.json").read_bytes())
    settings = Settings()
    limits = tasks.Limits(max_instances=settings.max_instances, max_image_pixels=settings.max_image_pixels)
    task = tasks.create(Bundle(folder=workload.bundle, manifest=manifest), limits)
    query = dict(pair.split("=") for pair in workload.query.removeprefix("?").split("&") if pair)
    options = task.parse_options(query)
    bodies = [DOORS["instances"].body(workload, value) for value in workload.values]
    decoded = [task.decode_json(orjson.loads(body)) for body in bodies]

    session = _session(workload)
    names = ("probabilities",) if workload.labels else ("error", "code")
    outputs = dict(zip(names, session.run(names, decoded[0]), strict=True))

    def answer() -> bytes:
        return orjson.dumps({"model": manifest.name, "version": "1", "predictions": task.encode(outputs, options)})

    in_turn, rows_in_turn = cycle(bodies), cycle(decoded)

    def step(name: str, call: Callable[[], object], *, rows: int = 1, counts: bool = True) -> Step:
        return Step(name=name, us=_microseconds(call, seconds) / rows, counts=counts)

    one_row = lambda: session.run(names, next(rows_in_turn))  # noqa: E731
    if workload.field == "text":
        return [
            # pad a batch to its longest, and it costs more for each text than one alone does
            step("JSON to tokens", lambda: task.decode_json(orjson.loads(next(in_turn)))),
            step("the model, each text alone", one_row),
            step("the answer to JSON", answer),
        ]
    bare = _BareDecoder()
    many = {name: np.concatenate([row[name] for row in decoded][:BATCH_ROWS]) for name in decoded[0]}
    return [
        step("JSON to float32, unchecked", lambda: bare.decode(next(in_turn))),
        step("JSON to float32, checked as the service does", lambda: task.decode_fast(next(in_turn)), counts=False),
        step("the model, one row", one_row, counts=False),
        step(f"the model, each of {BATCH_ROWS} rows", lambda: session.run(names, many), rows=BATCH_ROWS),
        step("the answer to JSON", answer),
    ]


def _session(workload: Workload) -> Any:
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # before the import, which reports otherwise
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(workload.bundle / "model.onnx", options, providers=["CPUExecutionProvider"])


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
