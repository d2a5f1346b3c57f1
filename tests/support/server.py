"""A real service in a process of its own, on a free port of the loopback."""

import os
import re
import signal
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

import httpx

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0
_GRPC = re.compile(r"gRPC on (127\.0\.0\.1:\d+)")
_LISTENING = re.compile(r"Uvicorn running on (https?://127\.0\.0\.1:\d+)")
_OPERATORS = re.compile(r"operators ask on (https?://127\.0\.0\.1:\d+)")


@dataclass
class RunningService:
    """A started service: ``url`` answers, ``log()`` is what it has written so far."""

    process: subprocess.Popen[bytes]
    log_path: Path
    url: str = ""
    verify: ssl.SSLContext | bool = True

    @property
    def grpc_target(self) -> str:
        """Where gRPC answers, of a service with ``grpc_port=0``."""
        found = _GRPC.search(self.log())
        assert found is not None, self.log()
        return found[1]

    @property
    def admin_url(self) -> str:
        """Where operators ask, of a service with ``admin_port=0``."""
        found = _OPERATORS.search(self.log())
        assert found is not None, self.log()
        return found[1]

    def log(self) -> str:
        return self.log_path.read_text()

    def stop(self) -> int:
        """End it as an orchestrator does, and return its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_TIMEOUT_S)

    def workers(self) -> list[int]:
        """Return the ids of the processes that serve: the children of the parent, or itself where it has none."""
        parent = self.process.pid
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        return [int(child) for child in children] or [parent]

    @property
    def pid(self) -> int:
        """The id of the process that serves, of a service of one worker."""
        (pid,) = self.workers()
        return pid

    def rss_bytes(self) -> int:
        """Return the memory of the process that serves, of a service of one worker."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1]) * 1024

    @contextmanager
    def connections(self, count: int) -> Iterator[list[HTTPConnection]]:
        """Yield connections that are open: what is sent on them comes at once, however busy this machine is."""
        url = httpx.URL(self.url)
        with ExitStack() as stack:
            opened = [HTTPConnection(url.host, url.port, timeout=START_TIMEOUT_S) for _ in range(count)]
            for connection in opened:
                connection.connect()
                stack.callback(connection.close)
            yield opened

    def wait_until(self, wanted: int = 200) -> httpx.Response:
        """Ask /readyz until it answers with the status, and no model is on its way any more."""
        ends_at = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < ends_at:
            # several workers listen before any of them is there to answer
            response = httpx.get(f"{self.url}/readyz", verify=self.verify, timeout=START_TIMEOUT_S)
            states = {v["state"] for model in response.json()["models"].values() for v in model["versions"].values()}
            if response.status_code == wanted and not states & {"loading", "proving"}:
                return response
            time.sleep(0.02)
        raise TimeoutError(f"never {wanted} on /readyz:\n{self.log()}")


@contextmanager
def serve(
    models_dir: Path, *, ready: int | None = 200, verify: ssl.SSLContext | bool = True, **settings: object
) -> Iterator[RunningService]:
    """Start ``python -m app serve``, wait until /readyz answers ``ready``, and end it afterwards.

    Args:
        models_dir: The bundles.
        ready: The status to wait for; None to wait for the port alone.
        verify: Whom to trust, of a service with TLS.
        settings: ``max_body_bytes=...`` becomes ``ZTO_MAX_BODY_BYTES=...``.
    """
    with start({"ZTO_MODELS_DIR": str(models_dir)} | {f"ZTO_{k.upper()}": str(v) for k, v in settings.items()}) as run:
        ends_at = time.monotonic() + START_TIMEOUT_S
        while not (found := _LISTENING.search(run.log())):
            if run.process.poll() is not None or time.monotonic() > ends_at:
                raise RuntimeError(f"the service did not start:\n{run.log()}")
            time.sleep(0.02)
        run.url, run.verify = found[1], verify
        if ready is not None:
            run.wait_until(ready)
        yield run


COMMAND = (sys.executable, "-W", "error", "-m", "app", "serve")
# a free port, an end without waiting for a load balancer, a log that reads as its messages do, and no calls of the
# backend but those that a test makes
DEFAULTS = {"ZTO_PORT": "0", "ZTO_DRAIN_S": "0.1", "ZTO_LOG_FORMAT": "text", "ZTO_CANARY_S": "0"}


@contextmanager
def start(
    environ: Mapping[str, str], *, command: Sequence[str] = COMMAND, defaults: Mapping[str, str] = DEFAULTS
) -> Iterator[RunningService]:
    """Start ``python -m app serve`` with the given settings; wait for nothing.

    Args:
        environ: Beside what this process has, without its ``ZTO_`` names.
        command: Another one that serves.
        defaults: Settings where ``environ`` has none.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("ZTO_")}
    with tempfile.TemporaryDirectory() as folder:
        log_path = Path(folder) / "log"
        with log_path.open("wb") as log:
            process = subprocess.Popen(
                command,
                env=inherited | dict(defaults) | dict(environ),
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        running = RunningService(process=process, log_path=log_path)
        try:
            yield running
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(STOP_TIMEOUT_S)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
