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

from app.access.caller import own_tls
from app.bench.errors import BenchError
from app.bench.loops import Target
from app.settings import CALLERS_KEY

START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 10.0
_POLL_S = 0.02
_LISTENING = re.compile(r"running on (https?)://127\.0\.0\.1:(\d+)")


@contextlib.contextmanager
def start(model: str) -> Iterator[Target]:
    """Serve one model with the settings of the environment, but for address and port; yield where it listens.

    Where there are several cores, the last one is the load's, and the service has the others.

    Raises:
        BenchError: It does not come up; the message is what it says.
    """
    environ = {name: value for name, value in os.environ.items() if name != CALLERS_KEY} | {
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


def _when_ready(process: "subprocess.Popen[bytes]", log_path: Path) -> Target:
    ends_at = time.monotonic() + START_TIMEOUT_S
    answer = ""
    while process.poll() is None and time.monotonic() < ends_at:
        if listening := _LISTENING.search(log_path.read_text(errors="replace")):
            target = Target(port=int(listening[2]), tls=own_tls() if listening[1] == "https" else None)
            status, answer = _readiness(target)
            if status == 200:
                return target
            if '"failed"' in answer and '"loading"' not in answer and '"proving"' not in answer:
                break
        time.sleep(_POLL_S)
    lines = log_path.read_text(errors="replace").splitlines()
    said = [line for line in lines if " ERROR " in line or line.startswith("error: ")]
    raise BenchError("the service does not come up: " + ("; ".join(said[:3]) or answer or "it said nothing in time"))


def _readiness(target: Target) -> tuple[int, str]:
    connection = (
        http.client.HTTPSConnection(target.host, target.port, timeout=STOP_TIMEOUT_S, context=target.tls)
        if target.tls is not None
        else http.client.HTTPConnection(target.host, target.port, timeout=STOP_TIMEOUT_S)
    )
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
