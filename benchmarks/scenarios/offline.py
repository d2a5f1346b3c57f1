"""Whole files without a server: ``python -m app predict`` beside ONNX Runtime alone at its best batch size."""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from app import cpus
from app.bundle.loader import BundleRef, open_bundle
from app.preprocess.text import TextPreparation
from app.tensors import LENGTHS, Tensors
from benchmarks import processes
from benchmarks.findings import Bar, Finding, Setting
from benchmarks.pictures import REPOSITORY
from benchmarks.scenarios import _command
from benchmarks.scenarios._bundles import MODELS_DIR, manifest_of, newest
from benchmarks.scenarios._texts import Texts

BAR, AIM = 0.8, 0.95
# of one turn; a file is as long as ONNX Runtime alone would need for it
TURN_S, QUICK_TURN_S = 20.0, 0.5
LEAST_TOKENS, MOST_TOKENS, TEXTS, SEED = 5, 300, 2048, 20
_FIXTURE = REPOSITORY / "tests" / "fixtures" / "fashion_mnist_test_512.npz"
_TIMEOUT_S = 600.0
_POLL_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """One file.

    Attributes:
        name: In the table.
        model: That answers.
        file: Name of the file or folder.
        write: Writes so many rows.
        is_promised: Whether the bar is for it.
        share: Of the rows; folders of many small files are slow to make.
    """

    name: str
    model: str
    file: str
    write: Callable[[Path, int], None]
    is_promised: bool = False
    share: float = 1.0


@dataclass(frozen=True, slots=True)
class Turn:
    """What one run over a file came to."""

    rows_per_s: float
    cpu_us: float
    resident_mb: float


def measure(setting: Setting) -> Finding:
    """Measure, in turn, each file and ONNX Runtime alone on the same rows and threads."""
    threads = cpus.num_cores()
    seconds = QUICK_TURN_S if setting.is_quick else TURN_S
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        measured: list[tuple[Input, dict[str, Any], list[dict[str, Any]], list[Turn], int]] = []
        for model, inputs in _by_model().items():
            tensors = _TENSORS[model]()
            np.savez(folder / f"{model}.npz", **tensors)  # type: ignore[arg-type]
            best = _alone(model, folder, threads, seconds / 4)
            setting.tell(f"{model}: ONNX Runtime alone is best with {best['kind']}, {best['rows']} rows a batch")
            for one in inputs:
                rows = max(64, int(best["rows_per_s"] * seconds * one.share))
                one.write(folder / one.file, rows)
                alone, turns = [], []
                for _ in range(setting.rounds):
                    alone.append(_alone(model, folder, threads, seconds / 4, best))
                    turns.append(_predict(one, folder, threads, rows))
                    setting.tell(f"{one.name}: {turns[-1].rows_per_s:.0f} of {alone[-1]['rows_per_s']:.0f} rows/s")
                measured.append((one, best, alone, turns, rows))
    return _finding(measured, threads)


def _finding(
    measured: list[tuple[Input, dict[str, Any], list[dict[str, Any]], list[Turn], int]], threads: int
) -> Finding:
    bars, lines, raw = [], [], []
    for one, best, alone, turns, rows in measured:
        share = median(turn.rows_per_s / own["rows_per_s"] for turn, own in zip(turns, alone, strict=True))
        by_cpu = median(own["cpu_us"] / turn.cpu_us for turn, own in zip(turns, alone, strict=True))
        if one.is_promised:
            bars.append(
                Bar(
                    what=f"{one.model}, a whole file ({one.name})",
                    bar=f"{BAR:g} of what ONNX Runtime alone does at its best batch size",
                    aim=f"{AIM:g}",
                    measured=f"{share:.2f} of it ({by_cpu:.2f} by CPU time a row)",
                    is_met=share >= BAR,
                    is_aim_met=share >= AIM,
                )
            )
        lines.append(
            [
                one.model,
                one.name,
                f"{rows:,}",
                f"{median(turn.rows_per_s for turn in turns):,.0f}",
                f"{median(own['rows_per_s'] for own in alone):,.0f} ({best['rows']} rows a batch)",
                f"**{share:.2f}**",
                f"{by_cpu:.2f}",
                f"{max(turn.resident_mb for turn in turns):.0f}",
            ]
        )
        raw.append(
            {
                "input": one.name, "model": one.model, "rows": rows, "alone": alone,
                "turns": [asdict(turn) for turn in turns],
            }
        )  # fmt: skip
    head = ("model", "input", "rows", "rows/s", "ONNX Runtime alone", "share", "share by CPU time", "most MB resident")
    return Finding(
        title="Whole files without a server",
        bars=tuple(bars),
        table_markdown=_command.table(head, lines),
        notes=(
            f"`python -m app predict` from its start to the file under its final name, with {threads} threads; the "
            "start and the proof of the bundle are counted. ONNX Runtime alone runs the same rows, ready in memory as "
            "tensors in full batches (texts tokenized and sorted by length), on as many threads, in the better of one "
            "session with all threads and a session for each, with the number of rows a batch that does most; both in "
            "turn, and the share is the median of the turns' own. The pictures are the test set's first 512 over and "
            "over; the texts are of 5 to 300 tokens, evenly over the logarithm. All outputs are Parquet."
        ),
        raw={"threads": threads, "inputs": raw},
    )


def _by_model() -> dict[str, list[Input]]:
    found: dict[str, list[Input]] = {}
    for one in INPUTS:
        found.setdefault(one.model, []).append(one)
    return found


def _alone(
    model: str, folder: Path, threads: int, seconds: float, best: dict[str, Any] | None = None
) -> dict[str, Any]:  # fmt: skip
    bundle = newest(model)
    graph = next(a.path for a in manifest_of(bundle).artifacts if a.key == "onnx")
    words = [bundle / graph, folder / f"{model}.npz", threads, seconds]
    words += [] if best is None else [best["kind"], best["rows"]]
    command = [sys.executable, "-m", "benchmarks.scenarios._ort_alone", *map(str, words)]
    done = subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, text=True, timeout=_TIMEOUT_S)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _predict(one: Input, folder: Path, threads: int, rows: int) -> Turn:
    output = folder / "out.parquet"
    output.unlink(missing_ok=True)
    command = [
        sys.executable, "-m", "app", "predict", one.model, "--input", str(folder / one.file), "--output", str(output),
        "--threads", str(threads),
    ]  # fmt: skip
    environ = {name: value for name, value in os.environ.items() if not name.startswith("ZTO_")}
    environ |= {"ZTO_MODELS_DIR": str(MODELS_DIR), "ZTO_TUNING": "off"}
    started_at = time.perf_counter()
    process = subprocess.Popen(command, cwd=REPOSITORY, env=environ, stderr=subprocess.PIPE)
    assert process.stderr is not None
    peak_bytes = 0
    while not _has_ended(process.pid):
        peak_bytes = max(peak_bytes, processes.peak_bytes(process.pid))
        time.sleep(_POLL_S)
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started_at
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stderr.close()
    if process.returncode or pq.read_metadata(output).num_rows != rows:
        raise ValueError(f"{one.name}: not all rows were answered: {said.decode(errors='replace')}")
    return Turn(rows / seconds, _cpu_s(usage) / rows * 1e6, peak_bytes / 1e6)


def _has_ended(pid: int) -> bool:
    """Tell whether a child has ended; it is left to be waited for, with what it used."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _cpu_s(usage: resource.struct_rusage) -> float:
    return usage.ru_utime + usage.ru_stime


def pictures() -> Any:
    """Return the pictures, uint8 of shape (512, 28, 28)."""
    with np.load(_FIXTURE) as archive:
        return archive["images"]


def write_lists(path: Path, rows: int) -> None:
    """Write pictures as Parquet, each a list of 784 uint8 of fixed length."""
    _write_parquet(path, rows, lambda some: pa.FixedSizeListArray.from_arrays(pa.array(some.reshape(-1)), 784))


def write_bytes(path: Path, rows: int) -> None:
    """Write pictures as Parquet, each as 784 bytes."""
    _write_parquet(path, rows, lambda some: pa.array([each.tobytes() for each in some], pa.binary(784)))


def _write_parquet(path: Path, rows: int, column: Callable[[Any], pa.Array]) -> None:
    known = pictures()
    whole = pa.table({"image": column(known)})
    with pq.ParquetWriter(path, whole.schema) as writer:
        for start in range(0, rows, 16 * len(known)):
            many = pa.concat_tables([whole] * 16).slice(0, rows - start)
            writer.write_table(many.combine_chunks())


def write_json_lines(path: Path, rows: int) -> None:
    """Write pictures as JSON Lines."""
    known = [json.dumps({"image": each.tolist()}, separators=(",", ":")) for each in pictures()]
    with path.open("w") as file:
        file.writelines(known[row % len(known)] + "\n" for row in range(rows))


def write_pngs(path: Path, rows: int) -> None:
    """Write pictures as PNG files in one folder."""
    path.mkdir()
    known = pictures()
    for row in range(rows):
        Image.fromarray(known[row % len(known)]).save(path / f"{row:07}.png", "PNG")


def _texts() -> list[str]:
    return Texts(newest("transformer"), seed=SEED).log_uniform(TEXTS, least=LEAST_TOKENS, most=MOST_TOKENS)


def write_texts(path: Path, rows: int) -> None:
    """Write texts as Parquet."""
    known = _texts()
    pq.write_table(pa.table({"text": [known[row % len(known)] for row in range(rows)]}), path, row_group_size=8192)


def write_text_lines(path: Path, rows: int) -> None:
    """Write texts as JSON Lines."""
    known = [json.dumps({"text": text}) for text in _texts()]
    with path.open("w") as file:
        file.writelines(known[row % len(known)] + "\n" for row in range(rows))


def _picture_tensors() -> Tensors:
    return {"image": pictures().astype(np.float32)}


def _text_tensors() -> Tensors:
    folder = newest("transformer")
    manifest = manifest_of(folder)
    text = manifest.task.text  # type: ignore[union-attr]
    bundle = open_bundle(BundleRef(name=manifest.name, version=manifest.version, folder=folder))
    preparation = TextPreparation(bundle.read(text.tokenizer), text.max_chars, text.max_tokens)
    rows = [preparation.ids(each) for each in _texts()]
    lengths = np.array([len(row) for row in rows], np.int64)
    tokens = np.zeros((len(rows), lengths.max()), np.int64)
    for place, row in enumerate(rows):
        tokens[place, : len(row)] = row
    return {"tokens": tokens, LENGTHS: lengths}


_TENSORS: dict[str, Callable[[], Tensors]] = {"cnn": _picture_tensors, "transformer": _text_tensors}
INPUTS = (
    Input(name="Parquet, lists of uint8", model="cnn", file="lists.parquet", write=write_lists, is_promised=True),
    Input(name="Parquet, plain bytes", model="cnn", file="bytes.parquet", write=write_bytes),
    Input(name="JSON Lines", model="cnn", file="pictures.jsonl", write=write_json_lines),
    Input(name="a folder of PNG", model="cnn", file="pngs", write=write_pngs, share=0.1),
    Input(name="Parquet", model="transformer", file="texts.parquet", write=write_texts, is_promised=True),
    Input(name="JSON Lines", model="transformer", file="texts.jsonl", write=write_text_lines),
)

if __name__ == "__main__":
    sys.exit(_command.run(measure))
