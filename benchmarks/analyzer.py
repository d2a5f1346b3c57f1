"""NVIDIA's ``perf_analyzer``, the tool that Triton is measured with: how it is installed, run and read.

Its wheel is made for newer systems than many that serve, so where this one's libraries are too old for it, those of a
newer Debian release are put beside it, for it alone.
"""

import csv
import json
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from benchmarks import debian
from benchmarks.environments import FOLDER, INSTALL_TIMEOUT_S, NotInstalled, last_words

VERSION = "2.60.0"
# the wheel's: a glibc that is at least so new
PLATFORM = "manylinux_2_38"
HOME = FOLDER / "perf_analyzer"
_STAMP = "made-from"

Protocol = Literal["http", "grpc"]
# three windows have to agree within this, in percent: the rounds of a benchmark see to the rest
_STABILITY_PERCENT = 50
_MAX_WINDOWS = 10
_RUN_TIMEOUT_S = 120.0


class Failed(RuntimeError):
    """A run that did not come to its end; the message holds what the tool said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """What the tool says of one number of requests in flight.

    Attributes:
        requests_per_s: Its "Inferences/Second", with one row to a request.
        p50_ms: Latency that half of the requests did not exceed.
        p99_ms: Likewise, of 99 in 100.
    """

    requests_per_s: float
    p50_ms: float
    p99_ms: float


def is_made() -> bool:
    """Return whether the tool is there, of this version."""
    try:
        return (HOME / _STAMP).read_text() == _fingerprint()
    except FileNotFoundError:
        return False


def make() -> None:
    """Install the tool unless it is there.

    Raises:
        NotInstalled: There is no wheel for this machine, or no libraries that it runs with.
    """
    if is_made():
        return
    shutil.rmtree(HOME, ignore_errors=True)
    HOME.mkdir(parents=True)
    pip = [
        sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "--no-deps",
        "--only-binary=:all:", f"--platform={PLATFORM}_{platform.machine()}", f"--target={HOME / 'wheel'}",
        f"perf-analyzer=={VERSION}",
    ]  # fmt: skip
    try:
        subprocess.run(pip, check=True, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S)
    except subprocess.CalledProcessError as exc:
        raise NotInstalled(last_words(exc.stderr, "pip")) from exc
    except subprocess.TimeoutExpired as exc:
        raise NotInstalled(f"pip was not done after {INSTALL_TIMEOUT_S:.0f} s") from exc
    if not _runs():
        debian.fetch(HOME / "libraries")
        if not _runs():
            raise NotInstalled(f"it does not run, neither here nor with the libraries of Debian {debian.RELEASE}")
    (HOME / _STAMP).write_text(_fingerprint())


def command() -> tuple[str, ...]:
    """Return how the installed tool is started."""
    program = str(HOME / "wheel" / "perf_analyzer" / "bin" / "perf_analyzer")
    libraries = HOME / "libraries"
    return (*debian.launcher(libraries), program) if libraries.is_dir() else (program,)


def run(
    address: str,
    protocol: Protocol,
    model: str,
    *,
    clients: int,
    data: Path,
    window_ms: int,
    json_tensors: bool = False,
) -> Level:
    """Put a server under a closed loop of so many requests in flight, each of one row, to the tool's own end.

    Args:
        address: Host and port.
        protocol: Of the two that the Open Inference Protocol has.
        model: Its name there.
        clients: Requests in flight.
        data: What is sent, as :func:`write_data` writes it.
        window_ms: The tool counts over windows of this length until three agree.
        json_tensors: Over HTTP, numbers in the JSON instead of bytes behind it.

    Raises:
        Failed: The server refused something, or the tool gave up.
    """
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.csv"
        arguments = [
            "-m", model, "-u", address, "-i", protocol, "--async", "--input-data", str(data),
            "--concurrency-range", str(clients), "--measurement-interval", str(window_ms),
            "--stability-percentage", str(_STABILITY_PERCENT), "--max-trials", str(_MAX_WINDOWS), "-f", str(report),
        ]  # fmt: skip
        if json_tensors:
            arguments += ["--input-tensor-format", "json", "--output-tensor-format", "json"]
        try:
            done = subprocess.run([*command(), *arguments], capture_output=True, text=True, timeout=_RUN_TIMEOUT_S)
        except subprocess.TimeoutExpired as exc:
            raise Failed(f"it was not done after {_RUN_TIMEOUT_S:.0f} s") from exc
        if done.returncode != 0 or not report.exists():
            raise Failed(_complaint(done.stderr) or f"it ended with status {done.returncode}")
        return read_report(report.read_text(), clients)


def read_report(text: str, clients: int) -> Level:
    """Return what a report says of so many requests in flight.

    Raises:
        Failed: Nothing, or not what is looked for.
    """
    try:
        (row,) = [row for row in csv.DictReader(text.splitlines()) if row["Concurrency"] == str(clients)]
        return Level(
            requests_per_s=float(row["Inferences/Second"]),
            p50_ms=float(row["p50 latency"]) / 1e3,
            p99_ms=float(row["p99 latency"]) / 1e3,
        )
    except (KeyError, ValueError) as exc:
        raise Failed(f"its report says nothing of {clients} requests in flight: {text[:200]!r}") from exc


def write_data(path: Path, rows: Sequence[Mapping[str, tuple[Sequence[int], Sequence[Any]]]]) -> None:
    """Write what the tool shall send, one row to a request, in turn.

    Args:
        path: Of the file.
        rows: For each the shape, without the batch, and the elements of every input by its name. Elements of FP32
            have to be floats, or the tool refuses them.
    """
    data = [
        {name: {"shape": list(shape), "content": list(content)} for name, (shape, content) in row.items()}
        for row in rows
    ]
    path.write_text(json.dumps({"data": data}))


def _runs() -> bool:
    try:
        return subprocess.run([*command(), "--version"], capture_output=True, timeout=_RUN_TIMEOUT_S).returncode == 0
    except OSError:  # not a program of this processor
        return False


def _complaint(stderr: str) -> str:
    """Return what the tool complains of in one line, without paths of this machine."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    return re.sub(r"/\S+/", ".../", "; ".join(lines))[:300]


def _fingerprint() -> str:
    """Return what the tool is made from; a change makes it anew."""
    return "\n".join([VERSION, PLATFORM, platform.platform(), debian.RELEASE, *debian.PACKAGES])
