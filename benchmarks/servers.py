"""What is measured, and how each is started: processes of its own, on a core of their own."""

import contextlib
import http.client
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks import calm, processes
from benchmarks.load import HOST
from benchmarks.pictures import REPOSITORY

SERVICE_NAME = "this service"
RAW_NAME = "this service, raw bytes"
FLOOR_NAME = "uvicorn that only reads"

START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 15.0
ASK_TIMEOUT_S = 30.0
_POLL_S = 0.002
_LISTENING = re.compile(r"Uvicorn running on http://127\.0\.0\.1:(\d+)")
_PORT = re.compile(r"\{port_?(\d?)\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """How a server is started.

    Attributes:
        name: In tables.
        arguments: Of the interpreter. ``{port}`` in them, or in the values of the environment, becomes a free port;
            without it the server has to choose one and to say so as uvicorn does.
        environ: Added to the environment.
        path: Where it predicts.
        ready_path: Answers 200 to a GET when it is ready; None where it is ready when it listens.
        executable: The interpreter; this one by default.
        peer: Name that all variants of one peer share; its own by default.
        variant: What is particular to it among them.
        door: How it is asked: a key of :data:`benchmarks.doors.DOORS`.
    """

    name: str
    arguments: tuple[str, ...]
    path: str
    environ: Mapping[str, str] = field(default_factory=dict)
    ready_path: str | None = None
    executable: str = sys.executable
    peer: str = ""
    variant: str = ""
    door: str = "instances"


def service(model: str, models_dir: Path, *, query: str = "", is_raw: bool = False) -> Server:
    """Return this service, with all the models of a folder; asked by JSON or by raw bytes."""
    return Server(
        name=RAW_NAME if is_raw else SERVICE_NAME,
        arguments=("-m", "app", "serve"),
        environ={"ZTO_MODELS_DIR": str(models_dir), "ZTO_PORT": "0", "ZTO_DRAIN_S": "0"},
        path=f"/predict/{model}{query}",
        ready_path="/readyz",
        door="raw" if is_raw else "instances",
    )


def floor_read() -> Server:
    """Return the server that only reads the body."""
    return Server(name=FLOOR_NAME, arguments=uvicorn("benchmarks.peers.floor_read:app"), path="/predict", door="none")


def uvicorn(*app: str) -> tuple[str, ...]:
    """Return the arguments that serve an app with uvicorn at its fastest."""
    return ("-m", "uvicorn", *app, "--port=0", "--loop=uvloop", "--http=httptools", "--ws=none", "--no-access-log")


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A server that is ready.

    Attributes:
        pid: Of its first process.
        port: Where it listens.
        ready_s: Seconds from its start until it was ready.
        started_at: When that was, by ``time.perf_counter``.
        ports: What ``{port}``, ``{port_1}`` and so on became.
    """

    pid: int
    port: int
    ready_s: float
    started_at: float = 0.0
    ports: tuple[int, ...] = ()

    def pids(self) -> list[int]:
        """Return all its processes."""
        return processes.tree(self.pid)

    def resident_bytes(self) -> int:
        """Return the memory of all its processes now; see :func:`benchmarks.processes.resident_bytes`."""
        return processes.resident_bytes(self.pids())

    def computed_s(self) -> float:
        """Return the seconds that all its processes have computed."""
        return processes.computed_s(self.pids())

    def ask(
        self, method: str, path: str, body: bytes | None = None, content_type: str = "application/json"
    ) -> tuple[int, bytes]:
        """Ask it once, over a connection of its own; return status and body."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=ASK_TIMEOUT_S)
        try:
            connection.request(method, path, body, {"Content-Type": content_type} if body else {})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()


@contextlib.contextmanager
def start(server: Server, core: int) -> Iterator[Running]:
    """Start a server on a core, wait until it is ready, and end it and all its processes afterwards.

    Raises:
        RuntimeError: It ended, or was not ready in time; the message holds what it wrote.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("ZTO_", "BENCH_"))}
    ports = free_ports(4)
    processes.adopt_orphans()

    def filled(text: str) -> str:
        return _PORT.sub(lambda found: str(ports[int(found[1] or 0)]), text)

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        log_path = Path(folder) / "log"
        with log_path.open("wb") as log, pinned(core):  # a child inherits the core
            started_at = time.perf_counter()
            process = subprocess.Popen(
                [server.executable, *map(filled, server.arguments)],
                cwd=REPOSITORY,
                env=inherited | {name: filled(value) for name, value in server.environ.items()},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # by which its processes are known, even those whose parent has ended
            )
        texts = (*server.arguments, *server.environ.values())
        port = ports[0] if any("{port}" in text for text in texts) else None
        try:
            yield replace(_when_ready(server, process, log_path, started_at, port), ports=tuple(ports))
        finally:
            _stop(process)


def _when_ready(
    server: Server, process: "subprocess.Popen[bytes]", log_path: Path, started_at: float, port: int | None
) -> Running:
    while process.poll() is None and time.perf_counter() - started_at < START_TIMEOUT_S:
        if port is None:
            listening = _LISTENING.search(log_path.read_text())
            port = int(listening[1]) if listening else None
        if port is not None:
            running = Running(pid=process.pid, port=port, ready_s=0, started_at=started_at)
            with contextlib.suppress(OSError, http.client.HTTPException):  # it does not listen yet
                if server.ready_path is None:
                    socket.create_connection((HOST, port), timeout=ASK_TIMEOUT_S).close()
                if server.ready_path is None or running.ask("GET", server.ready_path)[0] == 200:
                    return replace(running, ready_s=time.perf_counter() - started_at)
        time.sleep(_POLL_S)
    raise RuntimeError(f"{server.name} was not ready:\n{log_path.read_text(errors='replace')}")


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """Ask it to end; whatever of it is still there afterwards is killed."""
    pids = processes.tree(process.pid)
    expected_s = calm.waited_for_s() + processes.computed_s(pids)
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            pids += processes.tree(process.pid)
            process.kill()
            process.wait()
    processes.end({*pids, *processes.tree(process.pid)} - {process.pid}, STOP_TIMEOUT_S)
    calm.credit(max(0.0, expected_s - calm.waited_for_s()))


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on now, of those that the kernel gives to nobody by itself.

    One that it gave, it would soon give to another server that starts beside this one, or to a caller of one.
    """
    try:
        first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except OSError:  # not Linux
        first = 32_768
    found: list[int] = []
    with contextlib.ExitStack() as stack:
        while len(found) < count:
            one, port = stack.enter_context(socket.socket()), random.randrange(10_000, first)
            with contextlib.suppress(OSError):  # somebody listens there
                one.bind((HOST, port))
                found.append(port)
    return found


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
