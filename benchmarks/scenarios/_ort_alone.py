"""ONNX Runtime alone: batches that lie ready, from as many threads as there are; no service, no file, no answer.

Run as a process of its own: ``python -m benchmarks.scenarios._ort_alone GRAPH INPUTS THREADS SECONDS [KIND ROWS]``. It
prints JSON. Without a kind and rows, it looks for the best: one session of several threads, or several of one thread,
and the number of rows of a batch.
"""

import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from app.tensors import LENGTHS, Tensors, num_rows

KINDS = ("one session", "a session for each thread")
ROWS = (1, 2, 4, 8, 16, 32, 64, 128)
_LOOK_S = 0.7


def batches(inputs: Tensors, rows: int) -> list[Tensors]:
    """Return full batches; rows with lengths sorted by them, so that next to nothing is padded."""
    order = np.argsort(inputs[LENGTHS], kind="stable") if LENGTHS in inputs else np.arange(num_rows(inputs))
    found = []
    for start in range(0, len(order) - rows + 1, rows):
        places = order[start : start + rows]
        batch = {name: array[places] for name, array in inputs.items()}
        if LENGTHS in batch:
            longest = int(batch[LENGTHS].max())
            batch = {name: a if name == LENGTHS else np.ascontiguousarray(a[:, :longest]) for name, a in batch.items()}
        found.append(batch)
    return found


def rate(graph: Path, ready: list[Tensors], *, threads: int, seconds: float, kind: str) -> tuple[float, float]:
    """Return rows a second, and microseconds of CPU a row; whole passes over all batches, no fewer than one."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    one = kind == KINDS[0]
    options.intra_op_num_threads = threads if one else 1
    sessions = [
        onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        for _ in range(1 if one else threads)
    ]
    for session in sessions:
        session.run(None, ready[-1])
    lock, given, rows = threading.Lock(), 0, 0
    started_at = time.perf_counter()

    def take() -> Tensors | None:
        nonlocal given, rows
        with lock:
            if given % len(ready) == 0 and given and time.perf_counter() - started_at >= seconds:
                return None
            batch = ready[given % len(ready)]
            given += 1
            rows += num_rows(batch)
            return batch

    def run(session: Any) -> None:
        while (batch := take()) is not None:
            session.run(None, batch)

    workers = [threading.Thread(target=run, args=(session,)) for session in sessions]
    cpu_s = time.process_time()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return rows / (time.perf_counter() - started_at), (time.process_time() - cpu_s) / rows * 1e6


def best(graph: Path, inputs: Tensors, *, threads: int) -> tuple[str, int]:
    """Return the kind and the rows of a batch that answer the most rows a second."""
    found = [
        (rate(graph, batches(inputs, rows), threads=threads, seconds=_LOOK_S, kind=kind)[0], kind, rows)
        for kind in KINDS
        for rows in ROWS
    ]
    _, kind, rows = max(found)
    return kind, rows


def main(argv: list[str]) -> int:
    """Measure, and print what was found."""
    graph, inputs_path, threads, seconds = Path(argv[0]), Path(argv[1]), int(argv[2]), float(argv[3])
    with np.load(inputs_path) as archive:
        inputs = dict(archive)
    kind, rows = (argv[4], int(argv[5])) if len(argv) > 4 else best(graph, inputs, threads=threads)
    rows_per_s, cpu_us = rate(graph, batches(inputs, rows), threads=threads, seconds=seconds, kind=kind)
    print(json.dumps({"rows_per_s": rows_per_s, "cpu_us": cpu_us, "kind": kind, "rows": rows}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
