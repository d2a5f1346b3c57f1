"""What is measured, and how each is started: a process of its own, on a core of its own."""

import contextlib
import http.client
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from benchmarks.load import HOST
from benchmarks.pictures import REPOSITORY

SERVICE_NAME = "this service"
FASTAPI_NAMES = ("plain FastAPI, async def", "plain FastAPI, def")
FLOOR_NAME = "uvicorn that only reads"

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0
_POLL_S = 0.002
_LISTENING = re.compile(r"Uvicorn running on http://127\.0\.0\.1:(\d+)")
_CLOCK_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """How a server is started.

    Attributes:
        name: In tables.
        arguments: Of the interpreter.
        environ: Added to the environment.
        path: Where it predicts.
        ready_path: Answers 200 to a GET when it is ready; None where it is ready when it listens.
    """

    name: str
    arguments: tuple[str, ...]
    path: str
    environ: Mapping[str, str] = field(default_factory=dict)
    ready_path: str | None = None


def service(model: str, models_dir: Path) -> Server:
    """Return this service, with all the models of a folder."""
    return Server(
        name=SERVICE_NAME,
        arguments=("-m", "app", "serve"),
        environ={"ZTO_MODELS_DIR": str(models_dir), "ZTO_PORT": "0", "ZTO_DRAIN_S": "0"},
        path=f"/predict/{model}",
        ready_path="/readyz",
    )


def plain_fastapi(kind: Literal["async", "def"], bundle: Path) -> Server:
    """Return plain FastAPI with a route of one kind, ``async`` or ``def``."""
    return Server(
        name=FASTAPI_NAMES[kind == "def"],
        arguments=_uvicorn(f"benchmarks.peers.plain_fastapi:{kind}_app", "--factory"),
        # as the service does: ONNX Runtime's wheels report to their maker unless they are told not to
        environ={"BENCH_BUNDLE": str(bundle), "ORT_DISABLE_TELEMETRY": "1"},
        path="/predict",
    )


def floor_read() -> Server:
    """Return the server that only reads the body."""
    return Server(name=FLOOR_NAME, arguments=_uvicorn("benchmarks.peers.floor_read:app"), path="/predict")


def _uvicorn(*app: str) -> tuple[str, ...]:
    return ("-m", "uvicorn", *app, "--port=0", "--loop=uvloop", "--http=httptools", "--ws=none", "--no-access-log")


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A server that is ready.

    Attributes:
        pid: Of its process.
        port: Where it listens.
        ready_s: Seconds from its start until it was ready.
    """

    pid: int
    port: int
    ready_s: float

    def resident_bytes(self) -> int:
        """Return its resident memory now."""
        found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{self.pid}/status").read_text())
        assert found is not None
        return int(found[1]) * 1024

    def computed_s(self) -> float:
        """Return the seconds that its threads have computed, in the kernel's ticks."""
        after_name = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(after_name[11]) + int(after_name[12])) / _CLOCK_TICKS_PER_S  # utime, stime: proc(5)

    def ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        """Ask it once, over a connection of its own; return status and body."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=STOP_TIMEOUT_S)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()


@contextlib.contextmanager
def start(server: Server, core: int) -> Iterator[Running]:
    """Start a server on a core, wait until it is ready, and end it afterwards.

    Raises:
        RuntimeError: It ended, or was not ready in time; the message holds what it wrote.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("ZTO_")}
    with tempfile.TemporaryDirectory() as folder:
        log_path = Path(folder) / "log"
        with log_path.open("wb") as log, pinned(core):  # a child inherits the core
            started_at = time.perf_counter()
            process = subprocess.Popen(
                [sys.executable, *server.arguments],
                cwd=REPOSITORY,
                env=inherited | dict(server.environ),
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            yield _when_ready(server, process, log_path, started_at)
        finally:
            _stop(process)


def _when_ready(server: Server, process: "subprocess.Popen[bytes]", log_path: Path, started_at: float) -> Running:
    running: Running | None = None
    while process.poll() is None and time.perf_counter() - started_at < START_TIMEOUT_S:
        if running is None:
            listening = _LISTENING.search(log_path.read_text())
            running = Running(pid=process.pid, port=int(listening[1]), ready_s=0) if listening else None
        if running is not None and (not server.ready_path or running.ask("GET", server.ready_path)[0] == 200):
            return Running(pid=running.pid, port=running.port, ready_s=time.perf_counter() - started_at)
        time.sleep(_POLL_S)
    raise RuntimeError(f"{server.name} was not ready:\n{log_path.read_text()}")


def _stop(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def pinned(core: int) -> Iterator[None]:
    """Stay on one core, and whatever is started meanwhile with it; where the system cannot, stay where we are."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def two_cores() -> tuple[int, int]:
    """Return a core for the server and one for the load; where there is but one, it twice."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0, 1]
    return cores[0], cores[-1]
