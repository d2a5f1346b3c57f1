"""All trainings, several at a time, each in a process of its own."""

import argparse
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from training.commands._shared import OVERRIDES, say, say_json
from training.errors import TrainingError

VALUED = (*OVERRIDES, "threads", "device", "workers", "data_dir", "models_dir", "runs_dir")
FLAGS = ("fresh", "loader", "no_explanations", "tensorboard", "json")

# the longest first, so that the last one to run is a short one
_LONGEST_FIRST = ("cnn", "transformer", "lstm", "autoencoder", "mlp", "rnn")


def train_all(args: argparse.Namespace, names: list[str]) -> None:
    """Train every model, and tell which could not be.

    What each says goes to ``<runs-dir>/<name>/log.txt``.

    Raises:
        TrainingError: Some failed, and the others are written all the same; or this is one of several processes.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ and os.environ["WORLD_SIZE"] != "1":
        raise TrainingError("several processes train one network together; name it, or leave torchrun out")
    rank = {name: place for place, name in enumerate(_LONGEST_FIRST)}
    ordered = sorted(names, key=lambda name: (rank.get(name, len(rank)), name))
    jobs = args.jobs or max(1, (os.cpu_count() or 1) // args.threads)
    started_s = time.monotonic()
    with ThreadPoolExecutor(jobs) as pool:
        codes = list(pool.map(lambda name: _train_one(args, name), ordered))
    if not args.json:
        say(f"{codes.count(0)} of {len(codes)} models trained in {time.monotonic() - started_s:.0f} s")
    if failed := [name for name, code in zip(ordered, codes, strict=True) if code]:
        logs = ", ".join(str(_log(args.runs_dir, name)) for name in failed)
        raise TrainingError(f"not trained: {', '.join(failed)}; see {logs}")


def _train_one(args: argparse.Namespace, name: str) -> int:
    log = _log(args.runs_dir, name)
    log.parent.mkdir(parents=True, exist_ok=True)
    started_s = time.monotonic()
    with log.open("wb") as file:
        code = subprocess.run(  # noqa: S603
            [sys.executable, "-m", "training", "train", name, *_options(args)],
            stdout=file,
            stderr=subprocess.STDOUT,
            check=False,
        ).returncode
    duration_s = time.monotonic() - started_s
    last = (log.read_text(errors="replace").splitlines() or [""])[-1]
    if args.json:
        say_json({"model": name, "exit_code": code, "duration_s": round(duration_s, 3), "log": str(log)})
    else:
        say(f"{name}: {last} ({duration_s:.0f} s)")
    return code


def _options(args: argparse.Namespace) -> list[str]:
    given = [(name, getattr(args, name)) for name in VALUED]
    valued = [word for name, value in given if value is not None for word in (_option(name), str(value))]
    return [*valued, *(_option(name) for name in FLAGS if getattr(args, name))]


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _log(runs_dir: Path, name: str) -> Path:
    return runs_dir / name / "log.txt"
