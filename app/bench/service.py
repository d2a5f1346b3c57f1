"""A service of its own for a measurement: started on a free port, kept off the core of the load, ended afterwards."""

import contextlib
import http.client
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from app.bench.errors import BenchError

START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 10.0
_POLL_S = 0.02
_LISTENING = re.compile(r"running on https?://127\.0\.0\.1:(\d+)")


@contextlib.contextmanager
def start(model: str) -> Iterator[int]:
    """Serve one model with the settings of the environment, but for address and port; yield the port.

    Where there are several cores, the last one is the load's, and the service has the others.

    Raises:
        BenchError: It does not come up; the message is what it says.
    """
    environ = dict(os.environ) | {
        "ZTO_HOST": "127.0.0.1",
        "ZTO_PORT": "0",
        "ZTO_DRAIN_S": "0",
        "ZTO_REQUIRED_MODELS": model,
        "ZTO_LOG_LEVEL": "info",  # the line with the port is one
    }
    with tempfile.TemporaryDirectory() as folder:
        log_path = Path(folder) / "log"
        with log_path.open("wb") as log, apart():
            process = subprocess.Popen(
                [sys.executable, "-m", "app", "serve"], env=environ, stdout=log, stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C ends the measurement, and that ends the service
            )  # fmt: skip
        try:
            yield _when_ready(process, log_path)
        finally:
            _stop(process)


@contextlib.contextmanager
def apart() -> Iterator[None]:
    """Stay off the last core, and whatever is started meanwhile with it; then go to it, and stay there."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if len(cores) < 2:
        yield
        return
    os.sched_setaffinity(0, set(cores[:-1]))
    try:
        yield
    finally:
        os.sched_setaffinity(0, {cores[-1]})


def _when_ready(process: "subprocess.Popen[bytes]", log_path: Path) -> int:
    ends_at = time.monotonic() + START_TIMEOUT_S
    answer = ""
    while process.poll() is None and time.monotonic() < ends_at:
        if listening := _LISTENING.search(log_path.read_text(errors="replace")):
            port = int(listening[1])
            status, answer = _readiness(port)
            if status == 200:
                return port
            if '"failed"' in answer and '"loading"' not in answer and '"proving"' not in answer:
                break
        time.sleep(_POLL_S)
    lines = log_path.read_text(errors="replace").splitlines()
    said = [line for line in lines if " ERROR " in line or line.startswith("error: ")]
    raise BenchError("the service does not come up: " + ("; ".join(said[:3]) or answer or "it said nothing in time"))


def _readiness(port: int) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=STOP_TIMEOUT_S)
    try:
        connection.request("GET", "/readyz")
        response = connection.getresponse()
        return response.status, response.read().decode()
    except (OSError, http.client.HTTPException):
        return 0, ""
    finally:
        connection.close()


def _stop(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
